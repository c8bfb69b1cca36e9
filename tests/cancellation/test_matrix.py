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
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

import anyio
import pytest

from tests import laws
from tests.cancellation.bench import Bench, bench, reading
from tests.cancellation.cases import CASES, Case
from tests.figures import FIGURES
from tests.service import Watcher
from tests.upstream import Exchange, Json, results_of

pytestmark = pytest.mark.anyio

REPEATS = int(os.environ.get("CANCELLATION_REPEATS", "32"))
SPOKEN = {"openai:test": REPEATS, "chat:test": max(1, REPEATS // 4)}
"""The model, by the API that is spoken to it, and how often each case is repeated there."""

SPREAD_S = 0.03
PROMISED_CLOSE_S, PROMISED_END_S = 0.020, 0.030
"""Aims for the 99th percentile on an idle machine; five times them is asserted of the median."""


TEAM = [pytest.param(case, id=case.name) for case in CASES]
MEMBER = [pytest.param(case, id=case.name) for case in CASES if case.members]


@dataclass
class Latencies:
    """Seconds from the moment DELETE was sent."""

    closed: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    def told(self) -> str:
        return "; ".join(
            f"{name} p50 {median(of) * 1000:.1f} p99 {quantiles(of, n=100)[98] * 1000:.1f}"
            f" max {max(of) * 1000:.1f} ms (n={len(of)})"
            for name, of in (("upstream closed", self.closed), ("final event", self.ended))
            if len(of) > 1
        )


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=SPOKEN)
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with bench(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def latencies() -> Latencies:
    return Latencies()


async def is_there(stand: Bench, watcher: Watcher, case: Case, before: int) -> list[Exchange]:
    """Wait until the run is where the case wants it, and a random moment longer."""
    calls = [await stand.upstream.arrived(before + n) for n in range(1, case.calls + 1)]
    for text in case.there:
        await watcher.until(text, max(1, case.members))
    await anyio.sleep(random.uniform(0, SPREAD_S))  # noqa: S311 - the instant is the case
    return calls


async def all_closed(exchanges: Sequence[Exchange], pressed: float, into: list[float]) -> None:
    for exchange in exchanges:
        if not exchange.is_complete:
            await exchange.over()
            if exchange.closed_at is not None:
                into.append(exchange.closed_at - pressed)
        assert exchange.is_over


CLOSINGS = {"RunCancelled", "TeamToolCallCompleted", "TeamRunCancelled"}


@pytest.mark.parametrize("case", TEAM)
async def test_a_team_run_stops_wherever_it_is(
    stand: Bench, case: Case, latencies: Latencies
) -> None:
    stand.upstream.script = case.script
    for _ in range(SPOKEN[stand.model]):
        before = len(stand.upstream.exchanges)
        run_id = await stand.start()
        async with reading(stand.client, run_id) as watcher:
            await is_there(stand, watcher, case, before)
            pressed, _ = await stand.delete(run_id)
            await watcher.over()
            latencies.ended.append(watcher.arrived_at[-1] - pressed)
            calls = stand.upstream.exchanges[before:]
            await all_closed(calls, pressed, latencies.closed)
        _check_team_log(watcher.events)
        told = watcher.events[-1]["usage"]
        assert told["estimated"] or all(call.is_complete for call in calls)
        run = (await stand.client.get(f"/runs/{run_id}")).json()
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
        run_id = await stand.start()
        async with reading(stand.client, run_id) as watcher:
            calls = await is_there(stand, watcher, case, before)
            members = [e["run_id"] for e in watcher.events if e["event"] == "RunStarted"]
            for member_id in members:
                pressed, member = await stand.delete(member_id)
                assert (member["run_id"], member["parent_run_id"]) == (member_id, run_id)
                await watcher.until("event: RunCancelled", members.index(member_id) + 1)
                latencies.ended.append(watcher.arrived_at[-1] - pressed)
            await watcher.over()
            await all_closed(calls, pressed, latencies.closed if len(members) == 1 else [])
        events = watcher.events
        laws.check(events)
        assert events[-1]["event"] == "TeamRunCompleted"
        for member_id in members:
            _check_member(events, member_id, stand.upstream.exchanges[-1].body)


def _check_member(events: list[laws.LogEvent], member_id: str, last_call: Json) -> None:
    own = [event for event in events if event["run_id"] == member_id]
    assert [event["event"] for event in own[-2:]] == ["RunCancelRequested", "RunCancelled"]
    results = [json.loads(result) for result in results_of(last_call)]
    (told,) = [result for result in results if result["run_id"] == member_id]
    assert (told["status"], told["content"]) == ("cancelled", own[-1]["content"])


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
                latencies.ended.append(watcher.arrived_at[-1] - pressed)
            names = [event["event"] for event in watcher.events]
            assert names == ["TeamRunCancelRequested", "TeamRunCancelled"]
        await stand.delete(first)
        assert len(stand.upstream.exchanges) == 1


def test_the_promise_holds(latencies: Latencies) -> None:
    FIGURES.append(f"DELETE to: {latencies.told()}")
    assert median(latencies.closed) < 5 * PROMISED_CLOSE_S
    assert median(latencies.ended) < 5 * PROMISED_END_S
