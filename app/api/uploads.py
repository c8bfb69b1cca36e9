"""The bodies that clients are sending now: how much they may be together, and their end.

Each is short, but thousands of clients could each send one slowly and have the process hold all of
them in memory. So there is a bound on what has come of all that are not complete; who sends more is
told that the service is busy.

uvicorn waits for every request that is not answered, so one client that stops in the middle of its
body would hold up the process's end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from anyio import CancelScope

from app.domain.errors import Draining, Overloaded

MAX_BYTES: Final = 64 * 1024 * 1024


@dataclass(slots=True)
class Upload:
    """One body that is being read."""

    _grow: Callable[[int], None]
    size: int = 0

    def grow(self, size: int) -> None:
        """Take note of so many more bytes. Raises `Overloaded` where it is too much for all."""
        self.size += size
        self._grow(size)


class Uploads:
    """All of them. `close` ends the reading of each that is not complete, later ones too.

    One alone may be as long as it likes: how long is another limit.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._open: set[CancelScope] = set()
        self._is_closing = False

    @contextmanager
    def join(self) -> Iterator[Upload]:
        """Read a body while the context is open. Raises `Draining` when it is ended."""
        scope, upload = CancelScope(), Upload(self._grow)
        self._open.add(scope)
        if self._is_closing:
            scope.cancel()
        try:
            with scope:
                yield upload
        finally:
            self._open.discard(scope)
            self._bytes -= upload.size
        if scope.cancelled_caught:
            raise Draining("this replica is about to stop")

    def close(self) -> None:
        """End them; a body that is there already is still read."""
        self._is_closing = True
        for scope in self._open:
            scope.cancel()

    def _grow(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._max_bytes and len(self._open) > 1:
            raise Overloaded("this replica is being sent as much as it takes")
