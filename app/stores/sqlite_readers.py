"""A few connections that only read an SQLite file, used from threads."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio
from anyio.to_thread import run_sync

from app.domain.errors import StoreUnavailable
from app.stores.sqlite_schema import open_for_reading

Result = TypeVar("Result")

_CONNECTIONS = 4


class Readers:
    """Reads what is committed, at most four questions at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places = anyio.CapacityLimiter(_CONNECTIONS)
        self._idle: list[sqlite3.Connection] = []
        self._is_closed = False

    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Return what a reading function returns. Raises `StoreUnavailable`."""
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        try:
            return await run_sync(self._read, work, limiter=self._places)
        except sqlite3.Error as error:
            raise StoreUnavailable("the store could not be read") from error

    def _read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        connection = self._take()
        try:
            result = work(connection)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        if self._is_closed:
            self._close_idle()
        return result

    def _take(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return open_for_reading(self._path)

    async def close(self) -> None:
        """Let the questions be answered that were asked, then close the connections."""
        self._is_closed = True
        for place in range(_CONNECTIONS):
            await self._places.acquire_on_behalf_of(place)
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


@asynccontextmanager
async def reading(path: Path) -> AsyncIterator[Readers]:
    """Open readers of a file while the context is open."""
    readers = Readers(path)
    try:
        yield readers
    finally:
        await readers.close()
