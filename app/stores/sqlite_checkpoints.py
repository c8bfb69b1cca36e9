"""Moves what was committed out of the write-ahead log into an SQLite file, beside the writer.

By default whoever commits does that, every thousand pages: two `fsync`s, in which nothing else is
stored. Every run writes into pages of its own, so under load that is several times a second
(measured with 350 runs at a model's pace: a DELETE closes the model's stream after 240 ms at p99,
and after 40 where nobody moves anything). A thread of its own holds up neither writers nor readers.

It cannot begin the log anew while commits go on all the time. The writer still does, when the log
has grown long (`sqlite_schema.py`), and finds most of the work done.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Final

import anyio
from anyio.to_thread import run_sync

from app.stores.sqlite_schema import open_again_for_writing

_PAUSE_S: Final = 0.25


@asynccontextmanager
async def checkpointing(path: Path) -> AsyncIterator[None]:
    """Do so while the context is open. Raises `sqlite3.Error`."""
    connection = await run_sync(open_again_for_writing, path)
    is_over = threading.Event()
    thread = threading.Thread(
        target=_move, args=(connection, is_over), name="sqlite checkpoints", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        with anyio.CancelScope(shield=True):
            await run_sync(thread.join)


def _move(connection: sqlite3.Connection, is_over: threading.Event) -> None:
    with closing(connection):
        while not is_over.wait(_PAUSE_S):
            with suppress(sqlite3.Error):  # a disk that takes nothing: the writer tells of it
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
