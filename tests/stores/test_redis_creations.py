"""Creations that Redis refuses or cuts short: what becomes of the run, and of its key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain.errors import (
    StoreUnavailable,
)
from app.stores.redis import RedisStore
from tests.contract.test_store import request_for
from tests.stores.redis_scene import (
    until,
)
from tests.stores.valkey import Valkey

pytestmark = pytest.mark.anyio


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


async def test_the_key_of_a_creation_that_was_cut_short_is_free_as_soon_as_redis_lets_it(
    here: RedisStore, valkey: Valkey
) -> None:
    keyed = replace(request_for(), idempotency_key="key")
    valkey.do("SET", "tr:index::all:", "no index")
    valkey.do("ACL", "SETUSER", "default", "-del")
    with pytest.raises(StoreUnavailable):
        await here.create(keyed)
    assert valkey.do("GET", "tr:key::key") == keyed.run_id.encode()
    valkey.do("ACL", "SETUSER", "default", "+del")

    async def is_free() -> bool:
        return valkey.do("GET", "tr:key::key") is None

    await until(is_free)
    valkey.do("DEL", "tr:index::all:")
    again = replace(keyed, run_id=request_for().run_id)
    assert (await here.create(again)).run_id == again.run_id


async def test_a_key_that_leads_nowhere_is_taken(here: RedisStore, valkey: Valkey) -> None:
    valkey.do("SET", "tr:key::key", "gone")
    keyed = replace(request_for(), idempotency_key="key")
    assert (await here.create(keyed)).run_id == keyed.run_id
