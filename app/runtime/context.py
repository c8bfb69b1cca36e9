"""A place in a run: who speaks there, the flag above it, and the way into the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from uuid import uuid4

from app.domain.closing import Ending, Failed, Said, Stopped, close_member, close_run
from app.domain.errors import AppendRefused, CancelIsDue, StoreUnavailable
from app.domain.events import Event, Failure, Origin, RunContent
from app.domain.run import MemberRun, Run
from app.observer.telling import Observers
from app.observer.work import MemberWork, Place
from app.runtime.budget import OVERDRAWN, Budget, Meter
from app.runtime.cancellation import CancellationFlag
from app.runtime.run_log import Limits, RunLog

_LOG_LIMIT = Failed(Failure("log_limit", "The run's log reached its size limit."))
_TOOL_LIMIT = Failed(Failure("tool_limit", "The run made as many tool calls as it may."))
TAKEN_OVER = Failed(Failure("interrupted", "Another replica took the run over."))
_NO_STORE = Failed(Failure("store_unavailable", "The store did not answer."))

Echo = Callable[[RunContent], Said]
"""What else is said, in the same batch, when a member says a piece."""

Flags = MutableMapping[str, CancellationFlag]
"""The flags of all runs and member runs of this replica, by run id."""


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
        if self.flag.is_raised():
            await self.flag.check()
        said: list[Said] = []
        origin, echo = self.origin, self.echo
        for event in events:
            said.append((origin, event))
            if echo is not None and isinstance(event, RunContent):
                said.append(echo(event))
        try:
            if (stored := self.shared.log.write(said)) is not None:
                await stored
        except (AppendRefused, StoreUnavailable) as refusal:
            await self._heed(refusal)
        if self.shared.log.is_full():
            await self.abort_run(_LOG_LIMIT)
        if self.shared.budget.is_overdrawn():
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
