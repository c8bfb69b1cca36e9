"""Cancel and completion at the same instant: one of them, in log, status and HTTP answer alike.

Over real HTTP on both sides. The model's last words are held back until a moment that is known,
and DELETE is sent some milliseconds before or after it. Who wins is chance, and both must happen;
that all who tell of it tell the same is not.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import httpx
import pytest

from tests import laws
from tests.cancellation.bench import Bench, bench
from tests.cancellation.cases import Case, delegate_once
from tests.figures import FIGURES
from tests.upstream import Hold, Json, Plan, Say, in_turn, results_of

pytestmark = pytest.mark.anyio

TEAM_RACES, MEMBER_RACES = 200, 100
WINDOW_S = 0.003
"""DELETE is sent at most so long before or after the model's last words."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def stand() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


def words(rest: Hold) -> Plan:
    return [Say("Once"), rest, Say(" upon a time.")]


async def until(moment: float) -> None:
    """Wait without a timer, which would come a millisecond late."""
    while asyncio.get_running_loop().time() < moment:  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(0)


async def race(stand: Bench, run_id: str, rest: Hold) -> httpx.Response:
    """Let the model end and press Stop, in this order or in the other; return the answer."""
    ends_at = asyncio.get_running_loop().time() + WINDOW_S

    async def end() -> None:
        await until(ends_at)
        rest.release()

    async with anyio.create_task_group() as group:
        group.start_soon(end)
        await until(ends_at + random.uniform(-WINDOW_S, WINDOW_S))  # noqa: S311 - the race
        answer = await stand.client.delete(f"/runs/{run_id}")
    return answer  # noqa: RET504 - for all mypy knows, the group swallows what is raised in it


async def outcome(
    stand: Bench, answer: httpx.Response, run_id: str, events: list[laws.LogEvent]
) -> str:
    """Check that the answer, the run as GET tells it and its log agree; return on what."""
    told, run = answer.json(), await stand.get(run_id)
    own = [event for event in events if event["run_id"] == run_id]
    if answer.status_code == 409:
        assert (told["code"], told["run"], run["status"]) == ("run_finished", run, "completed")
    else:
        assert (answer.status_code, told["status"]) in ((202, "cancelling"), (200, "cancelled"))
        assert (run["status"], run["cancel"]["by"]) == ("cancelled", "request")
    final, is_asked = own[-1], any(event["event"].endswith("Requested") for event in own)
    assert final["event"].endswith(f"Run{run['status'].title()}")
    assert is_asked == (run["status"] == "cancelled")
    assert (final["content"], final["usage"]) == (run["content"], run["usage"])
    again = await stand.client.delete(f"/runs/{run_id}")
    assert again.status_code == (409 if answer.status_code == 409 else 200), again.text
    return str(run["status"])


async def test_a_team_run_is_either_cancelled_or_completed(stand: Bench) -> None:
    ended: Counter[str] = Counter()
    for _ in range(TEAM_RACES):
        stand.upstream.script = in_turn(words(rest := Hold()))
        async with stand.marked_run() as (run_id, watcher):
            await watcher.until("TeamRunContent")
            answer = await race(stand, run_id, rest)
            await watcher.over()
        laws.check(watcher.events)
        ended[await outcome(stand, answer, run_id, watcher.events)] += 1
    _told("team", ended)


async def test_a_member_run_is_either_cancelled_or_completed(stand: Bench) -> None:
    ended: Counter[str] = Counter()
    for _ in range(MEMBER_RACES):
        stand.upstream.script = Case(
            "member", delegate_once("editor"), partial(words, rest := Hold())
        ).script
        async with stand.marked_run() as (_, watcher):
            await watcher.until("event: RunContent")
            (member_id,) = (e["run_id"] for e in watcher.events if e["event"] == "RunStarted")
            answer = await race(stand, member_id, rest)
            await watcher.over()
        laws.check(watcher.events)
        assert watcher.events[-1]["event"] == "TeamRunCompleted"
        ended[await outcome(stand, answer, member_id, watcher.events)] += 1
        _check_what_the_leader_read(stand, await stand.get(member_id))
    _told("member", ended)


def _check_what_the_leader_read(stand: Bench, member: Json) -> None:
    (result,) = results_of(stand.upstream.exchanges[-1].body)
    told: dict[str, Any] = json.loads(result)
    assert told == {key: member[key] for key in told}


def _told(whose: str, ended: Counter[str]) -> None:
    FIGURES.append(f"DELETE in a race with the end of a {whose} run: {dict(ended)}")
    assert min(ended["cancelled"], ended["completed"]) > 0, "there was no race"
