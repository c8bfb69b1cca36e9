"""Who waits for news of which run, inside this process.

A hint says "look again", never what is new: a reader that is told too often reads an empty page, so
hints may be lost, doubled or merged without harm to anybody.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Signal:
    """A hint for one waiter: told while nobody waits, it lets the next wait pass at once."""

    __slots__ = ("_loop", "_told", "_waiter")

    def __init__(self) -> None:
        self._told = False
        self._waiter: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def tell(self) -> None:
        """Wake the waiter, now or as soon as there is one."""
        if self._waiter is None or self._waiter.done():
            self._told = True
        else:
            self._waiter.set_result(None)

    def wait(self) -> asyncio.Future[None]:
        """Return what is done when told since the last `wait`."""
        if self._loop is None:  # asked for once: Python 3.11 makes a system call for the answer
            self._loop = asyncio.get_running_loop()
        self._waiter = self._loop.create_future()
        if self._told:
            self._told = False
            self._waiter.set_result(None)
        return self._waiter


class Watchers:
    """The signals of all readers in this process, by run."""

    def __init__(self) -> None:
        self._signals: defaultdict[str, set[Signal]] = defaultdict(set)

    @contextmanager
    def watch(self, run_id: str) -> Iterator[Signal]:
        """Yield a signal that is told of a run's changes while the context is open."""
        signal = Signal()
        self._signals[run_id].add(signal)
        try:
            yield signal
        finally:
            self._signals[run_id].discard(signal)
            if not self._signals[run_id]:
                del self._signals[run_id]

    def tell(self, run_id: str) -> None:
        """Wake everybody who watches a run."""
        for signal in self._signals.get(run_id, ()):
            signal.tell()
