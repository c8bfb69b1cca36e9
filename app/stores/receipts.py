"""What a store gives for a batch that it has taken, and has not stored yet."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any


class Receipt:
    """Awaited until the batch is stored; raises why it is not.

    A wait that is cancelled says nothing of the batch, and the receipt may be awaited again: a
    future would be cancelled with it, and `asyncio.shield` takes ten calls and another turn of the
    event loop. By one task at a time.
    """

    __slots__ = ("_error", "_is_settled", "_loop", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_settled = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def settle(self, error: Exception | None = None) -> None:
        """Tell whoever waits that it is stored, or why not."""
        self._is_settled, self._error = True, error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __await__(self) -> Generator[Any, None, None]:
        if not self._is_settled:
            self._waiter = self._loop.create_future()
            yield from self._waiter
        if self._error is not None:
            raise self._error
