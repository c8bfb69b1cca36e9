"""The SQLite file: its tables, its versions, and how it is opened.

- `runs` is thin, because its rows are what statuses change and lists look through; texts of any
  length (`requests`, `snapshots`) stand beside it. A run that has not finished has no snapshot.
- `frames` has one row per run and commit. Its key is place = number of the run * 2^32 + seq of the
  row's last frame, so a log lies together in the file, a cursor is a range, and there is no second
  index to write.
- `synchronous=NORMAL` in WAL mode: what was acknowledged survives kill -9 (not a power cut) and is
  15 times cheaper than FULL. `sqlite_checkpoints.py` copies the write-ahead log into the file.
- `user_version` counts the migrations that were done; `application_id` keeps us from writing into
  somebody else's database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from app.domain.errors import ConfigurationError

BUSY_TIMEOUT_S: Final = 1.5
"""How long a statement waits for a lock of another process; everybody is answered within 2 s."""

_LONG_LOG_PAGES: Final = 32_768
"""How long the write-ahead log grows, 64 MB, until a commit begins it anew; see `checkpointing`."""

_PAGE_BYTES: Final = 2048
"""Half of SQLite's default: every run writes to a page of its own, and each commit copies it whole.

With 100 runs at a model's pace an event costs a tenth less CPU, the processor's caches being spared
as well; 1024 gains nothing more.
"""

_APPLICATION_ID: Final = 0x7465616D  # "team"

MIGRATIONS: Final = (
    """
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,  -- a swept run's number is never used again
        run_id TEXT NOT NULL UNIQUE,
        tenant TEXT NOT NULL,
        team_id TEXT NOT NULL,
        session_id TEXT,
        idempotency_key TEXT,
        status TEXT NOT NULL,
        finished_at TEXT
    );
    CREATE INDEX runs_by_tenant ON runs (tenant, number);
    CREATE INDEX runs_by_status ON runs (tenant, status, number);
    CREATE INDEX runs_by_team ON runs (tenant, team_id, number);
    CREATE INDEX runs_by_session ON runs (tenant, session_id, number);
    CREATE INDEX runs_by_end ON runs (finished_at);
    CREATE UNIQUE INDEX runs_by_key ON runs (tenant, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
    CREATE TABLE requests (number INTEGER PRIMARY KEY, request BLOB NOT NULL);
    CREATE TABLE snapshots (number INTEGER PRIMARY KEY, snapshot BLOB NOT NULL);
    CREATE TABLE members (run_id TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX members_by_number ON members (number);
    CREATE TABLE flags (
        number INTEGER NOT NULL,
        run_id TEXT NOT NULL,
        requested_at TEXT NOT NULL,
        reason TEXT,
        by TEXT NOT NULL,
        PRIMARY KEY (number, run_id)
    ) WITHOUT ROWID;
    CREATE TABLE frames (place INTEGER PRIMARY KEY, first INTEGER NOT NULL, frames BLOB NOT NULL);
    """,
    """
    CREATE TABLE secrets (name TEXT PRIMARY KEY, secret BLOB NOT NULL) WITHOUT ROWID;
    """,
)
"""What leads from one version to the next; a new one is appended, none is ever changed."""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the file, made or migrated as needed. Raises `ConfigurationError`."""
    with refusals(path):
        connection = _connect(f"{path.absolute().as_uri()}?mode=rwc")
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def open_again_for_writing(path: Path) -> sqlite3.Connection:
    """Open a file that is open for writing already, once more. Raises `sqlite3.Error`."""
    return _connect(f"{path.absolute().as_uri()}?mode=rw")


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a file that is open for writing already, once more. Raises `sqlite3.Error`."""
    return _connect(f"{path.absolute().as_uri()}?mode=ro")


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turn what a file that cannot be used raises into one clear sentence."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise ConfigurationError(f"the store's file {path} cannot be opened: {error}") from error
    except sqlite3.Error as error:
        raise ConfigurationError(f"the store's file {path} cannot be used: {error}") from error
    except (ValueError, KeyError, msgspec.MsgspecError) as error:
        raise ConfigurationError(f"the store's file {path} holds a run that is damaged") from error


def _connect(uri: str) -> sqlite3.Connection:
    """Connections go from thread to thread, one at a time; transactions are written out."""
    return sqlite3.connect(
        uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = _pragma(connection, "user_version")
    owner = _pragma(connection, "application_id")
    is_empty = not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if owner != _APPLICATION_ID and not is_empty:
        raise ConfigurationError(f"{path} is a database, but not one of this service")
    if version > len(MIGRATIONS):
        raise ConfigurationError(
            f"{path} was written by a newer version of this service"
            f" (schema {version}, this one knows {len(MIGRATIONS)})"
        )
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # heeded by a new file alone
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LONG_LOG_PAGES}")
    for number, migration in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {migration} PRAGMA application_id = {_APPLICATION_ID};"
            f" PRAGMA user_version = {number}; COMMIT"
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
