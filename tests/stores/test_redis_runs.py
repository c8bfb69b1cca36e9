"""What a run that goes on for long costs Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import anyio
import pytest

from app.domain.events import RunContent, encode
from app.domain.status import Status
from app.stores.redis import RedisStore
from app.stores.redis_keys import RunKeys
from tests.contract.test_store import NOW, write
from tests.stores.redis_scene import STOP, started
from tests.stores.valkey import Valkey
from tests.views import everything

pytestmark = pytest.mark.anyio


async def test_a_run_is_saved_the_more_rarely_the_longer_it_is(
    here: RedisStore, there: RedisStore, valkey: Valkey
) -> None:
    run = await started(here)
    begun = received_bytes(valkey)
    for _ in range(50):
        await write(here, run, *[RunContent("word " * 80, 1)] * 100)
    assert received_bytes(valkey) - begun < 2.5 * run.log_bytes
    saved = int(valkey.do("HGET", RunKeys(run.run_id).run, "saved"))
    assert saved > run.last_event_id / 4, "who reads it first elsewhere folds the rest"
    read = await there.load(run.run_id)
    assert read is not None
    assert everything(read) == everything(run)


async def test_words_of_many_runs_go_to_redis_together(here: RedisStore, valkey: Valkey) -> None:
    runs = [await started(here) for _ in range(20)]
    loop = asyncio.get_running_loop()
    begun, begun_at = batches(valkey), loop.time()
    for _ in range(10):
        receipts: list[Awaitable[None] | None] = []
        for run in runs:
            word = encode(run.last_event_id + 1, NOW, run.origin, RunContent("word", 1))
            receipts.append(here.append(run.run_id, [word]))
            await asyncio.sleep(0)  # another turn, in which it could be sent
        for receipt in receipts:
            assert receipt is not None
            await receipt
    passed_s = loop.time() - begun_at
    assert batches(valkey) - begun <= passed_s / 0.002 + 5, "for 200 words, and what else goes on"


async def test_words_that_wait_go_with_a_flag(here: RedisStore) -> None:
    first, second = await started(here), await started(here)
    async with anyio.create_task_group() as group:
        group.start_soon(write, here, first, RunContent("one", 1))
        group.start_soon(write, here, second, RunContent("two", 1))
        await here.request_cancel(first.run_id, STOP)
    assert [run.last_event_id for run in (first, second)] == [2, 2]
    assert first.status is Status.CANCELLING


def batches(valkey: Valkey) -> int:
    return int(valkey.do("INFO", "stats")["total_reads_processed"])


def received_bytes(valkey: Valkey) -> int:
    return int(valkey.do("INFO", "stats")["total_net_input_bytes"])
