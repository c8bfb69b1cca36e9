"""What the Redis store promises beyond the contract: several replicas are one service."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import anyio
import pytest

from app.domain.errors import (
    CancelIsDue,
    LeaseLost,
)
from app.domain.events import (
    Origin,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunContent,
    RunStarted,
    Usage,
)
from app.domain.run import Cancel, Run
from app.domain.status import Status
from app.ports import Filter
from app.stores.redis import RedisStore
from tests import laws
from tests.contract.test_store import ALL, request_for, write
from tests.figures import FIGURES
from tests.stores.pace import pace_of
from tests.stores.redis_scene import (
    COMPLETED,
    LEASE_TTL_S,
    STOP,
    claimed,
    flags_at,
    follow,
    started,
    until,
    within,
)
from tests.stores.valkey import Valkey
from tests.views import everything

pytestmark = pytest.mark.anyio


# --- any replica answers --------------------------------------------------------------------------


async def test_a_run_is_watched_cancelled_and_listed_at_other_replicas(
    here: RedisStore, there: RedisStore
) -> None:
    run = await started(here)
    told, first = flags_at(here)
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(follow(there, run.run_id)) for _ in range(3)]
            for n in range(20):
                await write(here, run, RunContent(f"{n} ", 1))
            asked = await there.request_cancel(run.run_id, STOP)
            assert asked is not None
            assert asked.status is Status.CANCELLING
            await first.wait()
            assert run.status is Status.CANCELLING
            stopped = (
                RunCancelRequested("why", "request"),
                RunCancelled(run.content, "why", Usage()),
            )
            await write(here, run, *stopped)
    assert told == [(run.run_id, STOP)]
    whole = (await here.read(run.run_id, 0, ALL)).frames
    assert [task.result() for task in reading] == [whole] * 3
    laws.check(laws.parse(whole))
    for store in (here, there):
        (listed,) = await store.list(Filter(statuses=frozenset({Status.CANCELLED})))
        assert everything(listed) == everything(run)


async def test_a_members_run_is_found_and_stopped_from_another_replica(
    here: RedisStore, there: RedisStore
) -> None:
    run = await started(here)
    member = Origin("5dd7cbb6-1bb0-4ef5-a96c-0b3e4e5a3ad3", "editor", "Editor", None, run.run_id)
    await write(here, run, RunStarted("m", task="t", tool_call_id="c"), by=member)
    told, first = flags_at(here)
    asked = await there.request_cancel(member.run_id, STOP)
    assert asked is not None
    assert (asked.run_id, asked.status) == (member.run_id, Status.CANCELLING)
    with anyio.fail_after(5):
        await first.wait()
    assert (told, run.status) == ([(member.run_id, STOP)], Status.RUNNING)
    loaded = await there.load(member.run_id)
    assert loaded is not None
    assert loaded.run_id == run.run_id


async def test_only_one_of_two_replicas_creates_a_run_with_a_key(
    here: RedisStore, there: RedisStore
) -> None:
    for nth in range(20):
        keyed = [replace(request_for(), idempotency_key=f"key {nth}") for _ in range(2)]
        first, second = await asyncio.gather(here.create(keyed[0]), there.create(keyed[1]))
        assert first.run_id == second.run_id
    assert len(await here.list(Filter(limit=100))) == 20
    assert await here.claim_abandoned() == await there.claim_abandoned() == ()


async def test_a_flag_and_an_end_are_settled_in_one_step(
    here: RedisStore, there: RedisStore
) -> None:
    outcomes = set()
    for nth in range(40):
        run = await started(here)
        asking = asyncio.ensure_future(there.request_cancel(run.run_id, STOP))
        for _ in range(nth % 20):
            await asyncio.sleep(0)
        try:
            await write(here, run, COMPLETED)
        except CancelIsDue:
            await write(here, run, RunCancelRequested("why", "request"))
            await write(here, run, RunCancelled("", "why", Usage()))
        asked = await asking
        loaded = await there.load(run.run_id)
        assert asked is not None
        assert loaded is not None
        assert loaded.status is run.status
        assert (asked.status is Status.COMPLETED) is (run.status is Status.COMPLETED)
        outcomes.add(run.status)
    assert outcomes == {Status.COMPLETED, Status.CANCELLED}


async def test_readers_of_another_replica_share_a_fetch_and_a_connection(
    here: RedisStore, there: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    async with asyncio.TaskGroup() as group:
        reading = [group.create_task(follow(there, run.run_id)) for _ in range(200)]
        await until(partial(_is_heard, valkey, run))
        before = _calls(valkey)
        for n in range(50):
            await write(here, run, RunContent(f"{n}", 1))
        await write(here, run, COMPLETED)
    assert _calls(valkey) - before < 4 * 51  # an append, a fetch or two for each; looks
    assert len({task.result() for task in reading}) == 1
    assert len(valkey.do("CLIENT", "LIST").splitlines()) <= 2 * 3 + 1


async def test_without_news_flags_and_events_arrive_within_two_seconds(
    here: RedisStore, there: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    _, first = flags_at(here)
    with valkey.mute():
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(follow(there, run.run_id))
            await there.request_cancel(run.run_id, STOP)
            with within(2), anyio.fail_after(5):
                await first.wait()
            await write(here, run, RunCancelRequested("why", "request"))
            await write(here, run, RunCancelled("", "why", Usage()))
            with within(2), anyio.fail_after(5):
                await reading
    laws.check(laws.parse(reading.result()))


async def test_without_news_a_busy_run_hears_of_its_flag_with_its_next_append(
    here: RedisStore, there: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    told, _ = flags_at(here)
    with valkey.mute():
        await there.request_cancel(run.run_id, STOP)
        await write(here, run, RunContent("on its way", 1))
    assert told == [(run.run_id, STOP)]


async def test_a_long_run_is_folded_from_where_it_was_saved(
    here: RedisStore, there: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    for n in range(200):
        await write(here, run, *(RunContent(f"{n} ", 1) for _ in range(10)))
    assert int(valkey.do("HGET", f"tr:{{{run.run_id}}}:run", "saved")) > 1000
    loaded = await there.load(run.run_id)
    assert loaded is not None
    assert everything(loaded) == everything(run)
    await write(here, run, RunContent("more", 1))
    again = await there.load(run.run_id)
    assert again is loaded
    assert everything(loaded) == everything(run)


# --- replicas die, or freeze ----------------------------------------------------------------------


@contextmanager
def replica(valkey: Valkey) -> Iterator[subprocess.Popen[str]]:
    """Yield another process that writes to a run of its own."""
    command = [sys.executable, "-m", "tests.stores.replica", valkey.url, str(LEASE_TTL_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ours
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_a_killed_replicas_run_is_taken_over_and_ended(
    here: RedisStore, there: RedisStore, valkey: Valkey
) -> None:
    with replica(valkey) as process, anyio.fail_after(20):
        run_id = await asyncio.to_thread(line_of, process)
        reading = asyncio.ensure_future(follow(there, run_id))
        await there.request_cancel(run_id, STOP)
        process.send_signal(signal.SIGKILL)
        with within(LEASE_TTL_S + 5):
            run = await claimed(here)
        assert run.run_id == run_id
        assert run.status is Status.CANCELLING
        assert await there.claim_abandoned() == ()
        await write(here, run, RunCancelRequested("why", "request"))
        await write(here, run, RunCancelled(run.content, "why", Usage()))
        laws.check(laws.parse(await reading))


async def test_a_frozen_replica_is_fenced_off_and_lets_go(here: RedisStore, valkey: Valkey) -> None:
    with replica(valkey) as process, anyio.fail_after(20):
        run_id = await asyncio.to_thread(line_of, process)
        process.send_signal(signal.SIGSTOP)
        run = await claimed(here)
        await write(here, run, RunCompleted(run.content, "stop", Usage()))
        ended = await here.read(run_id, 0, ALL)
        process.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(line_of, process) == f"LeaseLost {run_id}"
    assert await here.read(run_id, 0, ALL) == ended
    laws.check(laws.parse(ended.frames))


async def test_a_replica_that_closes_leaves_its_runs_to_the_others(
    here: RedisStore, valkey: Valkey
) -> None:
    async with RedisStore(valkey.url, 60) as gone:
        run = await started(gone)
    assert (await claimed(here)).run_id == run.run_id
    assert await here.claim_abandoned() == ()


async def test_an_owner_that_is_idle_learns_that_its_run_was_taken(
    here: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    lost = anyio.Event()
    here.on_loss(lambda _: lost.set())
    valkey.do("HSET", f"tr:{{{run.run_id}}}:run", "owner", "other", "fence", "7")
    with anyio.fail_after(5):
        await lost.wait()
    with pytest.raises(LeaseLost):
        await write(here, run, RunContent("late", 1))


# --- figures --------------------------------------------------------------------------------------


async def test_the_pace_of_appends_is_measured(valkey: Valkey) -> None:
    pace = await pace_of(RedisStore(valkey.url), 1.0)
    FIGURES.append(f"redis: {pace}")
    assert pace.p50_ms < 100


async def test_the_way_of_a_cancel_to_another_replica_is_measured(
    here: RedisStore, there: RedisStore
) -> None:
    heard: dict[str, float] = {}

    def hear(run_id: str, _: Cancel) -> None:
        heard[run_id] = time.perf_counter()

    here.on_flag(hear)
    runs = [await started(here) for _ in range(100)]
    asked = {}
    for run in runs:
        asked[run.run_id] = time.perf_counter()
        await there.request_cancel(run.run_id, STOP)

    async def all_heard() -> bool:
        return len(heard) == len(runs)

    await until(all_heard)
    waits = sorted((heard[run_id] - asked[run_id]) * 1e3 for run_id in heard)
    FIGURES.append(f"redis: cancel across replicas, ms: p50 {waits[50]:.2f}, p99 {waits[99]:.2f}")
    assert waits[50] < 1000


async def _is_heard(valkey: Valkey, run: Run) -> bool:
    _, listeners = valkey.do("PUBSUB", "NUMSUB", f"tr:{{{run.run_id}}}:news")
    return bool(listeners)


def _calls(valkey: Valkey) -> int:
    return int(valkey.do("INFO", "commandstats")["cmdstat_evalsha"]["calls"])
