"""Claims that Redis cuts short."""

from __future__ import annotations

import anyio
import pytest

from app.domain.errors import StoreUnavailable
from app.domain.run import Run
from app.stores.redis import RedisStore
from app.stores.redis_keys import RunKeys
from tests.contract.test_store import request_for
from tests.stores.valkey import running

pytestmark = pytest.mark.anyio

LEASE_TTL_S = 1.0


async def test_a_claim_that_was_cut_short_gives_every_run_to_somebody() -> None:
    with running() as valkey:
        async with RedisStore(valkey.url) as dead:
            runs = [await dead.create(request_for()) for _ in range(2)]
        first, second = (RunKeys(run.run_id).run for run in runs)
        async with RedisStore(valkey.url, LEASE_TTL_S) as here:
            valkey.do("RENAME", second, "aside")
            valkey.do("SET", second, "no run")
            with pytest.raises(StoreUnavailable):
                await claimed(here)
            assert valkey.do("HGET", first, "owner") == here.replica_id.encode()
            valkey.do("RENAME", "aside", second)
            taken = {run.run_id for run in await claimed(here)}
        assert taken == {run.run_id for run in runs}


async def claimed(store: RedisStore) -> list[Run]:
    """Claim until there is something to claim, as a replica does all the time."""
    with anyio.fail_after(10):
        while not (runs := await store.claim_abandoned()):
            await store.renew()
    return list(runs)
