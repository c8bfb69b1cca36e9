"""What is written to the SQLite file and read from it: statements, and what they mean.

Writing functions are called inside a transaction; reading ones with a connection that only reads.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain

import msgspec

from app.domain.events import Entry, decode
from app.domain.run import Cancel, Run, RunRequest
from app.domain.snapshots import restore
from app.domain.status import Status
from app.ports import Filter
from app.stores.pages import page_of, split
from app.stores.sqlite_shared import Frames, insert_frames

_SEQ_BITS = 32


def _place(number: int, seq: int) -> int:
    return number << _SEQ_BITS | seq


@dataclass(frozen=True, slots=True)
class Stored:
    """A run and its number in the file; `run` is `None` while it has not finished."""

    number: int
    run_id: str
    run: Run | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What an append writes that says more than frames do; `status` only where it changes."""

    frames: Frames
    number: int
    new_members: Sequence[str] = ()
    status: Status | None = None
    finished_at: str | None = None
    snapshot: bytes | None = None


# --- writing --------------------------------------------------------------------------------------


def insert_run(connection: sqlite3.Connection, request: RunRequest) -> tuple[int, str]:
    """Store a pending run; return its number and id, or those of the run that has its key."""
    key = request.tenant, request.idempotency_key
    taken = connection.execute(
        "SELECT number, run_id FROM runs WHERE tenant = ? AND idempotency_key = ?", key
    ).fetchone()
    if taken is not None:
        return taken[0], taken[1]
    number = connection.execute(
        "INSERT INTO runs (run_id, tenant, team_id, session_id, idempotency_key, status)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (request.run_id, key[0], request.team_id, request.session_id, key[1], Status.PENDING),
    ).lastrowid
    text = json.dumps(asdict(request), separators=(",", ":")).encode("ascii")
    connection.execute("INSERT INTO requests VALUES (?, ?)", (number, text))
    return number or 0, request.run_id


def frames_of(number: int, entries: Sequence[Entry]) -> Frames:
    """Return the row that every append of a run writes."""
    frames = b"".join([entry.frame for entry in entries])
    return Frames((_place(number, entries[-1].seq), entries[0].seq, frames))


def insert_batch(connection: sqlite3.Connection, batch: Batch) -> None:
    """Store what an append writes that says more than frames do."""
    number = batch.number
    insert_frames(connection, [batch.frames])
    for run_id in batch.new_members:
        connection.execute("INSERT INTO members VALUES (?, ?)", (run_id, number))
    if batch.status is not None:
        connection.execute(
            "UPDATE runs SET status = ?, finished_at = ? WHERE number = ?",
            (batch.status, batch.finished_at, number),
        )
    if batch.snapshot is not None:
        connection.execute("INSERT INTO snapshots VALUES (?, ?)", (number, batch.snapshot))


def delete_oldest(connection: sqlite3.Connection, finished_before: str) -> str | None:
    """Remove the run that ended first, whole, if that was before a time; return its id."""
    oldest = connection.execute(
        "SELECT number, run_id FROM runs WHERE finished_at < ? ORDER BY finished_at LIMIT 1",
        (finished_before,),
    ).fetchone()
    if oldest is None:
        return None
    number, run_id = oldest
    _delete(connection, number)
    return str(run_id)


def delete_final(connection: sqlite3.Connection, run_id: str) -> str | None:
    """Remove the team run with this id, whole, if it has ended; return its id."""
    row = connection.execute(
        "SELECT number FROM runs WHERE run_id = ? AND finished_at IS NOT NULL", (run_id,)
    ).fetchone()
    if row is None:
        return None
    _delete(connection, row[0])
    return run_id


def secret(connection: sqlite3.Connection, name: str, made: bytes) -> bytes:
    """Return the secret under a name: the one that is there, else the one made now."""
    connection.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?)", (name, made))
    row = connection.execute("SELECT secret FROM secrets WHERE name = ?", (name,)).fetchone()
    return bytes(row[0])


def _delete(connection: sqlite3.Connection, number: int) -> None:
    connection.execute(
        "DELETE FROM frames WHERE place BETWEEN ? AND ?",
        (_place(number, 0), _place(number + 1, 0) - 1),
    )
    for table in ("members", "flags", "snapshots", "requests", "runs"):
        connection.execute(f"DELETE FROM {table} WHERE number = ?", (number,))  # noqa: S608 - ours


def touch(connection: sqlite3.Connection) -> None:
    """Write a page that says nothing new, to see whether pages are written."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.execute(f"PRAGMA user_version = {version}")


# --- reading --------------------------------------------------------------------------------------


def load(connection: sqlite3.Connection, run_id: str) -> Stored | None:
    """Return the finished team run with this id, or that has a member run with it."""
    row = connection.execute(
        "SELECT number, run_id, request, snapshot FROM runs"
        " JOIN requests USING (number) JOIN snapshots USING (number) WHERE number ="
        " coalesce((SELECT number FROM runs WHERE run_id = ?1),"
        " (SELECT number FROM members WHERE run_id = ?1))",
        (run_id,),
    ).fetchone()
    return None if row is None else _stored(*row)


def read(
    connection: sqlite3.Connection, number: int, after: int, upto: int, limit_bytes: int
) -> tuple[bytes, int]:
    """Return frames of a log behind a cursor, and the place of the last one."""
    batches = connection.execute(
        "SELECT first, frames FROM frames WHERE place > ? AND place <= ? ORDER BY place",
        (_place(number, after), _place(number, upto)),
    )
    return page_of(batches, after, limit_bytes)


def number_of(connection: sqlite3.Connection, tenant: str, run_id: str) -> int | None:
    """Return the number of a tenant's run."""
    row = connection.execute(
        "SELECT number FROM runs WHERE run_id = ? AND tenant = ?", (run_id, tenant)
    ).fetchone()
    return None if row is None else int(row[0])


def newest(
    connection: sqlite3.Connection, which: Filter, before: int, limit: int
) -> Sequence[Stored]:
    """Return runs that a list shows, newest first, with numbers below a bound."""
    branches = list(_branches(which))
    numbers = " UNION ALL ".join(
        f"SELECT * FROM (SELECT number FROM runs INDEXED BY {index} WHERE {condition}"  # noqa: S608 - ours
        " AND number < ? ORDER BY number DESC LIMIT ?)"
        for index, condition, _ in branches
    )
    values = chain.from_iterable((*given, before, limit) for _, _, given in branches)
    rows = connection.execute(
        f"SELECT number, run_id, request, snapshot FROM ({numbers})"  # noqa: S608 - ours
        " JOIN runs USING (number) JOIN requests USING (number)"
        " LEFT JOIN snapshots USING (number) ORDER BY number DESC LIMIT ?",
        (*values, limit),
    )
    return [_stored(*row) for row in rows]


def unfinished(connection: sqlite3.Connection) -> Iterator[tuple[int, Run]]:
    """Yield the runs that have no end, with their numbers, folded from their logs and flags."""
    rows = connection.execute(
        "SELECT number, request FROM runs JOIN requests USING (number) WHERE finished_at IS NULL"
    ).fetchall()
    for number, request in rows:
        yield number, _folded(connection, number, _request(request))


def _branches(which: Filter) -> Iterator[tuple[str, str, list[str]]]:
    """Yield index, condition and values of the queries whose union are the runs of a filter.

    One index leads each, in the order of the list, so none reads more than it shows, but for what
    the rarer filters leave out of it. Several statuses would have to be sorted: a query each.
    """
    condition, given = "tenant = ?", [which.tenant]
    if which.team_id is not None:
        condition, given = condition + " AND team_id = ?", [*given, which.team_id]
    if which.session_id is not None:
        condition, given = condition + " AND session_id = ?", [*given, which.session_id]
        if which.statuses:
            condition += f" AND status IN ({', '.join('?' * len(which.statuses))})"
        yield "runs_by_session", condition, [*given, *which.statuses]
    elif which.statuses:
        for status in which.statuses:
            yield "runs_by_status", condition + " AND status = ?", [*given, status]
    else:
        yield f"runs_by_{'tenant' if which.team_id is None else 'team'}", condition, given


def _stored(number: int, run_id: str, request: bytes, saved: bytes | None) -> Stored:
    run = None if saved is None else restore(_request(request), saved)
    return Stored(number, run_id, run)


def _request(text: bytes) -> RunRequest:
    return msgspec.convert(json.loads(text), RunRequest)


def _folded(connection: sqlite3.Connection, number: int, request: RunRequest) -> Run:
    """Fold a log. Flags come last: they stand beside the log, and know more than it says of them.

    A member that ended before its team's flag went up could not be folded below that flag.
    """
    run = Run(request)
    batches = connection.execute(
        "SELECT frames FROM frames WHERE place BETWEEN ? AND ? ORDER BY place",
        (_place(number, 0), _place(number + 1, 0) - 1),
    )
    for (frames,) in batches:
        for frame in split(frames):
            run.apply(decode(frame))
    flags = connection.execute(
        "SELECT run_id, requested_at, reason, by FROM flags WHERE number = ?", (number,)
    )
    for run_id, *cancel in flags:
        run.members.get(run_id, run).cancel = Cancel(*cancel)
    return run
