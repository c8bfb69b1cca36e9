"""What is read while runs end, are swept, or cannot be read."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
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
from app.domain.run import Run
from app.domain.status import Status
from app.ports import Filter
from app.stores.sqlite import SqliteStore
from app.stores.sqlite_readers import Readers, Result
from app.stores.sqlite_rows import read
from app.stores.sqlite_schema import open_for_reading
from tests import laws
from tests.contract.test_store import ALL, write
from tests.stores.scene import (
    COMPLETED,
    Outcome,
    execute,
    running,
)

pytestmark = pytest.mark.anyio


async def test_a_log_longer_than_memory_is_read_from_any_place(path: Path) -> None:
    async with SqliteStore(path) as store:
        run = await running(store)
        for n in range(40):
            await write(store, run, *(RunContent(f"{n}.{k} " * 5, 1) for k in range(50)))
        frames = await _pages(store, run, 2000)
        await write(store, run, RunCompleted(run.content, "stop", Usage()))
        assert (await _pages(store, run, 2000)).startswith(frames)
        laws.check(laws.parse(await _pages(store, run, 32_768)))
        for after in range(0, 2002, 143):
            page = await store.read(run.run_id, after, 1)
            assert laws.parse(page.frames)[0]["seq"] == after + 1
            assert page.last == after + 1


async def _pages(store: SqliteStore, run: Run, limit: int) -> bytes:
    frames, last = b"", 0
    while last < run.last_event_id:
        page = await store.read(run.run_id, last, limit)
        assert page.last > last
        assert page.frames.rfind(b"\n\n", 0, -2) < limit  # only the last one reaches it
        frames, last = frames + page.frames, page.last
    return frames


async def test_what_is_committed_but_does_not_show_yet_is_not_read(
    store: SqliteStore, path: Path
) -> None:
    run = await running(store)
    await write(store, run, RunContent("shows", 1))
    await write(store, run, RunContent("does not", 1))
    with closing(open_for_reading(path)) as connection:
        frames, last = read(connection, 1, after=0, upto=2, limit_bytes=ALL)
    assert (last, [e.get("content") for e in laws.parse(frames)]) == (2, [None, "shows"])


class LateReaders(Readers):
    """Has something happen between a question's answer and whoever asked it."""

    between: Callable[[], Awaitable[object]] | None = None

    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        result = await super().run(work)
        between, self.between = self.between, None
        if between is not None:
            await between()
        return result


class Overtaken(SqliteStore):
    """Reads with late readers."""

    @asynccontextmanager
    async def late(self) -> AsyncIterator[LateReaders]:
        readers, late = self._readers, LateReaders(self._path)
        self._readers = late
        yield late
        self._readers = readers
        await late.close()


async def test_a_list_is_full_and_right_even_if_a_run_ends_while_it_is_made(path: Path) -> None:
    async with Overtaken(path) as store, store.late() as readers:
        runs = [await running(store) for _ in range(3)]
        readers.between = lambda: write(store, runs[2], COMPLETED)
        which = Filter(statuses=frozenset({Status.RUNNING}), limit=2)
        assert await store.list(which) == [runs[1], runs[0]]


async def test_a_run_that_is_swept_while_it_is_loaded_does_not_stay(path: Path) -> None:
    async with SqliteStore(path) as store:
        run = await running(store)
        await write(store, run, COMPLETED)
    async with Overtaken(path) as store, store.late() as readers:
        readers.between = lambda: store.sweep("9", 1)
        assert await store.load(run.run_id) is not None
        assert await store.load(run.run_id) is None


async def test_a_finished_run_that_two_ask_for_is_loaded_once(path: Path) -> None:
    async with SqliteStore(path) as store:
        run = await running(store)
        await write(store, run, COMPLETED)
    async with SqliteStore(path) as store:
        outcomes = [Outcome(), Outcome()]
        async with anyio.create_task_group() as group:
            for outcome in outcomes:
                group.start_soon(outcome.keep, lambda: store.load(run.run_id))
        assert outcomes[0].result is outcomes[1].result
        assert isinstance(outcomes[0].result, Run)


async def test_a_file_that_cannot_be_read_is_a_store_that_does_not_answer(
    store: SqliteStore, path: Path
) -> None:
    assert await store.load("unknown") is None
    execute(path, "ALTER TABLE snapshots RENAME TO elsewhere")
    with pytest.raises(StoreUnavailable):
        await store.load("unknown")
    execute(path, "ALTER TABLE elsewhere RENAME TO snapshots")
    assert await store.load("unknown") is None
