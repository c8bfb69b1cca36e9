"""Redis freezes, restarts, is full, and forgets: what the store says then, and what comes of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import anyio
import pytest

from app.domain.errors import (
    ConfigurationError,
    LeaseLost,
    RunIsFinal,
    StoreUnavailable,
)
from app.domain.events import (
    Event,
    RunCompleted,
    RunContent,
    Usage,
    encode,
)
from app.ports import Filter
from app.stores.redis import RedisStore
from tests import laws
from tests.contract.test_store import ALL, NOW, complete, request_for, write
from tests.stores.redis_scene import (
    COMPLETED,
    LEASE_TTL_S,
    STOP,
    follow,
    started,
    takes,
    until,
    within,
)
from tests.stores.valkey import Valkey
from tests.views import everything

pytestmark = pytest.mark.anyio


async def test_frozen_redis_refuses_writes_in_time_and_nothing_is_doubled(
    here: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    with valkey.frozen(), within(2):
        with pytest.raises(StoreUnavailable):
            await write(here, run, RunContent("a", 1))
        assert (await here.read(run.run_id, 0, ALL)).last == 1
    await until(partial(takes, here, run))
    await write(here, run, RunCompleted(run.content, "stop", Usage()))
    page = await here.read(run.run_id, 0, ALL)
    laws.check(laws.parse(page.frames))
    assert run.content in ("ab", "b")
    assert page.last == run.last_event_id


async def test_everything_asked_of_frozen_redis_is_refused_within_two_seconds(
    here: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    with valkey.frozen(), within(2):
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
        with valkey.frozen(), within(1):
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
        with within(2):
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
    await until(partial(takes, here, run))
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
        with within(2), pytest.raises(ConfigurationError, match="STORE_URL"):
            async with RedisStore(url):
                pass
    with pytest.raises(ConfigurationError, match="STORE_URL"):
        RedisStore("postgres://secret@host")


async def test_busy_redis_refuses_in_time_and_goes_on_where_it_was(
    here: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    with valkey.busy(), within(2):
        for refused in (write(here, run, COMPLETED), here.create(request_for()), here.ping()):
            with pytest.raises(StoreUnavailable):
                await refused
        assert (await here.read(run.run_id, 0, ALL)).last == 1
    await until(partial(takes, here, run))
    await write(here, run, RunCompleted(run.content, "stop", Usage()))
    laws.check(laws.parse(await follow(here, run.run_id)))


async def test_redis_that_only_reads_refuses_writes_serves_reads_and_recovers(
    here: RedisStore, there: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    with valkey.read_only():
        with within(2):
            answers = await asyncio.gather(
                write(here, run, COMPLETED),
                here.create(request_for()),
                there.request_cancel(run.run_id, STOP),
                here.ping(),
                return_exceptions=True,
            )
        assert [type(answer) for answer in answers] == [StoreUnavailable] * 4
        for store in (here, there):
            assert (await store.read(run.run_id, 0, ALL)).last == 1
            assert len(await store.list(Filter())) == 1
    await until(partial(takes, here, run))
    await write(here, run, RunCompleted(run.content, "stop", Usage()))
    laws.check(laws.parse(await follow(there, run.run_id)))
