"""Claims that Redis cuts short."""

from __future__ import annotations

import anyio
import pytest

from app.domain.errors import StoreUnavailable
from app.domain.run import Run
from app.stores.redis import RedisStore
from app.stores.redis_keys import REPLICAS, RunKeys
from app.stores.redis_scripts import BURY
from tests.contract.test_store import request_for
from tests.stores.valkey import Valkey, running

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


async def test_who_takes_a_run_is_known_to_live_at_that_moment() -> None:
    with running() as valkey:
        async with RedisStore(valkey.url) as dead:
            await dead.create(request_for())
            assert is_known(valkey, dead)
            valkey.do("ZREM", REPLICAS, dead.replica_id)
            await dead.create(request_for())
            assert is_known(valkey, dead), "a creation renews the lease"
        async with RedisStore(valkey.url, LEASE_TTL_S) as here:
            await claimed(here)
            assert is_known(valkey, here)
            assert not is_known(valkey, dead)


async def test_a_replica_that_is_back_is_not_struck_off() -> None:
    with running() as valkey:
        async with RedisStore(valkey.url) as alive:
            valkey.do("ZADD", REPLICAS, "1", "dead")
            for name in (alive.replica_id, "dead"):
                valkey.do("EVAL", BURY.text, "1", REPLICAS, name)
            assert is_known(valkey, alive)
            assert valkey.do("ZCARD", REPLICAS) == 1


def is_known(valkey: Valkey, store: RedisStore) -> bool:
    return valkey.do("ZSCORE", REPLICAS, store.replica_id) is not None


async def claimed(store: RedisStore) -> list[Run]:
    """Claim until there is something to claim, as a replica does all the time."""
    with anyio.fail_after(10):
        while not (runs := await store.claim_abandoned()):
            await store.renew()
    return list(runs)
