"""How the writer of an SQLite file gathers what is to be written."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

import anyio
import pytest

from app.stores.sqlite_rows import MOST_ROWS, Frames, touch
from app.stores.sqlite_schema import open_for_writing
from app.stores.sqlite_writer import Unit, Writer

pytestmark = pytest.mark.anyio


async def test_what_comes_right_behind_a_transaction_shares_the_next(tmp_path: Path) -> None:
    connection = open_for_writing(tmp_path / "runs.db")
    commits: list[str] = []
    connection.set_trace_callback(
        lambda statement: commits.append(statement) if statement == "COMMIT" else None
    )
    writer = Writer(connection)
    await writer.run(touch)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(writer.run, touch)
            await anyio.lowlevel.checkpoint()  # in a turn of the event loop of its own
    assert 2 <= len(commits) <= 10
    await writer.close()
    connection.close()


async def test_a_run_that_comes_right_behind_itself_does_not_wait_for_others(
    tmp_path: Path,
) -> None:
    connection = open_for_writing(tmp_path / "runs.db")
    writer = Writer(connection, gather_s=2)
    with anyio.fail_after(10):  # a wait before each would be 40 s
        for _ in range(20):
            stored = anyio.Event()
            writer.hand_over(Unit(touch, partial(_tell, stored), _fail, by="run"))
            await stored.wait()
    await writer.close()
    connection.close()


def _tell(stored: anyio.Event, _: None) -> None:
    stored.set()


def _fail(error: Exception) -> None:
    raise error


async def test_rows_share_a_statement_and_one_that_is_refused_takes_no_other_along(
    tmp_path: Path,
) -> None:
    connection = open_for_writing(tmp_path / "runs.db")
    writer = Writer(connection)
    refused: list[int] = []

    async def store(place: int) -> None:
        try:
            await writer.run(Frames((place, 1, b"frames")))
        except sqlite3.IntegrityError:
            refused.append(place)

    for places in ((1, 2, 2, 3), range(4, MOST_ROWS + 7)):
        async with anyio.create_task_group() as group:
            for place in places:
                group.start_soon(store, place)
    assert refused == [2]
    stored = connection.execute("SELECT place FROM frames ORDER BY place").fetchall()
    assert [place for (place,) in stored] == list(range(1, MOST_ROWS + 7))
    await writer.close()
    connection.close()
