"""Files of earlier versions of the service."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.domain.events import RunCancelled, RunCancelRequested, Usage
from app.domain.run import Cancel
from app.stores.sqlite import SqliteStore
from app.stores.sqlite_schema import MIGRATIONS, open_for_writing
from tests.contract.test_store import NOW, complete, request_for, write

pytestmark = pytest.mark.anyio


UNDO = ("DROP TABLE secrets",)
"""What leads back from a version to the one before it, from version 2 on."""


def take_back(path: Path, version: int) -> None:
    """Make a file one of an earlier version."""
    with closing(sqlite3.connect(path)) as file, closing(sqlite3.connect(":memory:")) as earlier:
        for undo in reversed(UNDO[version - 1 :]):
            file.executescript(undo)
        file.execute(f"PRAGMA user_version = {version}")
        for migration in MIGRATIONS[:version]:
            earlier.executescript(migration)
        assert schema(file) == schema(earlier)


def schema(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    return set(connection.execute("SELECT name, sql FROM sqlite_schema"))


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
async def test_a_file_of_an_earlier_version_is_brought_up_to_date(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "runs.db"
    async with SqliteStore(path) as store:
        run = await store.create(request_for())
        await complete(store, run)
    take_back(path, version)
    async with SqliteStore(path) as store:
        kept = await store.load(run.run_id)
        assert kept is not None
        assert kept.status.is_final
        assert len(await store.secret("tickets")) == 32
        await store.purge(run.run_id)
    with closing(open_for_writing(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


async def test_a_purged_run_leaves_no_row(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with SqliteStore(path) as store:
        run = await store.create(request_for(session_id="s"))
        await store.request_cancel(run.run_id, Cancel(NOW, None))
        await write(
            store, run, RunCancelRequested(None, "request"), RunCancelled("", None, Usage())
        )
        await store.purge(run.run_id)
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name != 'sqlite_sequence'"
        ).fetchall()
        for (table,) in tables:
            rows = connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - its own
            assert rows == [], table


async def test_a_file_with_larger_pages_goes_on_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with SqliteStore(path) as store:
        run = await store.create(request_for())
        await complete(store, run)
    assert page_bytes(path) == 2048
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        for step in ("PRAGMA journal_mode = DELETE", "PRAGMA page_size = 4096", "VACUUM"):
            file.execute(step).fetchall()
    async with SqliteStore(path) as store:
        assert await store.load(run.run_id) is not None
        await complete(store, await store.create(request_for()))
    assert page_bytes(path) == 4096


def page_bytes(path: Path) -> int:
    with closing(sqlite3.connect(path)) as file:
        return int(file.execute("PRAGMA page_size").fetchone()[0])
