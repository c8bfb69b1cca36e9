"""What the Redis store promises beyond the contract: several replicas, and Redis in trouble."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from functools import partial

import anyio
import pytest

from app.domain.errors import (
    CancelIsDue,
    ConfigurationError,
    LeaseLost,
    RunIsFinal,
    StoreUnavailable,
)
from app.domain.events import (
    Event,
    Origin,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunContent,
    RunStarted,
    Usage,
    encode,
)
from app.domain.run import Cancel, Run, Status
from app.ports import Filter, Store
from app.stores.redis import RedisStore
from tests import laws
from tests.contract.test_store import ALL, NOW, complete, request_for, write
from tests.figures import FIGURES
from tests.stores.pace import pace_of
from tests.stores.valkey import Valkey, running
from tests.views import everything

pytestmark = pytest.mark.anyio

STOP = Cancel(NOW, "why")
COMPLETED = RunCompleted("", "stop", Usage())
LEASE_TTL_S = 1.0


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with running() as server:
        yield server


@pytest.fixture
async def here(valkey: Valkey) -> AsyncIterator[RedisStore]:
    async with RedisStore(valkey.url, LEASE_TTL_S) as store:
        yield store


@pytest.fixture
async def there(valkey: Valkey) -> AsyncIterator[RedisStore]:
    async with RedisStore(valkey.url, LEASE_TTL_S) as store:
        yield store


async def started(store: RedisStore) -> Run:
    run = await store.create(request_for())
    await write(store, run, RunStarted("m"))
    return run


async def follow(store: Store, run_id: str, after: int = 0) -> bytes:
    """Read a run to its end, as the API's readers do."""
    read = b""
    with store.watch(run_id) as hint:
        while True:
            page = await store.read(run_id, after, ALL)
            read, after = read + page.frames, page.last
            if page.is_end:
                return read
            if not page.frames:
                await hint.wait()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something of which nobody tells."""
    with anyio.fail_after(10):
        while not await holds():  # noqa: ASYNC110 - nobody could set an event
            await asyncio.sleep(0.01)


async def claimed(store: RedisStore) -> Run:
    """Claim until there is a run to claim."""
    with anyio.fail_after(10):
        while not (runs := await store.claim_abandoned()):  # noqa: ASYNC110 - see `until`
            await asyncio.sleep(0.05)
    (run,) = runs
    return run


@contextmanager
def within(seconds: float) -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


def flags_at(store: RedisStore) -> tuple[list[tuple[str, Cancel]], anyio.Event]:
    """Return what the store's listeners are told, and an event for the first."""
    told: list[tuple[str, Cancel]] = []
    first = anyio.Event()

    def listen(run_id: str, cancel: Cancel) -> None:
        told.append((run_id, cancel))
        first.set()

    store.on_flag(listen)
    return told, first


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
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
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


# --- Redis in trouble -----------------------------------------------------------------------------


async def test_frozen_redis_refuses_writes_in_time_and_nothing_is_doubled(
    here: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    with valkey.frozen(), within(2.2):
        with pytest.raises(StoreUnavailable):
            await write(here, run, RunContent("a", 1))
        assert (await here.read(run.run_id, 0, ALL)).last == 1
    await until(partial(_takes, here, run))
    await write(here, run, RunCompleted(run.content, "stop", Usage()))
    page = await here.read(run.run_id, 0, ALL)
    laws.check(laws.parse(page.frames))
    assert run.content in ("ab", "b")
    assert page.last == run.last_event_id


async def test_everything_asked_of_frozen_redis_is_refused_within_two_seconds(
    here: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    with valkey.frozen(), within(2.2):
        answers = await asyncio.gather(
            here.create(request_for()),
            here.request_cancel(run.run_id, STOP),
            here.ping(),
            here.list(Filter()),
            here.load("unknown"),
            write(here, run, COMPLETED),
            return_exceptions=True,
        )
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 6


async def test_a_store_is_closed_in_time_while_redis_is_frozen(valkey: Valkey) -> None:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(RedisStore(valkey.url, LEASE_TTL_S))
        run = await started(store)
        with valkey.frozen(), within(1.5):
            writing = asyncio.ensure_future(write(store, run, COMPLETED))
            await asyncio.sleep(0)
            await stack.aclose()
            with pytest.raises(StoreUnavailable):
                await writing
            with pytest.raises(StoreUnavailable):
                await store.ping()


async def test_an_end_without_an_answer_is_found_to_be_stored(
    here: RedisStore, there: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    with valkey.frozen(), pytest.raises(StoreUnavailable):
        await write(here, run, COMPLETED)

    async def is_final() -> bool:
        return run.status.is_final

    await until(is_final)
    with pytest.raises(RunIsFinal):
        await write(here, run, RunContent("late", 1))
    loaded = await there.load(run.run_id)
    assert loaded is not None
    assert everything(loaded) == everything(run)


@pytest.mark.parametrize("last", [RunContent("a", 1), COMPLETED])
async def test_a_batch_without_an_answer_may_be_repeated(
    here: RedisStore, valkey: Valkey, last: Event
) -> None:
    run = await started(here)
    entries = [encode(2, NOW, run.origin, last)]

    async def is_stored() -> bool:
        try:
            stored = here.append(run.run_id, entries)
            if stored is not None:
                await stored
        except StoreUnavailable:
            return False
        return True

    with valkey.frozen():
        assert not await is_stored()
        assert not await is_stored()
    await until(is_stored)
    assert run.last_event_id == 2
    assert (await here.read(run.run_id, 0, ALL)).frames.endswith(entries[0].frame)


async def test_a_restart_of_redis_is_a_pause(
    here: RedisStore, there: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    valkey.kill()
    stored = asyncio.ensure_future(write(here, run, RunContent("a", 1)))
    await asyncio.sleep(0)
    await asyncio.to_thread(valkey.start)
    await stored
    await write(here, run, RunCompleted("a", "stop", Usage()))
    laws.check(laws.parse(await follow(there, run.run_id)))


async def test_scripts_that_redis_forgot_are_taught_again(here: RedisStore, valkey: Valkey) -> None:
    run = await started(here)
    valkey.do("SCRIPT", "FLUSH")
    await complete(here, await here.create(request_for()))
    await write(here, run, COMPLETED)
    laws.check(laws.parse((await here.read(run.run_id, 0, ALL)).frames))


async def test_redis_out_of_memory_refuses_writes_serves_reads_and_recovers(
    here: RedisStore, there: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    with valkey.full():
        with within(2.2):
            for refused in (
                write(here, run, COMPLETED),
                here.create(request_for()),
                there.request_cancel(run.run_id, STOP),
                here.ping(),
            ):
                with pytest.raises(StoreUnavailable):
                    await refused
        for store in (here, there):
            assert await store.load(run.run_id) is not None
            assert (await store.read(run.run_id, 0, ALL)).last == 1
            assert len(await store.list(Filter())) == 1
    await until(partial(_takes, here, run))
    await write(here, run, RunCompleted(run.content, "stop", Usage()))
    laws.check(laws.parse(await follow(there, run.run_id)))


async def test_a_flushed_redis_loses_runs_and_nobody_waits_for_them(
    here: RedisStore, there: RedisStore, valkey: Valkey
) -> None:
    idle, busy = await started(here), await started(here)
    lost: list[str] = []
    here.on_loss(lost.append)
    reading = [
        asyncio.ensure_future(follow(store, run.run_id))
        for store in (here, there)
        for run in (idle, busy)
    ]
    await asyncio.sleep(0)
    valkey.do("FLUSHALL")
    with pytest.raises(LeaseLost):
        await write(here, busy, RunContent("a", 1))
    with anyio.fail_after(5):
        await asyncio.gather(*reading)
    assert set(lost) == {idle.run_id, busy.run_id}
    for store in (here, there):
        assert await store.load(idle.run_id) is None
        assert (await store.read(busy.run_id, 0, ALL)).is_end
    await complete(here, await here.create(request_for()))


async def test_events_that_redis_lost_are_given_back_by_the_owner(
    here: RedisStore, there: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    await write(here, run, *(RunContent(f"{n} ", 1) for n in range(9)))
    before = await there.read(run.run_id, 0, ALL)
    valkey.do("LTRIM", f"tr:{{{run.run_id}}}:log", "0", "4")
    valkey.do("HSET", f"tr:{{{run.run_id}}}:run", "last", "5")
    await write(here, run, RunCompleted(run.content, "stop", Usage()))
    after = await there.read(run.run_id, 0, ALL)
    assert after.frames.startswith(before.frames)
    laws.check(laws.parse(after.frames))


async def test_more_lost_events_than_are_remembered_end_the_run(
    here: RedisStore, there: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    for _ in range(30):
        await write(here, run, RunContent("long " * 3000, 1))
    before = await there.load(run.run_id)
    assert before is not None
    valkey.do("LTRIM", f"tr:{{{run.run_id}}}:log", "0", "0")
    valkey.do("HSET", f"tr:{{{run.run_id}}}:run", "last", "1")
    valkey.do("HDEL", f"tr:{{{run.run_id}}}:run", "saved", "snapshot")
    with pytest.raises(LeaseLost):
        await write(here, run, RunContent("more", 1))
    after = await there.load(run.run_id)
    assert after is not None
    assert after.last_event_id == 1
    (stray,) = await here.claim_abandoned()
    await write(here, stray, COMPLETED)
    laws.check(laws.parse(await follow(there, run.run_id)))


async def test_a_creation_that_is_refused_takes_no_key(here: RedisStore, valkey: Valkey) -> None:
    keyed = replace(request_for(), idempotency_key="key")
    for trouble in (valkey.full, valkey.frozen):
        with trouble(), pytest.raises(StoreUnavailable):
            await here.create(keyed)
    again = replace(keyed, run_id=request_for().run_id)
    assert (await here.create(again)).run_id == again.run_id


async def test_a_creation_that_is_cut_short_takes_no_key_and_its_run_is_ended(
    here: RedisStore, valkey: Valkey
) -> None:
    keyed = replace(request_for(), idempotency_key="key")
    valkey.do("SET", "tr:index::all:", "no index")
    with pytest.raises(StoreUnavailable):
        await here.create(keyed)
    valkey.do("DEL", "tr:index::all:")
    again = replace(keyed, run_id=request_for().run_id)
    assert (await here.create(again)).run_id == again.run_id
    (stray,) = await here.claim_abandoned()
    assert stray.run_id == keyed.run_id


async def test_a_key_that_leads_nowhere_is_taken(here: RedisStore, valkey: Valkey) -> None:
    valkey.do("SET", "tr:key::key", "gone")
    keyed = replace(request_for(), idempotency_key="key")
    assert (await here.create(keyed)).run_id == keyed.run_id


async def test_an_end_that_was_not_noted_everywhere_is_noted_later(
    here: RedisStore, there: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    valkey.do("SET", "tr:finished", "no index")
    await write(here, run, COMPLETED)
    valkey.do("DEL", "tr:finished")

    async def is_noted() -> bool:
        return bool(valkey.do("ZCARD", "tr:finished"))

    await until(is_noted)
    assert not valkey.do("ZCARD", f"tr:owned:{here.replica_id}")
    assert await there.sweep("2027-01-01T00:00:00.000Z", 10) == 1


async def test_an_end_that_a_dead_replica_did_not_note_is_noted_by_another(
    here: RedisStore, valkey: Valkey
) -> None:
    async with RedisStore(valkey.url) as dead:
        run = await started(dead)
        valkey.do("SET", "tr:finished", "no index")
        await write(dead, run, COMPLETED)
    valkey.do("DEL", "tr:finished")

    async def is_noted() -> bool:
        assert await here.claim_abandoned() == ()
        return bool(valkey.do("ZCARD", "tr:finished"))

    await until(is_noted)
    loaded = await here.load(run.run_id)
    assert loaded is not None
    assert everything(loaded) == everything(run)


async def test_an_outage_longer_than_a_lease_kills_nobody(
    here: RedisStore, there: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    with valkey.frozen(), pytest.raises(StoreUnavailable):
        await there.ping()
    valkey.do("ZADD", "tr:replicas", "1", here.replica_id, "1", there.replica_id)
    with anyio.move_on_after(LEASE_TTL_S):
        while True:
            assert await here.claim_abandoned() == await there.claim_abandoned() == ()
    await write(here, run, COMPLETED)


async def test_a_run_that_its_owner_does_not_know_of_is_taken_up_by_it(valkey: Valkey) -> None:
    async with RedisStore(valkey.url, replica_id="one") as before:
        run = await started(before)
    async with RedisStore(valkey.url, replica_id="one") as after:
        (stray,) = await after.claim_abandoned()
        assert everything(stray) == everything(run)
        assert await after.claim_abandoned() == ()
        await write(after, stray, COMPLETED)


async def test_redis_that_is_not_there_stops_the_start(valkey: Valkey) -> None:
    for url in ("redis://127.0.0.1:1", f"{valkey.url}?db=1000"):
        with within(2.5), pytest.raises(ConfigurationError, match="STORE_URL"):
            async with RedisStore(url):
                pass
    with pytest.raises(ConfigurationError, match="STORE_URL"):
        RedisStore("postgres://secret@host")


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


async def _takes(store: RedisStore, run: Run) -> bool:
    """Try to write a piece."""
    try:
        await write(store, run, RunContent("b", 1))
    except StoreUnavailable:
        return False
    return True


async def _is_heard(valkey: Valkey, run: Run) -> bool:
    _, listeners = valkey.do("PUBSUB", "NUMSUB", f"tr:{{{run.run_id}}}:news")
    return bool(listeners)


def _calls(valkey: Valkey) -> int:
    return int(valkey.do("INFO", "commandstats")["cmdstat_evalsha"]["calls"])
