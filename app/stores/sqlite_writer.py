"""One thread that writes to an SQLite file, and commits in groups.

What is handed over during one turn of the event loop, and while the last commit was made, goes
into one transaction: whole units of work only, in the order they came. All its acknowledgements
come back to the event loop in one call, so a commit costs two hops for however many it serves.
The hops cost more than the writing, so words wait for one another (`gathering.py`; at a model's
pace, with 100 runs, a fifth of an event's CPU), and nothing else does.

Batches of frames, which nearly all units are, are stored in one statement. Each statement gives the
interpreter away and waits for it, 5 ms where the event loop has always something to do; one for
each would make a commit of twenty take a tenth of a second. So are flags, of which as many may come
in one moment as there are runs.

The thread survives every failure. A transaction that the store refuses (locked, full, broken)
fails for everybody in it, and for whoever came meanwhile and would wait as long for the same; one
that fails by the fault of one unit is done again unit by unit.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

import anyio
import msgspec
from anyio.to_thread import run_sync

from app.domain.errors import StoreUnavailable
from app.stores.gathering import Gathering
from app.stores.sqlite_shared import MOST_ROWS, Flag, Frames, insert_flags, insert_frames

logger = logging.getLogger(__name__)

GATHER_S: Final = 0.006
"""The least time between two transactions of words, where they are not slower by themselves."""

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]
"""Writes, inside a transaction that somebody else begins and commits; may be called twice."""


class Unit(msgspec.Struct, Generic[Result], frozen=True):
    """Work, and what is to be done on the event loop when it is stored, or when it failed.

    It can wait for others if it says `by` whom it is handed over; see `Gathering.add`.
    """

    work: Work[Result]
    stored: Callable[[Result], None]
    failed: Callable[[Exception], None]
    by: object = None


class Writer:
    """The writing end of a file; its public methods are for the event loop's thread."""

    def __init__(self, connection: sqlite3.Connection, gather_s: float = GATHER_S) -> None:
        """Write to this connection, which nobody else uses until the writer is closed.

        `gather_s` is the least time between two transactions, in seconds.
        """
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._queue = SimpleQueue[Sequence[Unit[Any]]]()
        self._gathering = Gathering[Unit[Any]](gather_s, self._send)
        self._open_units = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._write, name="sqlite writer", daemon=True)
        self._thread.start()

    def hand_over(self, unit: Unit[Result]) -> None:
        """Have a unit stored."""
        if self._is_closed:
            unit.failed(StoreUnavailable("the store is closed"))
            return
        self._gathering.add(unit, unit.by)
        self._open_units += 1

    def hurry(self) -> None:
        """Send what is gathered at the next turn of the event loop."""
        self._gathering.hurry()

    async def run(self, work: Work[Result]) -> Result:
        """Return what work returns, when it is stored. Raises `StoreUnavailable`."""
        answer: asyncio.Future[Result] = self._loop.create_future()
        self.hand_over(Unit(work, partial(resolve, answer), partial(reject, answer)))
        return await answer

    async def close(self) -> None:
        """Store what was handed over, and what is handed over in consequence; end the thread."""
        with anyio.CancelScope(shield=True):
            while self._open_units:
                with suppress(StoreUnavailable):
                    await self.run(_nothing)
            self._is_closed = True
            self._queue.put(())
            await run_sync(self._thread.join)

    def _send(self) -> None:
        self._queue.put(self._gathering.take())

    def _settle(self, settled: Sequence[Callable[[], None]]) -> None:
        for tell in settled:
            self._open_units -= 1
            try:
                tell()
            except Exception:
                logger.exception("an acknowledgement failed")

    # --- in the thread ----------------------------------------------------------------------------

    def _write(self) -> None:
        while units := [*self._queue.get()]:
            settled = self._attempt(units + self._waiting())
            with suppress(RuntimeError):  # the loop is closed: there is nobody left to be told
                self._loop.call_soon_threadsafe(self._settle, settled)

    def _attempt(self, units: list[Unit[Any]]) -> list[Callable[[], None]]:
        """Store units together; return what their acknowledgements are."""
        try:
            results = self._commit(units)
        except Exception as error:
            if _is_the_stores(error):
                logger.warning("the store's file takes nothing: %s", error)
                return [partial(_refuse, unit) for unit in units + self._waiting()]
            if len(units) == 1:
                return [partial(units[0].failed, error)]
            return [told for unit in units for told in self._attempt([unit])]
        return [partial(unit.stored, each) for unit, each in zip(units, results, strict=True)]

    def _commit(self, units: list[Unit[Any]]) -> list[Any]:
        connection = self._connection
        frames = [unit.work for unit in units if isinstance(unit.work, Frames)]
        if len(frames) == len(units) <= MOST_ROWS:  # a statement alone is a transaction
            insert_frames(connection, frames)
            return [None] * len(units)
        connection.execute("BEGIN IMMEDIATE")
        try:
            insert_frames(connection, frames)
            insert_flags(connection, [unit.work for unit in units if isinstance(unit.work, Flag)])
            results = [_carry_out(unit.work, connection) for unit in units]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return results

    def _waiting(self) -> list[Unit[Any]]:
        waiting: list[Unit[Any]] = []
        with suppress(Empty):
            while True:
                waiting += self._queue.get_nowait()
        return waiting


def resolve(answer: asyncio.Future[Result], result: Result) -> None:
    """Give a result to whoever waits, if anybody still does."""
    if not answer.done():
        answer.set_result(result)


def reject(answer: asyncio.Future[Any], error: Exception) -> None:
    """Give an error to whoever waits, if anybody still does."""
    if not answer.done():
        answer.set_exception(error)


def _refuse(unit: Unit[Any]) -> None:
    unit.failed(StoreUnavailable("the store did not take it"))


def _is_the_stores(error: Exception) -> bool:
    """Whether an error is the file's or the machine's, not that of what was to be written."""
    return type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError)


def _carry_out(work: Work[Any], connection: sqlite3.Connection) -> Any:
    """Do what was not done together with others of its kind."""
    return None if isinstance(work, Frames | Flag) else work(connection)


def _nothing(_: sqlite3.Connection) -> None:
    pass
