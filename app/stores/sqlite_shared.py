"""Rows that many runs have at once: work that the writer does for all of them in one statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import msgspec

from app.domain.status import Status

MOST_ROWS = 1000
"""How many rows a statement inserts: SQLite takes 32,766 values."""

Row = TypeVar("Row")


class Frames(msgspec.Struct, frozen=True):
    """Frames of a log, as a row of their table; work that others may do with their own."""

    row: tuple[int, int, bytes]

    def __call__(self, connection: sqlite3.Connection) -> None:
        """Store them alone."""
        insert_frames(connection, [self])


@dataclass(frozen=True, slots=True)
class Flag:
    """The flag of a team run, or of a member run, as a row; work for several like `Frames`."""

    row: tuple[int, str, str, str | None, str]
    is_team: bool

    def __call__(self, connection: sqlite3.Connection) -> None:
        """Store it alone."""
        insert_flags(connection, [self])


def insert_frames(connection: sqlite3.Connection, frames: Sequence[Frames]) -> None:
    """Store rows, up to `MOST_ROWS` in a statement."""
    for some in _portions(frames):
        _insert(connection, "frames", [each.row for each in some])


def insert_flags(connection: sqlite3.Connection, flags: Sequence[Flag]) -> None:
    """Store flags, up to `MOST_ROWS` in two statements."""
    for some in _portions(flags):
        _insert(connection, "flags", [each.row for each in some])
        teams = [each.row[0] for each in some if each.is_team]
        marks = ", ".join("?" * len(teams))
        connection.execute(
            f"UPDATE runs SET status = ? WHERE number IN ({marks})",  # noqa: S608 - as in `_insert`
            [Status.CANCELLING, *teams],
        )


def _portions(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for begin in range(0, len(rows), MOST_ROWS):
        yield rows[begin : begin + MOST_ROWS]


def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    marks = ", ".join([f"({', '.join('?' * len(rows[0]))})"] * len(rows))
    statement = f"INSERT INTO {table} VALUES {marks}"  # noqa: S608 - only question marks are joined in
    connection.execute(statement, list(chain.from_iterable(rows)))
