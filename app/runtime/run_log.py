"""The writing end of a run's log, and the bounds of a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import anyio

from app.domain.closing import Said
from app.domain.errors import AppendRefused, CancelIsDue, StoreUnavailable
from app.domain.events import Entry, encode
from app.domain.run import Run
from app.observer.facts import StoreFailed
from app.observer.telling import Observers
from app.ports import Clock, Store
from app.runtime.patience import patiently


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of every run. Seconds, bytes and counts."""

    timeout_s: float = 900.0
    model_idle_timeout_s: float = 300.0
    max_turns: int = 20
    max_tool_calls: int = 100
    max_parallel_members: int = 8
    max_log_bytes: int = 50_000_000
    session_max_chars: int = 100_000
    store_patience_s: float = 5.0


class RunLog:
    """The writing end of one run's log: gives events their places, and hands them to the store.

    One batch at a time: a batch that is refused leaves no gap, because none follows it yet. A batch
    of which the store did not say whether it has it goes again, as it was, before anything else:
    it was said, and its places are taken or will be.
    """

    __slots__ = (
        "_clock",
        "_limits",
        "_one_at_a_time",
        "_run_id",
        "_store",
        "_unsettled",
        "_writers",
        "observers",
        "run",
    )

    def __init__(
        self, run: Run, store: Store, clock: Clock, limits: Limits, observers: Observers
    ) -> None:
        self.run = run
        self._run_id = run.run_id
        self.observers = observers
        self._store = store
        self._clock = clock
        self._limits = limits
        self._one_at_a_time = asyncio.Lock()
        self._writers = 0
        self._unsettled: Sequence[Entry] = ()

    def is_full(self) -> bool:
        """Whether the log has grown beyond its limit; only what closes the run is written then."""
        return self.run.log_bytes > self._limits.max_log_bytes

    def write(self, said: Sequence[Said]) -> Awaitable[None] | None:
        """Store events together, in one atomic step; raises what the store raises.

        Returns `None` when they are stored already, which takes neither a coroutine nor a turn;
        else what raises in its place, to be awaited at once. A store that does not answer is asked
        again for a while, which holds the model's stream back and nothing else.
        """
        if self._writers or self._unsettled:
            return self._in_turn(partial(self._placed, said))
        entries = self._placed(said)
        try:
            stored = self._store.append(self._run_id, entries)
        except StoreUnavailable:
            return self._in_turn(lambda: entries)
        if stored is not None:
            return self._see_stored(entries, stored)
        self.observers.appended(len(entries), 0.0)
        return None

    async def close(self, closing: Callable[[], Sequence[Said]]) -> None:
        """Store what closes a run, decided when all that was said before it is stored."""
        await self._in_turn(lambda: self._placed(closing()))

    async def _see_stored(self, entries: Sequence[Entry], handed_over: Awaitable[None]) -> None:
        """Wait for what was handed over: it has the turn, for nobody else was at it."""
        self._writers += 1
        await self._one_at_a_time.acquire()
        try:
            await self._append(entries, handed_over)
        except StoreUnavailable:
            await self._insist(entries)
        finally:
            self._one_at_a_time.release()
            self._writers -= 1

    async def _in_turn(self, place: Callable[[], Sequence[Entry]]) -> None:
        """Store what has its places when it is its turn."""
        self._writers += 1
        try:
            async with self._one_at_a_time:
                if self._unsettled:
                    with suppress(CancelIsDue):  # it was an end that is not to be any more
                        await self._insist(self._unsettled)
                if entries := place():
                    await self._insist(entries)
        finally:
            self._writers -= 1

    def _placed(self, said: Sequence[Said]) -> Sequence[Entry]:
        now, seq = self._clock.now(), self.run.last_event_id
        entries: list[Entry] = []
        for origin, event in said:  # no comprehension: in Python 3.11 that is a function's call
            seq += 1
            entries.append(encode(seq, now, origin, event))
        return entries

    def _insist(self, entries: Sequence[Entry]) -> Awaitable[None]:
        return patiently(partial(self._append, entries), self._limits.store_patience_s)

    async def _append(
        self, entries: Sequence[Entry], handed_over: Awaitable[None] | None = None
    ) -> None:
        self._unsettled = entries
        began_at = time.monotonic()
        try:
            stored = handed_over or self._store.append(self._run_id, entries)
            if stored is not None:
                await _answer(stored)
        except (AppendRefused, asyncio.CancelledError):  # the latter came while it was stored
            self._unsettled = ()
            raise
        except StoreUnavailable:
            self.observers.note(StoreFailed())
            raise
        self._unsettled = ()
        self.observers.appended(len(entries), time.monotonic() - began_at)


async def _answer(stored: Awaitable[None]) -> None:
    """Wait for what was handed over, also when cancelled; a scope for each would cost 10 µs."""
    try:
        await stored
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            await stored
        raise
