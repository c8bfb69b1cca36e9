"""What the upstream remembers of a request, and how a test waits for it without sleeping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from tests.upstream.steps import Json


class News:
    """Lets anybody wait for a condition whose changes are told."""

    def __init__(self) -> None:
        self._change = asyncio.Event()

    def tell(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    async def until(self, is_true: Callable[[], bool]) -> None:
        while not is_true():
            await self._change.wait()


class Exchange:
    """One request and what became of it. Times are `time.perf_counter()`, also comparable
    between processes of one Linux machine.

    `is_complete`: the reply went to its own end. `closed_at`: when the client's socket closed
    under a reply that had not ended; `None` where it ended before, in whatever way its plan says.
    """

    def __init__(
        self, number: int, connection: int, headers: Mapping[str, str], body: Json
    ) -> None:
        self.number = number
        self.connection = connection
        self.headers = headers
        self.body = body
        self.started_at = time.perf_counter()
        self.delta_times: list[float] = []
        self.is_over = False
        self.is_complete = False
        self.closed_at: float | None = None
        self._news = News()

    @property
    def deltas(self) -> int:
        """How many deltas were written."""
        return len(self.delta_times)

    async def wrote(self, deltas: int) -> None:
        """Return when that many deltas were written."""
        await self._news.until(lambda: self.deltas >= deltas)

    async def closed(self) -> float:
        """Return when the client's socket closed under this reply: `closed_at`."""
        await self._news.until(lambda: self.closed_at is not None)
        assert self.closed_at is not None
        return self.closed_at

    async def over(self) -> None:
        """Return when the reply ended, in any way."""
        await self._news.until(lambda: self.is_over)

    def add_delta(self) -> None:
        self.delta_times.append(time.perf_counter())
        self._news.tell()

    def end(self, *, complete: bool = False, closed: bool = False) -> None:
        """Only the first end counts."""
        if not self.is_over:
            self.is_over, self.is_complete = True, complete
            self.closed_at = time.perf_counter() if closed else None
            self._news.tell()


class Journal:
    """Everything that came to an upstream: requests, open sockets, errors of its script."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.errors: list[BaseException] = []
        self.open_connections = 0
        self.connections_made = 0
        self.news = News()

    def connected(self) -> int:
        """Count a new connection; return its number."""
        self.open_connections += 1
        self.connections_made += 1
        return self.connections_made

    def disconnected(self) -> None:
        self.open_connections -= 1
        self.news.tell()

    def took(self, connection: int, headers: Mapping[str, str], body: Json) -> Exchange:
        exchange = Exchange(len(self.exchanges) + 1, connection, headers, body)
        self.exchanges.append(exchange)
        self.news.tell()
        return exchange

    def ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append(error)
        self.news.tell()
