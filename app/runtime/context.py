"""A place in a run: who speaks there, the flag above it, and the way into the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from uuid import uuid4

import anyio

from app.domain.closing import Ending, Failed, Said, Stopped, close_member, close_run
from app.domain.errors import AppendRefused, CancelIsDue, StoreUnavailable
from app.domain.events import Entry, Event, Failure, Origin, RunContent, encode
from app.domain.run import MemberRun, Run
from app.observer.facts import StoreFailed
from app.observer.telling import Observers
from app.observer.work import MemberWork, Place
from app.ports import Clock, Store
from app.runtime.budget import OVERDRAWN, Budget, Meter
from app.runtime.cancellation import CancellationFlag
from app.runtime.patience import patiently

_LOG_LIMIT = Failed(Failure("log_limit", "The run's log reached its size limit."))
_TOOL_LIMIT = Failed(Failure("tool_limit", "The run made as many tool calls as it may."))
TAKEN_OVER = Failed(Failure("interrupted", "Another replica took the run over."))
_NO_STORE = Failed(Failure("store_unavailable", "The store did not answer."))

Echo = Callable[[RunContent], Said]
"""What else is said, in the same batch, when a member says a piece."""

Flags = MutableMapping[str, CancellationFlag]
"""The flags of all runs and member runs of this replica, by run id."""


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

    @property
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
        began_at = time.monotonic()
        try:
            stored = self._store.append(self._run_id, entries)
        except StoreUnavailable:
            return self._in_turn(lambda: entries)
        if stored is not None:
            return self._see_stored(entries, stored)
        self.observers.appended(len(entries), time.monotonic() - began_at)
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
        now, first = self._clock.now(), self.run.last_event_id + 1
        return [encode(seq, now, *each) for seq, each in enumerate(said, first)]

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


@dataclass(eq=False, slots=True)
class Shared:
    """What all places in one run have in common."""

    log: RunLog
    budget: Budget
    limits: Limits
    flags: Flags
    tool_calls: set[str] = field(default_factory=set)

    @property
    def observers(self) -> Observers:
        """Who is told what happens in the run."""
        return self.log.observers


@dataclass(eq=False, slots=True)
class Context:
    """Where an agent works: the team run itself, or a member run below it.

    `work` is what observers know it by; `echo` is how a routed member's text becomes the team's.
    """

    origin: Origin
    flag: CancellationFlag
    shared: Shared
    work: Place
    echo: Echo | None = None

    @property
    def run(self) -> Run:
        """The team run, as its log stands."""
        return self.shared.log.run

    @property
    def meter(self) -> Meter:
        """Counts this agent run's tokens."""
        return self.shared.budget.meter(self.origin.run_id)

    async def emit(self, *events: Event) -> None:
        """Write events to the log, together; or be cancelled, if the flag is up.

        Whatever keeps the log from taking them ends the whole run, by its flag.
        """
        if self.flag.is_raised:
            await self.flag.check()
        said: list[Said] = list(zip(repeat(self.origin), events, strict=False))
        if self.echo is not None:
            said = [line for each in said for line in self._echoed(each)]
        try:
            if (stored := self.shared.log.write(said)) is not None:
                await stored
        except (AppendRefused, StoreUnavailable) as refusal:
            await self._heed(refusal)
        if self.shared.log.is_full:
            await self.abort_run(_LOG_LIMIT)
        if self.shared.budget.is_overdrawn:
            await self.abort_run(OVERDRAWN)

    async def close(self, ending: Ending) -> None:
        """Write this member run's end; the flag is not asked. Raises `CancelIsDue`."""
        member = self.run.members[self.origin.run_id]
        usage = self.meter.usage
        try:
            await self.shared.log.close(lambda: close_member(member, ending, usage))
        except (AppendRefused, StoreUnavailable) as refusal:
            await self._heed(refusal)

    async def _heed(self, refusal: AppendRefused | StoreUnavailable) -> None:
        if isinstance(refusal, CancelIsDue):
            raise refusal
        taken = isinstance(refusal, AppendRefused)
        await self.abort_run(TAKEN_OVER if taken else _NO_STORE)

    async def abort_run(self, cause: Failed) -> None:
        """Have the whole team run end, from wherever this is, and be cancelled."""
        self.shared.flags[self.run.run_id].raise_for(cause)
        await self.flag.check()

    def heed_cancel(self) -> None:
        """Raise the team run's flag if its log shows it up, whether or not the store has told."""
        if self.run.cancel is not None:
            self.shared.flags[self.run.run_id].raise_for(Stopped(self.run.cancel))

    @contextmanager
    def open_member(
        self, agent_id: str, agent_name: str, tool_call_id: str, echo: Echo | None
    ) -> Iterator[Context]:
        """Open a place for a member below this one; while it is open, its flag can be raised."""
        origin = Origin(
            str(uuid4()), agent_id, agent_name, self.origin.session_id, self.origin.run_id
        )
        flag = self.shared.flags[origin.run_id] = CancellationFlag(self.flag)
        work = MemberWork(self.work.team_run, origin, tool_call_id)
        place = Context(origin, flag, self.shared, work, echo)
        with self.shared.observers.doing(work):
            try:
                yield place
            finally:
                del self.shared.flags[origin.run_id]
                place.tell_end()

    def tell_end(self) -> None:
        """Name how this member's work ended, or will: where the team run ends, its closing says."""
        member = self.run.members.get(self.origin.run_id)
        flag = self.flag if self.flag.cause else self.shared.flags[self.run.run_id]
        self.work.usage, self.work.stop = self.meter.usage, self.flag.stop
        self.work.conclude(member or self.run, flag.ending(None))

    async def admit_call(self, call_id: str) -> str:
        """Count a tool call; return its id, unique in the run even if the provider's is not."""
        made = self.shared.tool_calls
        if len(made) >= self.shared.limits.max_tool_calls:
            await self.abort_run(_TOOL_LIMIT)
        name = call_id if call_id and call_id not in made else f"call_{uuid4().hex[:24]}"
        made.add(name)
        return name

    def _echoed(self, said: Said) -> Sequence[Said]:
        if self.echo is not None and isinstance(said[1], RunContent):
            return said, self.echo(said[1])
        return (said,)


async def conclude_member(context: Context, ending: Ending) -> MemberRun:
    """Write a member run's end, unless the team run is ending: then the team's closing does."""
    member = context.run.members[context.origin.run_id]
    while not member.status.is_final:
        await context.flag.check_above()
        try:
            await context.close(ending)
        except CancelIsDue:  # a flag went up in the meantime; now the run shows it
            context.heed_cancel()
    return member


async def conclude_run(log: RunLog, ending: Ending, budget: Budget) -> None:
    """Write a team run's end, everything that is open below it first."""
    while not log.run.status.is_final:
        with suppress(CancelIsDue):  # a flag went up in the meantime; now the run shows it
            await log.close(lambda: close_run(log.run, ending, budget.usages))
