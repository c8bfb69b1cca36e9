"""Fixtures of the tests of stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.stores.redis import RedisStore
from app.stores.sqlite import SqliteStore
from tests.stores.redis_scene import LEASE_TTL_S
from tests.stores.valkey import Valkey, running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(path) as opened:
        yield opened


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
