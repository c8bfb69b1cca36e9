"""The clients that read from this replica now: how many, their heartbeat, and their end.

Thousands of them wait for hours, so waiting must cost next to nothing: a reader waits for the
store's hint alone, without a task, a scope or a timer of its own. One timer per process looks, ten
times in a heartbeat's length or a send's, who has been silent for so long, and wakes those; and who
has not taken for so long what is being sent, and gives those up.

Requests with `?wait=` follow a log as well, but write nothing until the end: they are counted by
themselves, so that neither kind takes the other's places.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from anyio import CancelScope
from starlette.types import Message, Send

from app.domain.errors import Overloaded
from app.ports import Hint


class TooManyReaders(Overloaded):
    """A run has as many readers as it may have."""

    code = "too_many_readers"


class ClientGone(Exception):
    """The connection is closed, and only sending over it has told."""


class Reader:
    """One client that reads a run; `patience` is cancelled when it takes nothing any more.

    `was_woken` tells that its wait was ended from here, and not by news.
    """

    __slots__ = (
        "_hint",
        "_is_writing",
        "_last_write",
        "began_at",
        "is_closing",
        "patience",
        "sent_bytes",
        "was_woken",
    )

    def __init__(self) -> None:
        self.patience = CancelScope()
        self.sent_bytes = 0
        self.began_at = time.monotonic()
        self.is_closing = False
        self.was_woken = False
        self._last_write = time.monotonic()
        self._is_writing = False
        self._hint: Hint | None = None

    async def write(self, send: Send, message: Message) -> None:
        """Send it something. Raises `ClientGone` where that cannot be.

        Over a connection that was closed a moment ago uvloop raises `RuntimeError`, others
        `OSError`.
        """
        self._last_write = time.monotonic()
        self._is_writing = True
        try:
            await send(message)
        except (OSError, RuntimeError) as error:
            raise ClientGone from error
        self._is_writing = False
        self.sent_bytes += len(message.get("body", b""))

    def heed(self, hint: Hint) -> None:
        """Let what wakes this reader be a hint that it waits for."""
        self._hint = hint

    def wake(self) -> None:
        """End its wait, or the next one."""
        if self._hint is not None:
            self.was_woken = True
            self._hint.tell()

    def look(self, now: float, heartbeat_s: float, send_timeout_s: float) -> None:
        """Wake it, or give it up, where it is time for that by the monotonic clock."""
        since = now - self._last_write
        if self._is_writing and since >= send_timeout_s:
            self.patience.cancel()
        elif not self._is_writing and since >= heartbeat_s:
            self._last_write = now  # told once, whether or not anything is written then
            self.wake()


class Readers:
    """All of them. `close` lets each read to the end of what there is, and then end.

    `max_readers` is how many streams there may be, and how many waits besides.
    """

    def __init__(
        self,
        heartbeat_s: float = 15,
        max_readers: int = 10_000,
        max_per_run: int = 1000,
        send_timeout_s: float = 30,
    ) -> None:
        self._heartbeat_s = heartbeat_s
        self._max_readers = max_readers
        self._max_per_run = max_per_run
        self._send_timeout_s = send_timeout_s
        self._streams: set[Reader] = set()
        self._waits: set[Reader] = set()
        self._per_run: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closing = False
        self._sent_bytes = 0

    @property
    def count(self) -> int:
        """How many there are now, waits included."""
        return len(self._streams) + len(self._waits)

    @property
    def streams(self) -> int:
        """How many streams there are."""
        return len(self._streams)

    @property
    def sent_bytes(self) -> int:
        """How much all streams there ever were have sent."""
        return self._sent_bytes + sum(reader.sent_bytes for reader in self._streams)

    @property
    def has_room_to_wait(self) -> bool:
        """Whether one more request may wait for a run's end."""
        return len(self._waits) < self._max_readers

    def check_room(self) -> None:
        """Raise `Overloaded` when this replica has as many readers as it takes."""
        if len(self._streams) >= self._max_readers:
            raise Overloaded("this replica has as many readers as it takes")

    def check_room_at(self, run_id: str) -> None:
        """Raise `Overloaded`; `TooManyReaders` when this run has as many as it may."""
        self.check_room()
        if self._per_run[run_id] >= self._max_per_run:
            raise TooManyReaders("this run has as many readers as it may have")

    @contextmanager
    def join(self, run_id: str) -> Iterator[Reader]:
        """Be a stream of a run while the context is open."""
        self._per_run[run_id] += 1
        self._start_timer()
        try:
            with self._one_more(self._streams) as reader:
                yield reader
        finally:
            self._per_run[run_id] -= 1
            if not self._per_run[run_id]:
                del self._per_run[run_id]

    def wait(self) -> AbstractContextManager[Reader]:
        """Be a request that waits for a run's end while the context is open."""
        return self._one_more(self._waits)

    def close(self) -> None:
        """Have every reader end cleanly, those that join from now on too."""
        self._is_closing = True
        for reader in (*self._streams, *self._waits):
            reader.is_closing = True
            reader.wake()

    @contextmanager
    def _one_more(self, among: set[Reader]) -> Iterator[Reader]:
        reader = Reader()
        reader.is_closing = self._is_closing
        among.add(reader)
        try:
            yield reader
        finally:
            among.discard(reader)
            self._sent_bytes += reader.sent_bytes

    def _start_timer(self) -> None:
        if self._timer is None:
            pause_s = min(self._heartbeat_s, self._send_timeout_s) / 10
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        for reader in self._streams:
            reader.look(now, self._heartbeat_s, self._send_timeout_s)
        if self._streams:
            self._start_timer()
