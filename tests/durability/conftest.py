"""Fixtures of the soaks: opened once, because processes take a second to start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.durability.server import TcpValkey, tcp_valkey
from tests.durability.stand import Stand, stand


@pytest.fixture(scope="package")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="package")
def valkey() -> Iterator[TcpValkey]:
    with tcp_valkey() as server:
        yield server


@pytest.fixture(scope="package")
async def pair(valkey: TcpValkey) -> AsyncIterator[Stand]:
    """Two replicas over one Valkey, in peace."""
    async with stand(valkey.url, 2) as made:
        yield made
