"""Stop means stop, over real HTTP on both sides: where a run can be, and who is asked to stop.

The service is a process of its own; upstream, reader and the one who presses Stop live in the
test's. Each case is repeated at random instants. In every case the closing sequence is the
contract's and nothing else, the connections of the model calls are closed, none is opened later,
and what was said is kept. Latencies are printed, not asserted, but for five times their promise.
"""

from __future__ import annotations

import json
import os
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import median, quantiles

import anyio
import pytest

from tests import laws
from tests.cancellation.bench import TEAMS, Bench, bench, reading
from tests.cancellation.cases import CASES, RETRY_WAIT, WAIT_S, WORDS, Case, one_of_two
from tests.figures import FIGURES
from tests.service import Watcher
from tests.upstream import Exchange, Fail, Hold, Json, Plan, Say, results_of

pytestmark = pytest.mark.anyio

DEFAULT_REPEATS = 17
REPEATS = int(os.environ.get("CANCELLATION_REPEATS", str(DEFAULT_REPEATS)))
MAIN_MODEL = "openai:test"
SPOKEN = {MAIN_MODEL: REPEATS, "chat:test": max(1, REPEATS // 4)}
"""The model, by the API that is spoken to it, and how often each case is repeated there."""

PROMISED_INSTANTS = 500
"""On the main model, at the default repeats."""

SPREAD_S = 0.03
PROMISED_CLOSE_S, PROMISED_END_S = 0.020, 0.030
"""Aims for the 99th percentile on an idle machine; five times them is asserted of the median."""

ENDLESS = {"MAX_TURNS": "1000", "MAX_TOOL_CALLS": "1000", "MAX_SYNC_TOOLS": "10000"}
"""However late Stop is pressed, a run between turns has not come to its last one; and there is room
for all the threads that are left behind."""

TEAM = [pytest.param(case, id=case.name) for case in CASES]
MEMBER = [pytest.param(case, id=case.name) for case in CASES if case.members]


@dataclass
class Latencies:
    """Seconds from the moment DELETE was sent; `ended` by model, one for each instant."""

    closed: list[float] = field(default_factory=list)
    ended: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def all_ended(self) -> list[float]:
        return [*chain.from_iterable(self.ended.values())]

    def told(self) -> str:
        return "; ".join(
            f"{name} p50 {median(of) * 1000:.1f} p99 {quantiles(of, n=100)[98] * 1000:.1f}"
            f" (aim, idle: {aim * 1000:.0f}) max {max(of) * 1000:.1f} ms (n={len(of)})"
            for name, of, aim in (
                ("upstream closed", self.closed, PROMISED_CLOSE_S),
                ("final event", self.all_ended, PROMISED_END_S),
            )
            if len(of) > 1
        )


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=SPOKEN)
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with bench(request.param, TEAMS_FILE=TEAMS, **ENDLESS) as made:
        yield made


@pytest.fixture(scope="module")
def latencies() -> Latencies:
    return Latencies()


async def is_there(stand: Bench, watcher: Watcher, case: Case, before: int) -> None:
    """Wait until the run is where the case wants it, and a random moment longer."""
    await stand.upstream.arrived(before + case.calls)
    for text in case.there:
        await watcher.until(text, max(1, case.members))
    await anyio.sleep(random.uniform(0, SPREAD_S))  # noqa: S311 - the instant is the case


async def all_closed(exchanges: Sequence[Exchange], pressed: float, into: list[float]) -> None:
    for exchange in exchanges:
        if not exchange.is_complete:
            await exchange.over()
            if exchange.closed_at is not None:
                into.append(exchange.closed_at - pressed)
        assert exchange.is_over


MEMBER_CLOSINGS = {"ToolCallCompleted", "RunCancelled"}
CLOSINGS = {*MEMBER_CLOSINGS, "TeamToolCallCompleted", "TeamRunCancelled"}


@pytest.mark.parametrize("case", TEAM)
async def test_a_team_run_stops_wherever_it_is(
    stand: Bench, case: Case, latencies: Latencies
) -> None:
    stand.upstream.script = case.script
    for _ in range(SPOKEN[stand.model]):
        before = len(stand.upstream.exchanges)
        async with stand.marked_run(team=case.team) as (run_id, watcher):
            await is_there(stand, watcher, case, before)
            pressed, _ = await stand.delete(run_id)
            await watcher.over()
            latencies.ended[stand.model].append(watcher.arrived_at[-1] - pressed)
            calls = stand.upstream.exchanges[before:]
            await all_closed(calls, pressed, latencies.closed)
        _check_team_log(watcher.events)
        told = watcher.events[-1]["usage"]
        assert told["estimated"] or all(call.is_complete for call in calls)
        run = await stand.get(run_id)
        assert (run["status"], run["cancel"]["reason"]) == ("cancelled", "enough")
        assert run["content"] == watcher.events[-1]["content"]
        assert len(stand.upstream.exchanges) == before + len(calls), "a call was made later"


def _check_team_log(events: list[laws.LogEvent]) -> None:
    laws.check(events)
    names = [event["event"] for event in events]
    asked = names.index("TeamRunCancelRequested")
    assert set(names[asked + 1 :]) <= CLOSINGS
    assert names[-1] == "TeamRunCancelled"
    assert events[-1]["reason"] == "enough"


@pytest.mark.parametrize("case", MEMBER)
async def test_a_member_stops_wherever_it_is_and_the_team_goes_on(
    stand: Bench, case: Case, latencies: Latencies
) -> None:
    stand.upstream.script = case.script
    for _ in range(SPOKEN[stand.model]):
        before = len(stand.upstream.exchanges)
        async with stand.marked_run(team=case.team) as (run_id, watcher):
            await is_there(stand, watcher, case, before)
            members = _members(watcher)
            for member_id in members:
                pressed, member = await stand.delete(member_id)
                assert (member["run_id"], member["parent_run_id"]) == (member_id, run_id)
                await watcher.until("event: RunCancelled", members.index(member_id) + 1)
                latencies.ended[stand.model].append(watcher.arrived_at[-1] - pressed)
            await watcher.over()
            calls = stand.upstream.exchanges[before:]
            await all_closed(calls, pressed, latencies.closed if len(members) == 1 else [])
        events = watcher.events
        laws.check(events)
        assert events[-1]["event"] == "TeamRunCompleted"
        for member_id in members:
            _check_stopped(events, member_id, calls[-1].body)


def _members(watcher: Watcher) -> list[str]:
    return [event["run_id"] for event in watcher.events if event["event"] == "RunStarted"]


def _check_stopped(events: list[laws.LogEvent], member_id: str, last_call: Json) -> None:
    own = [event for event in events if event["run_id"] == member_id]
    names = [event["event"] for event in own]
    assert set(names[names.index("RunCancelRequested") + 1 :]) <= MEMBER_CLOSINGS
    assert names[-1] == "RunCancelled"
    told = _result(last_call, member_id)
    assert (told["status"], told["content"]) == ("cancelled", own[-1]["content"])


def _result(last_call: Json, member_id: str) -> Json:
    """Return what the leader read of a member."""
    results = [json.loads(result) for result in results_of(last_call)]
    of_members = chain.from_iterable(
        result if isinstance(result, list) else [result] for result in results
    )
    told: Json
    (told,) = [result for result in of_members if result["run_id"] == member_id]
    return told


async def test_of_two_members_one_stops_and_the_other_completes(
    stand: Bench, latencies: Latencies
) -> None:
    for _ in range(SPOKEN[stand.model]):
        before = len(stand.upstream.exchanges)
        case = one_of_two(rest := Hold())
        stand.upstream.script = case.script
        async with stand.marked_run() as (_, watcher):
            await is_there(stand, watcher, case, before)
            stopped, other = random.sample(_members(watcher), 2)
            pressed, _ = await stand.delete(stopped)
            await watcher.until("event: RunCancelled")
            latencies.ended[stand.model].append(watcher.arrived_at[-1] - pressed)
            rest.release()
            await watcher.over()
            calls = stand.upstream.exchanges[before:]
            await all_closed(calls, pressed, latencies.closed)
        laws.check(watcher.events)
        assert watcher.events[-1]["event"] == "TeamRunCompleted"
        _check_stopped(watcher.events, stopped, calls[-1].body)
        told = _result(calls[-1].body, other)
        assert (told["status"], told["content"]) == (
            "completed",
            "".join([*WORDS[:20], "The end."]),
        )
        assert sorted(call.is_complete for call in calls) == [False, True, True, True]


async def test_no_call_is_made_once_its_run_is_over(stand: Bench) -> None:
    """A retry that outlived its run would come before the one of the last run, which is let be."""
    stand.upstream.script = RETRY_WAIT.script
    for _ in range(2):
        before = len(stand.upstream.exchanges)
        async with stand.marked_run() as (run_id, watcher):
            await is_there(stand, watcher, RETRY_WAIT, before)
            await stand.delete(run_id)
    refused = len(stand.upstream.exchanges) + 1

    def refuse_once(_: Json, number: int) -> Plan:
        later = {"Retry-After": str(WAIT_S)}
        return [Fail(503, headers=later)] if number == refused else [Say("So.")]

    stand.upstream.script = refuse_once
    async with stand.marked_run() as (_, watcher):
        await watcher.over()
    assert "TeamModelRetry" in [event["event"] for event in watcher.events]
    assert watcher.events[-1]["event"] == "TeamRunCompleted"
    assert stand.late_calls() == []


async def test_a_pending_run_stops_without_any_call(latencies: Latencies) -> None:
    async with bench(MAX_RUNNING_RUNS="1") as stand:
        stand.upstream.script = CASES[0].script
        first = await stand.start()
        await stand.upstream.arrived(1)
        for _ in range(REPEATS):
            run_id = await stand.start()
            async with reading(stand.client, run_id) as watcher:
                await anyio.sleep(random.uniform(0, SPREAD_S))  # noqa: S311 - the instant is the case
                pressed, _ = await stand.delete(run_id)
                await watcher.over()
                latencies.ended[stand.model].append(watcher.arrived_at[-1] - pressed)
            names = [event["event"] for event in watcher.events]
            assert names == ["TeamRunCancelRequested", "TeamRunCancelled"]
        await stand.delete(first)
        assert len(stand.upstream.exchanges) == 1


def test_the_promise_holds(latencies: Latencies) -> None:
    instants = len(latencies.ended[MAIN_MODEL])
    FIGURES.append(f"DELETE at {instants} instants ({MAIN_MODEL}) to: {latencies.told()}")
    assert instants >= PROMISED_INSTANTS * REPEATS // DEFAULT_REPEATS
    assert median(latencies.closed) < 5 * PROMISED_CLOSE_S
    assert median(latencies.all_ended) < 5 * PROMISED_END_S
