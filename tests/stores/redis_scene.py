"""What the tests of the Redis store have in common."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio

from app.domain.errors import StoreUnavailable
from app.domain.events import RunCompleted, RunContent, RunStarted, Usage
from app.domain.run import Cancel, Run
from app.ports import Store
from app.stores.redis import RedisStore
from tests.contract.test_store import ALL, NOW, request_for, write

STOP = Cancel(NOW, "why")
COMPLETED = RunCompleted("", "stop", Usage())
LEASE_TTL_S = 1.0


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
    """Take so long at most; a busy machine may take as long again."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < 2 * seconds


def flags_at(store: RedisStore) -> tuple[list[tuple[str, Cancel]], anyio.Event]:
    """Return what the store's listeners are told, and an event for the first."""
    told: list[tuple[str, Cancel]] = []
    first = anyio.Event()

    def listen(run_id: str, cancel: Cancel) -> None:
        told.append((run_id, cancel))
        first.set()

    store.on_flag(listen)
    return told, first


async def takes(store: RedisStore, run: Run) -> bool:
    """Try to write a piece."""
    try:
        await write(store, run, RunContent("b", 1))
    except StoreUnavailable:
        return False
    return True
