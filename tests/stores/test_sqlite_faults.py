"""A store that fails, fails closed and in time, and goes on when the fault has passed."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from app.domain.errors import StoreUnavailable
from app.domain.events import (
    RunCompleted,
    RunContent,
    Usage,
)
from app.domain.run import Cancel
from app.ports import Filter
from app.stores.sqlite import SqliteStore
from app.stores.sqlite_readers import Readers, Result
from app.stores.sqlite_rows import touch
from app.stores.sqlite_schema import open_for_writing
from app.stores.sqlite_writer import Unit, Writer
from tests import laws
from tests.contract.test_store import ALL, request_for, write
from tests.stores.scene import (
    COMPLETED,
    STOP,
    Outcome,
    entries_for,
    locked,
    log_of,
    running,
)

pytestmark = pytest.mark.anyio


class Stinted(SqliteStore):
    """Can be forbidden to let its file grow, as a full disk does."""

    async def allow_pages(self, count: int) -> None:
        await self._writer.run(
            lambda connection: connection.execute(f"PRAGMA max_page_count = {count}").fetchone()
        )


@contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """Have the kernel refuse to let any file of this process grow beyond the file's log."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = path.with_name(path.name + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@asynccontextmanager
async def broken(store: Stinted, path: Path, how: str) -> AsyncIterator[None]:
    if how == "full":
        await store.allow_pages(1)
        yield
        await store.allow_pages(1 << 30)
        return
    with {"locked": locked, "unwritable": unwritable}[how](path):
        yield


@pytest.mark.parametrize("how", ["locked", "unwritable", "full"])
async def test_a_fault_fails_closed_in_time_and_leaves_nothing_behind(path: Path, how: str) -> None:
    async with Stinted(path) as store:
        run, key = await running(store), replace(request_for(), idempotency_key="key")
        large = RunContent("x" * 200_000, 1)
        for _ in range(2):
            last = run.last_event_id
            async with broken(store, path, how):
                outcomes = [Outcome() for _ in range(3)]
                with anyio.fail_after(4):
                    async with anyio.create_task_group() as group:
                        group.start_soon(outcomes[0].keep, lambda: write(store, run, large))
                        group.start_soon(outcomes[1].keep, lambda: store.create(key))
                        if how != "full":  # a page that is there already can still be written
                            group.start_soon(outcomes[2].keep, store.ping)
                failed = [type(outcome.result) for outcome in outcomes]
                assert failed[: 2 if how == "full" else 3] == [StoreUnavailable] * (
                    2 if how == "full" else 3
                )
                assert run.last_event_id == last
                assert (await store.read(run.run_id, 0, ALL)).last == last
                assert await store.load(key.run_id) is None
            await store.ping()
            await write(store, run, large)
        await store.create(key)
        await write(store, run, RunCompleted(run.content, "stop", Usage()))
        laws.check(await log_of(store, run))
        log = (await store.read(run.run_id, 0, ALL)).frames
    async with SqliteStore(path) as store:
        assert (await store.read(run.run_id, 0, ALL)).frames == log


async def test_a_store_that_is_closed_has_stored_everything_and_takes_no_more(path: Path) -> None:
    async with SqliteStore(path) as store:
        runs = [await running(store) for _ in range(20)]
        for run in runs:
            store.append(run.run_id, entries_for(run, RunContent("x", 1)))
            store.append(run.run_id, entries_for(run, RunContent("stale", 1)))
    assert not [thread for thread in threading.enumerate() if thread.name == "sqlite writer"]
    assert [run.content for run in runs] == ["x"] * 20
    with pytest.raises(StoreUnavailable):
        await store.ping()
    with pytest.raises(StoreUnavailable):
        await write(store, runs[0], COMPLETED)
    with pytest.raises(StoreUnavailable):
        await store.load("unknown")
    assert not path.with_name("runs.db-wal").exists()
    async with SqliteStore(path) as store:
        assert [run.content for run in await store.list(Filter(limit=20))] == ["x"] * 20


async def test_a_listener_that_raises_stops_nobody_else(store: SqliteStore) -> None:
    run = await running(store)

    def listener(_: str, __: Cancel) -> None:
        raise RuntimeError

    store.on_flag(listener)
    with anyio.fail_after(5), pytest.raises(RuntimeError):
        await store.request_cancel(run.run_id, STOP)
    assert run.cancel is STOP
    await write(store, run, RunContent("on its way", 1))


async def test_an_acknowledgement_that_raises_stops_nobody_else(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    connection = open_for_writing(path)
    writer = Writer(connection)
    told: list[str] = []

    def stored(what: str) -> None:
        told.append(what)
        raise RuntimeError(what)

    def failed(error: Exception) -> None:
        told.append(str(error))

    for work in (lambda _: "one", lambda _: "two"):
        writer.hand_over(Unit(work, stored, failed))
    await writer.run(touch)
    await writer.close()
    connection.close()
    assert told == ["one", "two"]
    assert caplog.text.count("an acknowledgement failed") == 2


async def test_who_comes_while_a_transaction_fails_does_not_wait_for_another(path: Path) -> None:
    connection = open_for_writing(path)
    writer, begun, may_fail = Writer(connection), threading.Event(), threading.Event()

    def fail(_: sqlite3.Connection) -> None:
        begun.set()
        may_fail.wait(5)
        raise sqlite3.OperationalError("disk I/O error")

    first, second = Outcome(), Outcome()
    async with anyio.create_task_group() as group:
        group.start_soon(first.keep, lambda: writer.run(fail))
        await anyio.to_thread.run_sync(begun.wait, 5)
        group.start_soon(second.keep, lambda: writer.run(touch))
        await anyio.wait_all_tasks_blocked()
        asyncio.get_running_loop().call_soon(may_fail.set)  # the writer has been sent it by then
    assert [type(outcome.result) for outcome in (first, second)] == [StoreUnavailable] * 2
    await writer.run(touch)
    await writer.close()
    connection.close()


class Watched(Readers):
    """Tells when a thread has done with a question."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.done = threading.Event()

    def _read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            return super()._read(work)
        finally:
            self.done.set()


async def test_a_question_that_outlives_its_asker_leaves_no_connection(path: Path) -> None:
    open_for_writing(path).close()
    readers, may_go_on, seen = Watched(path), threading.Event(), list[sqlite3.Connection]()

    def wait(connection: sqlite3.Connection) -> None:
        seen.append(connection)
        may_go_on.wait(5)

    asked = asyncio.create_task(readers.run(wait))
    with anyio.fail_after(5):
        while not seen:
            await anyio.lowlevel.checkpoint()
    asked.cancel()
    await asyncio.wait([asked])
    await readers.close()
    may_go_on.set()
    assert await anyio.to_thread.run_sync(readers.done.wait, 5)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        seen[0].execute("SELECT 1")
