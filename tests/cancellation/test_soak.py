"""Runs cancelled at random instants leave nothing behind: no task, socket, descriptor, pool slot.

A tenth of the thousand by default; all of them with

    SOAK=full pytest tests/cancellation/test_soak.py

First the service as a process, with limits so small that a place which is not given back is missed
soon. Its memory store is small too, so that it is full long before the end and memory can be level.
Then the runner in this process, where tasks can be counted.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import pytest

from app.models.openai import OpenAIProvider
from app.models.retrying import RetryingModel
from app.runtime.agent import Agent
from app.runtime.clock import SystemClock
from app.runtime.delegation import Member
from app.runtime.orders import Order
from app.runtime.runner import Load, Runner
from app.runtime.team import Team
from app.stores.memory import MemoryStore
from tests import laws
from tests.cancellation.bench import Bench, bench, reading
from tests.cancellation.mixed import Mixed
from tests.cancellation.process import Footprint, footprint
from tests.figures import FIGURES
from tests.upstream import Hold, Say, Upstream, in_turn

pytestmark = pytest.mark.anyio

RUNS = 1000 if os.environ.get("SOAK") == "full" else 100
AT_ONCE = 20
PLACES = 16
SETTINGS = {
    "STORE_URL": "memory:",
    "MEMORY_STORE_BYTES": "1000000",
    "MAX_RUNNING_RUNS": str(PLACES),
    "MAX_PENDING_RUNS": str(AT_ONCE - PLACES),
    "MAX_READERS": str(3 * AT_ONCE),
}
SLOTS = 8
SEED = 11
GROWTH_KIB = 3072 + 2 * RUNS
"""What the second half may add to the resident memory; a leak of 10 KiB a run shows in a thousand,
one of 70 KiB in a hundred."""
SETTLING_S = 10
FINAL = {
    "TeamRunCompleted": "completed",
    "TeamRunCancelled": "cancelled",
    "TeamRunError": "error",
}


async def many(count: int, act: Callable[[], Awaitable[None]]) -> None:
    """Do something so many times, `AT_ONCE` of them side by side."""
    places = anyio.CapacityLimiter(AT_ONCE)

    async def one() -> None:
        async with places:
            await act()

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(one)


async def until(holds: Callable[[], bool]) -> None:
    """Look again and again, for a while: neither `/proc` nor a set of tasks tells of its changes.

    Whoever calls asserts afterwards, and so says what was wrong.
    """
    with anyio.move_on_after(SETTLING_S):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(0.01)


# --- the service as a process ---------------------------------------------------------------------


@dataclass
class Soak:
    """Puts runs through a service, each in one of four ways, and looks at how each ended."""

    stand: Bench
    mixed: Mixed
    ended: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        way = self.mixed.chance.choice(
            [self._unwatched, self._watched, self._watched_for_a_while, self._left]
        )
        with anyio.fail_after(30):
            await way()

    async def _unwatched(self) -> None:
        run_id = await self.stand.start()
        await self._stop(run_id)

    async def _watched(self) -> None:
        run_id = await self.stand.start()
        async with reading(self.stand.client, run_id) as watcher:
            await self._stop(run_id)
            await watcher.over()
        assert watcher.events == await self._log(run_id), "a live reader saw another log"

    async def _watched_for_a_while(self) -> None:
        run_id = await self.stand.start()
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(self._watch_for_a_while, run_id)
            await self._stop(run_id)

    async def _watch_for_a_while(self, run_id: str) -> None:
        url = f"/runs/{run_id}/events"
        with anyio.move_on_after(self.mixed.instant()):
            async with self.stand.client.stream("GET", url) as response:
                async for _ in response.aiter_raw():
                    pass

    async def _left(self) -> None:
        """Leave a stream whose run is to end with it."""
        body = {"input": "A story, please.", "stream": True, "on_disconnect": "cancel"}
        async with self.stand.client.stream("POST", "/runs", json=body) as response:
            assert response.status_code == 200, response
            run_id = response.headers["X-Run-Id"]
            with anyio.move_on_after(self.mixed.instant()):
                async for _ in response.aiter_raw():
                    pass
        await self._check(await self._settled(run_id))

    async def _stop(self, run_id: str) -> None:
        await anyio.sleep(self.mixed.instant())  # the instant is the case
        response = await self.stand.client.delete(f"/runs/{run_id}")
        run = await self._settled(run_id)
        if response.status_code == 202:
            assert run["status"] == "cancelled", "the promise was broken"
        else:
            assert response.status_code == 409, response.text
            assert response.json()["run"] == run
        await self._check(run)

    async def _settled(self, run_id: str) -> dict[str, Any]:
        response = await self.stand.client.get(f"/runs/{run_id}", params={"wait": 20})
        run: dict[str, Any] = response.json()
        return run

    async def _log(self, run_id: str) -> list[laws.LogEvent]:
        response = await self.stand.client.get(f"/runs/{run_id}/events")
        return laws.parse(response.content)

    async def _check(self, run: dict[str, Any]) -> None:
        """Hold the run's log against the laws, and against what GET says."""
        events = await self._log(run["run_id"])
        laws.check(events)
        final = events[-1]
        told = {"status": FINAL[final["event"]], "last_event_id": final["seq"]}
        told |= {key: final[key] for key in ("content", "usage", "error") if key in final}
        assert {key: run[key] for key in told} == told
        assert (run["cancel"] is not None) == (run["status"] == "cancelled")
        self.ended[run["status"]] += 1


async def at_rest(stand: Bench, before: Footprint | None = None) -> Footprint:
    """Return what the service holds beside its idle connections, once it is what it was before."""

    def held() -> Footprint:
        now = footprint(stand.running.process.pid)
        return replace(now, descriptors=now.descriptors - stand.upstream.open_connections)

    with anyio.fail_after(SETTLING_S):
        await stand.upstream.idle()
    if before is not None:
        await until(lambda: held().descriptors == before.descriptors)
    return held()


async def test_a_service_holds_after_random_cancels_what_it_held_before() -> None:
    async with bench(**SETTINGS) as stand:
        untouched = await at_rest(stand)
        await stand.client.get("/healthz", headers={"Connection": "close"})
        # libuv opens /dev/null with its first connection, and keeps it
        fresh = await at_rest(stand, replace(untouched, descriptors=untouched.descriptors + 1))
        soak = Soak(stand, Mixed(SEED))
        stand.upstream.script = soak.mixed.script
        warm, half, end = [
            await soak_for(count, soak, fresh) for count in (AT_ONCE, RUNS // 2, RUNS // 2)
        ]
        await every_place_is_free(stand)
        log = "".join(stand.running.log)
    FIGURES.append(
        f"soak: {RUNS} runs, {dict(soak.ended)}; {fresh.descriptors} descriptors, then"
        f" {end.descriptors}; {warm.threads} threads, then {end.threads}; RSS"
        f" {warm.resident_kib}, {half.resident_kib}, {end.resident_kib} KiB"
    )
    assert end.descriptors == fresh.descriptors
    assert end.threads <= warm.threads
    assert end.resident_kib - half.resident_kib < GROWTH_KIB
    assert "Traceback" not in log, log
    assert soak.ended["cancelled"] > RUNS / 2, "nothing was tried"


async def soak_for(count: int, soak: Soak, fresh: Footprint) -> Footprint:
    """Put runs through, with a client of their own that is gone when the footprint is taken."""
    idle = soak.stand
    async with idle.running.client() as client:
        soak.stand = replace(idle, client=client)
        await many(count, soak.run)
    soak.stand = idle
    held = await at_rest(idle, fresh)
    assert idle.upstream.busy == []
    return held


async def every_place_is_free(stand: Bench) -> None:
    """Let as many runs as there are places call the model at once, and one more be answered."""
    stand.upstream.script = in_turn([Hold()])
    seen = len(stand.upstream.exchanges)
    run_ids = [await stand.start() for _ in range(PLACES)]
    with anyio.fail_after(SETTLING_S):
        await stand.upstream.arrived(seen + PLACES)
    for run_id in run_ids:
        await stand.delete(run_id)
    stand.upstream.script = in_turn([Say("Still here.")])
    response = await stand.client.post("/runs?wait=20", json={"input": "And you?"})
    run = response.json()
    assert (run["status"], run["content"]) == ("completed", "Still here.")


# --- the runner in this process -------------------------------------------------------------------


def team_of(provider: OpenAIProvider) -> Team:
    model = RetryingModel(provider.model("test"))
    leader = Agent("team", "Team", model, "The members of your team: storyteller, editor.")
    members = {id_: Member(Agent(id_, id_, model, "Write."), "", {}) for id_ in MEMBERS}
    return Team("coordinate", leader, members, {}, must_delegate=False, pass_input=False)


MEMBERS = ("storyteller", "editor")


async def test_random_cancels_leave_a_runner_no_task_and_no_slot_of_the_pool() -> None:
    mixed = Mixed(SEED)
    async with (
        Upstream(mixed.script) as upstream,
        OpenAIProvider("sk-test", upstream.base_url, max_connections=SLOTS) as provider,
        Runner(store := MemoryStore(), {"team": team_of(provider)}, SystemClock()) as runner,
    ):
        tasks = asyncio.all_tasks()

        async def start_and_stop() -> None:
            run = (await runner.start(Order("A story, please."))).run
            await anyio.sleep(mixed.instant())  # the instant is the case
            await runner.cancel(run.run_id, None, "request")
            with anyio.fail_after(SETTLING_S), store.watch(run.run_id) as hint:
                while not run.status.is_final:
                    await hint.wait()
            laws.check(laws.parse((await store.read(run.run_id, 0, 1 << 30)).frames))

        await many(RUNS, start_and_stop)
        await until(lambda: asyncio.all_tasks() == tasks and not upstream.busy)
        assert asyncio.all_tasks() == tasks
        assert upstream.busy == []
        assert runner.load == Load(0, 0)
        await every_slot_is_free(runner, upstream)


async def every_slot_is_free(runner: Runner, upstream: Upstream) -> None:
    """Let as many calls as the pool has slots be open at once."""
    assert upstream.open_connections <= SLOTS
    upstream.script = in_turn([Hold()])
    seen = len(upstream.exchanges)
    for _ in range(SLOTS):
        await runner.start(Order("And you?"))
    with anyio.fail_after(SETTLING_S):
        await upstream.arrived(seen + SLOTS)
