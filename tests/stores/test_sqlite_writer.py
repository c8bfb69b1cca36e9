"""How the writer of an SQLite file gathers what is to be written."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

import anyio
import pytest

from app.domain.run import RunRequest
from app.stores.sqlite_rows import insert_run, touch
from app.stores.sqlite_schema import open_for_writing
from app.stores.sqlite_shared import MOST_ROWS, Flag, Frames
from app.stores.sqlite_writer import Unit, Writer

pytestmark = pytest.mark.anyio


async def test_words_that_come_right_behind_a_transaction_share_the_next(tmp_path: Path) -> None:
    connection = open_for_writing(tmp_path / "runs.db")
    commits: list[str] = []
    connection.set_trace_callback(
        lambda statement: commits.append(statement) if statement == "COMMIT" else None
    )
    writer = Writer(connection, gather_s=0.05)
    await writer.run(touch)
    left, all_stored = set(range(20)), anyio.Event()

    def stored(which: int, _: None) -> None:
        left.discard(which)
        if not left:
            all_stored.set()

    for which in range(20):
        writer.hand_over(Unit(touch, partial(stored, which), _fail, by=which))
        await anyio.lowlevel.checkpoint()  # in a turn of the event loop of its own
    with anyio.fail_after(10):
        await all_stored.wait()
    assert 2 <= len(commits) <= 10
    await writer.close()
    connection.close()


def _tell(stored: anyio.Event, _: None) -> None:
    stored.set()


def _fail(error: Exception) -> None:
    raise error


async def test_flags_that_come_together_are_stored_in_two_statements(tmp_path: Path) -> None:
    connection = open_for_writing(tmp_path / "runs.db")
    writer = Writer(connection)
    at = "2026-11-22T09:57:12.123Z"
    for run_id in ("r1", "r2"):
        request = RunRequest(run_id, "team", "Team", "x", at, timeout_s=1)
        await writer.run(partial(insert_run, request=request))
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    async with anyio.create_task_group() as group:
        group.start_soon(writer.run, Flag((1, "r1", at, "enough", "request"), is_team=True))
        group.start_soon(writer.run, Flag((2, "m2", at, None, "request"), is_team=False))
    assert [each.split()[0] for each in statements] == ["BEGIN", "INSERT", "UPDATE", "COMMIT"]
    flags = connection.execute("SELECT run_id, reason FROM flags ORDER BY run_id").fetchall()
    assert flags == [("m2", None), ("r1", "enough")]
    status = connection.execute("SELECT status FROM runs ORDER BY number").fetchall()
    assert status == [("cancelling",), ("pending",)]
    await writer.close()
    connection.close()


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


async def test_a_hurry_takes_those_along_who_would_wait(tmp_path: Path) -> None:
    connection = open_for_writing(tmp_path / "runs.db")
    writer = Writer(connection, gather_s=60)
    first, second = anyio.Event(), anyio.Event()
    with anyio.fail_after(10):
        writer.hand_over(Unit(touch, partial(_tell, first), _fail, by="a"))
        await first.wait()
        writer.hand_over(Unit(touch, partial(_tell, second), _fail, by="b"))
        writer.hurry()
        await second.wait()
    await writer.close()
    connection.close()
