"""The bodies that clients are sending now, and the end of that when the server closes.

uvicorn waits for every request that is not answered, so one client that stops in the middle of its
body would hold up the process's end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from anyio import CancelScope

from app.domain.errors import Draining


class Uploads:
    """All of them. `close` ends the reading of each that is not complete, later ones too."""

    def __init__(self) -> None:
        self._open: set[CancelScope] = set()
        self._is_closing = False

    @contextmanager
    def join(self) -> Iterator[None]:
        """Read a body while the context is open. Raises `Draining` when it is ended."""
        scope = CancelScope()
        self._open.add(scope)
        if self._is_closing:
            scope.cancel()
        try:
            with scope:
                yield
        finally:
            self._open.discard(scope)
        if scope.cancelled_caught:
            raise Draining("this replica is about to stop")

    def close(self) -> None:
        """End them; a body that is there already is still read."""
        self._is_closing = True
        for scope in self._open:
            scope.cancel()
