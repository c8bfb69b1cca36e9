"""What a run that goes on for long costs Redis."""

from __future__ import annotations

import pytest

from app.domain.events import RunContent
from app.stores.redis import RedisStore
from app.stores.redis_keys import RunKeys
from tests.contract.test_store import write
from tests.stores.redis_scene import started
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


def received_bytes(valkey: Valkey) -> int:
    return int(valkey.do("INFO", "stats")["total_net_input_bytes"])
