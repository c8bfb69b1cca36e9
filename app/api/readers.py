"""The clients that read from this replica now: how many, their heartbeat, and their end.

Thousands of them wait for hours, so waiting must cost next to nothing: a reader waits for the
store's hint alone, without a task, a scope or a timer of its own. One timer per process looks, ten
times in a heartbeat's length, who has been silent for so long, and wakes those.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.api.problems import Refused
from app.domain.errors import Overloaded
from app.ports import Hint


class Reader:
    """One client that reads a run. It is silent from the last time it was written to."""

    def __init__(self) -> None:
        self._silent_since = time.monotonic()
        self._waits_for: Hint | None = None
        self._was_woken = False
        self.is_closing = False

    def wrote(self) -> None:
        """Take note that the client was just sent something."""
        self._silent_since = time.monotonic()

    async def wait(self, hint: Hint) -> bool:
        """Wait for a hint; return False after a heartbeat's silence, or when it is time to end."""
        if self.is_closing:
            return False
        self._waits_for = hint
        try:
            await hint.wait()
        finally:
            self._waits_for = None
        was_woken, self._was_woken = self._was_woken, False
        return not was_woken

    def is_silent(self, since: float) -> bool:
        """Whether it waits and was not written to after this moment of the monotonic clock."""
        return self._waits_for is not None and self._silent_since <= since

    def wake(self) -> None:
        """End its wait, if it waits."""
        if self._waits_for is not None:
            self._was_woken = True
            self._waits_for.tell()


class Readers:
    """All of them. `close` lets each read to the end of what there is, and then end."""

    def __init__(
        self, heartbeat_s: float = 15, max_readers: int = 10_000, max_per_run: int = 1000
    ) -> None:
        self._heartbeat_s = heartbeat_s
        self._max_readers = max_readers
        self._max_per_run = max_per_run
        self._open: set[Reader] = set()
        self._per_run: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closing = False

    @property
    def count(self) -> int:
        """How many there are now."""
        return len(self._open)

    def check_room(self) -> None:
        """Raise `Overloaded` when this replica has as many readers as it takes."""
        if len(self._open) >= self._max_readers:
            raise Overloaded("this replica has as many readers as it takes")

    def check_room_at(self, run_id: str) -> None:
        """Raise `Overloaded`, or `Refused` when this run has as many readers as it may."""
        self.check_room()
        if self._per_run[run_id] >= self._max_per_run:
            raise Refused("too_many_readers", "this run has as many readers as it may have")

    @contextmanager
    def join(self, run_id: str) -> Iterator[Reader]:
        """Be one of them while the context is open."""
        reader = Reader()
        reader.is_closing = self._is_closing
        self._open.add(reader)
        self._per_run[run_id] += 1
        self._start_timer()
        try:
            yield reader
        finally:
            self._open.discard(reader)
            self._per_run[run_id] -= 1
            if not self._per_run[run_id]:
                del self._per_run[run_id]

    def close(self) -> None:
        """Have every reader end cleanly, those that join from now on too."""
        self._is_closing = True
        for reader in self._open:
            reader.is_closing = True
            reader.wake()

    def _start_timer(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._heartbeat_s / 10, self._tick)

    def _tick(self) -> None:
        self._timer = None
        since = time.monotonic() - self._heartbeat_s
        for reader in self._open:
            if reader.is_silent(since):
                reader.wake()
        if self._open:
            self._start_timer()
