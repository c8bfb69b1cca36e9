"""What the tests of the SQLite store have in common."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.domain.events import (
    Entry,
    Event,
    RunCompleted,
    RunStarted,
    Usage,
    encode,
)
from app.domain.run import Cancel, Run
from app.stores.sqlite import SqliteStore
from tests import laws
from tests.contract.test_store import ALL, NOW, request_for, write

STOP = Cancel(NOW, "why")
COMPLETED = RunCompleted("", "stop", Usage())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have another program hold the file's write lock: nothing is committed meanwhile."""
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


def entries_for(run: Run, *events: Event) -> Sequence[Entry]:
    return [encode(seq, NOW, run.origin, e) for seq, e in enumerate(events, run.last_event_id + 1)]


async def running(store: SqliteStore) -> Run:
    run = await store.create(request_for())
    await write(store, run, RunStarted("m"))
    return run


async def log_of(store: SqliteStore, run: Run) -> list[laws.LogEvent]:
    page = await store.read(run.run_id, 0, ALL)
    return laws.parse(page.frames)


class Outcome:
    """What became of something that was asked for in a task of its own."""

    def __init__(self) -> None:
        self.result: object = "none yet"

    async def keep(self, asked: Callable[[], Awaitable[object]]) -> None:
        try:
            self.result = await asked()
        except Exception as error:  # the outcome
            self.result = error


def execute(path: Path, statement: str) -> None:
    """Change the file as another program would."""
    file = sqlite3.connect(path, isolation_level=None)
    file.execute(statement)
    file.close()
