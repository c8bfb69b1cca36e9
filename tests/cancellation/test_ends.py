"""How runs end that get no whole answer, over real HTTP: out of time, and at what cost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tests import laws
from tests.cancellation.bench import TEAMS, Bench, bench
from tests.cancellation.cases import Case, delegate_once
from tests.upstream import Exchange, Fail, Hold, Json, Plan, Say, instructions_of

pytestmark = pytest.mark.anyio

WAIT_S = 0.8
"""A Retry-After above every first backoff, so that it is the wait."""

TEXTS = ("Größe ", "日本語 ", "🐉 ")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def stand() -> AsyncIterator[Bench]:
    async with bench(TEAMS_FILE=TEAMS) as made:
        yield made


def refuse() -> Plan:
    return [Fail(503, headers={"Retry-After": str(WAIT_S)})]


def speak() -> Plan:
    return [Say(*TEXTS), Hold()]


# --- the deadline ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "retry", "calls"),
    [
        (Case("leader", lambda _: refuse()), "TeamModelRetry", 1),
        (Case("member", delegate_once("editor"), refuse), "ModelRetry", 2),
    ],
    ids=lambda value: value.name if isinstance(value, Case) else "",
)
async def test_a_deadline_within_a_retrys_wait_ends_the_run_and_no_request_follows(
    stand: Bench, case: Case, retry: str, calls: int
) -> None:
    """A request that followed would come before the one of a run that is refused later."""
    stand.upstream.script = case.script
    before = len(stand.upstream.exchanges)
    async with stand.marked_run(timeout_s=WAIT_S / 2) as (run_id, watcher):
        await watcher.over()
    laws.check(watcher.events)
    assert retry in [event["event"] for event in watcher.events]
    errors = [event for event in watcher.events if event["event"].endswith("RunError")]
    assert {event["error"]["code"] for event in errors} == {"deadline_exceeded"}
    assert len(errors) == calls  # the leader's, and the member's where it has one
    assert (await stand.get(run_id))["error"]["code"] == "deadline_exceeded"
    assert len(stand.upstream.exchanges) == before + calls
    await _wait_as_long_in_another_run(stand)
    assert stand.late_calls() == []


async def _wait_as_long_in_another_run(stand: Bench) -> None:
    refused = len(stand.upstream.exchanges) + 1

    def refuse_once(_: Json, number: int) -> Plan:
        return refuse() if number == refused else [Say("So.")]

    stand.upstream.script = refuse_once
    async with stand.marked_run() as (_, watcher):
        await watcher.over()
    assert watcher.events[-1]["event"] == "TeamRunCompleted"


# --- the cost -------------------------------------------------------------------------------------


def estimate(call: Exchange, run: Json) -> Json:
    """Count the bytes of what was sent with a call and heard of its reply, four to a token."""
    sent = len((instructions_of(call.body) + run["input"]).encode()) // 4
    heard = len("".join(TEXTS).encode()) // 4
    return {
        "input_tokens": sent,
        "output_tokens": heard,
        "total_tokens": sent + heard,
        "estimated": True,
    }


async def stop_in_mid_text(stand: Bench, case: Case) -> tuple[Json, Exchange]:
    """Cancel a run when all is said but the end; return it and its last call."""
    stand.upstream.script = case.script
    async with stand.marked_run("Erzähl von 日本 und 🐉.") as (run_id, watcher):
        for text in TEXTS:
            await watcher.until(json.dumps(text))
        await stand.delete(run_id)
        await watcher.over()
    run = await stand.get(run_id)
    assert (run["status"], run["usage"]) == ("cancelled", watcher.events[-1]["usage"])
    return run, stand.upstream.exchanges[-1]


async def test_a_cancelled_runs_cost_is_estimated_by_the_bytes_sent_and_heard(stand: Bench) -> None:
    run, call = await stop_in_mid_text(stand, Case("leader", lambda _: speak()))
    assert run["content"] == "".join(TEXTS)
    assert run["usage"] == estimate(call, run)


async def test_what_a_member_cost_by_estimate_is_added_to_what_the_leader_cost_by_report(
    stand: Bench,
) -> None:
    run, call = await stop_in_mid_text(stand, Case("member", delegate_once("editor"), speak))
    (member,) = run["members"]
    assert member["usage"] == estimate(call, run)
    leader_call = stand.upstream.exchanges[-2].body
    reported = {"input_tokens": len(json.dumps(leader_call)) // 4, "output_tokens": 1}
    reported["total_tokens"] = sum(reported.values())
    total = {name: member["usage"][name] + count for name, count in reported.items()}
    assert run["usage"] == {**total, "estimated": True}
