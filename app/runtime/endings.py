"""How long the ends of runs may take to be written: until they are, or until the process has to go.

A final event is written whatever is cancelled meanwhile, and again and again while the store is
away. Only a process that is about to go cannot wait for ever; what it leaves without an end is
ended by whoever comes upon it next, as after a crash.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import chain, repeat
from typing import Final

import anyio

from app.domain.errors import StoreUnavailable

_PAUSES_S: Final = 0.1, 0.2, 0.5
_PAUSE_S: Final = 1.0
"""Every pause after those."""


class Endings:
    """The ends that are being written."""

    def __init__(self) -> None:
        self._by = math.inf
        self._scopes: set[anyio.CancelScope] = set()

    async def write(self, end: Callable[[], Awaitable[None]]) -> bool:
        """Write an end as soon as the store takes it; return whether it did before the limit."""
        with anyio.CancelScope(deadline=self._by, shield=True) as scope:
            self._scopes.add(scope)
            try:
                await _insist(end)
                return True
            finally:
                self._scopes.discard(scope)
        return False

    def limit(self, seconds: float) -> None:
        """Give all of them, and those to come, so much time at most from now on."""
        self._by = min(self._by, anyio.current_time() + seconds)
        for scope in self._scopes:
            scope.deadline = self._by


async def _insist(end: Callable[[], Awaitable[None]]) -> None:
    for pause_s in chain(_PAUSES_S, repeat(_PAUSE_S)):
        with suppress(StoreUnavailable):
            await end()
            return
        await anyio.sleep(pause_s)
