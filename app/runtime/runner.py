"""Starts, cancels and drains the runs of this replica.

Each run is one task in the runner's group. It is set up before the task exists (the flag is known
to the store's listener before the run is stored), worked on inside its flag's scope, and ended
outside of it, so that no cancel, however early, finds a run without a way to its final event.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from types import TracebackType

import anyio

from app.domain.closing import Ending, Failed
from app.domain.errors import (
    AppendRefused,
    Draining,
    RunNotFound,
    StoreUnavailable,
    TeamNotFound,
)
from app.domain.events import CancelBy, Failure
from app.domain.run import Cancel, MemberRun, Run
from app.observer.facts import (
    AbandonedRunEnded,
    CancelSeen,
    CancelTaken,
    DrainBegan,
    DrainEnded,
    LeaseLost,
    RunBegan,
)
from app.observer.telling import Observers
from app.observer.work import RunWork
from app.ports import Clock, Store
from app.runtime.admission import Unfinished
from app.runtime.budget import Budget
from app.runtime.cancellation import CancellationFlag
from app.runtime.context import TAKEN_OVER, Context, Shared, conclude_run
from app.runtime.endings import Endings
from app.runtime.orders import Order, Started, replay, request_of
from app.runtime.patience import patiently
from app.runtime.places import Places
from app.runtime.run_log import Limits, RunLog
from app.runtime.sessions import conversation
from app.runtime.team import Team, lead

logger = logging.getLogger(__name__)

_INTERRUPTED = Failed(Failure("interrupted", "The replica that worked on the run stopped."))
_INTERNAL = Failed(Failure("internal_error", "The service failed."))
_ENDING_S = 1.5
"""How long final events may take after a drain has interrupted what was left, in seconds.

A store that works takes a fraction of it, one that is away would never do.
"""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many runs a replica works on, and how many may wait for their turn.

    `per_tenant` is how many a tenant may have of both together; `None` is all.
    """

    running: int = 200
    pending: int = 1000
    per_tenant: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """How many runs this replica works on, and how many wait for their turn."""

    running: int
    pending: int


class Runner:
    """The runs of this replica; an async context manager that lasts as long as the replica."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that runs need, made by the composition root
        self,
        store: Store,
        teams: Mapping[str, Team],
        clock: Clock,
        limits: Limits | None = None,
        capacity: Capacity | None = None,
        observers: Observers | None = None,
    ) -> None:
        """`teams` is by id; the first is the default."""
        self._store = store
        self._teams = teams
        self._clock = clock
        self._limits = limits or Limits()
        self._capacity = capacity or Capacity()
        self._observers = observers or Observers()
        self._flags: dict[str, CancellationFlag] = {}
        self._places = Places(self._capacity.running)
        most = self._capacity.running + self._capacity.pending
        self._unfinished = Unfinished(most, self._capacity.per_tenant)
        self._draining = False
        self._endings = Endings()

    async def __aenter__(self) -> Runner:
        async with AsyncExitStack() as stack:
            self._group = await stack.enter_async_context(anyio.create_task_group())
            self._stack = stack.pop_all()
        self._store.on_flag(self._raise_flag)
        self._store.on_loss(self._give_up)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._interrupt()
        return await self._stack.__aexit__(kind, error, traceback)

    @property
    def is_draining(self) -> bool:
        """Whether new runs are refused because the process is about to go."""
        return self._draining

    @property
    def load(self) -> Load:
        """How busy this replica is."""
        running = self._places.taken
        return Load(running, max(0, len(self._unfinished) - running))

    async def start(self, order: Order) -> Started:
        """Store a new run and set it going, or find the one with the order's idempotency key.

        Raises `TeamNotFound`, `TooManyRuns`, `Overloaded`, `Draining`, `IdempotencyKeyReused`.
        """
        team = self._team(order.team_id)
        began_at, now, most_s = time.monotonic(), self._clock.now(), self._limits.timeout_s
        request = request_of(order, team, now, most_s)
        self._admit(request.run_id, request.tenant)
        flag = self._flags[request.run_id] = CancellationFlag(
            deadline=anyio.current_time() + request.timeout_s
        )
        try:
            run = await self._store.create(request)
        except BaseException:
            self._forget(request.run_id)
            raise
        if run.run_id != request.run_id:
            self._forget(request.run_id)
            return replay(run, request)
        work = RunWork(request, run.origin, order.trace, began_at=began_at)
        self._group.start_soon(self._carry, run, team, flag, work, name=f"run {run.run_id}")
        return Started(run)

    async def cancel(self, run_id: str, reason: str | None, by: CancelBy) -> Run | MemberRun:
        """Raise the cancellation flag of a run or member run; its status tells what came of it.

        Raises `RunNotFound`.
        """
        cancel = Cancel(self._clock.now(), reason, by)
        if flag := self._flags.get(run_id):
            flag.note_request(cancel)
        target = await self._store.request_cancel(run_id, cancel)
        if target is None:
            raise RunNotFound("there is no run with this id")
        if target.cancel == cancel:
            self._observers.note(CancelTaken(target))
        return target

    def end_abandoned(self, run: Run) -> None:
        """Write the end of a run whose replica is gone, which the store gave to this one."""
        self._group.start_soon(self._end_abandoned, run)

    async def drain(self, grace_s: float) -> None:
        """Take no new runs, give the others some seconds to end, then end them as interrupted."""
        began_at, self._draining = time.monotonic(), True
        self._observers.note(DrainBegan(len(self._unfinished)))
        with anyio.move_on_after(grace_s):
            await self._unfinished.none_left()
        self._interrupt()
        with anyio.move_on_after(_ENDING_S):
            await self._unfinished.none_left()
        self._observers.note(DrainEnded(len(self._unfinished), time.monotonic() - began_at))

    # --- one run ----------------------------------------------------------------------------------

    async def _carry(self, run: Run, team: Team, flag: CancellationFlag, work: RunWork) -> None:
        """Take a run from pending to its final event, whatever happens."""
        log, budget = self._log(run), Budget(run.request.max_output_tokens)
        context = Context(run.origin, flag, Shared(log, budget, self._limits, self._flags), work)
        reached: Ending | None = None
        with self._observers.doing(work):
            try:
                with flag.scope:
                    async with self._places.one(run.request.tenant):
                        reached = await self._work(run, team, context)
            except Exception:
                logger.exception("run failed", extra={"run_id": run.run_id})
                reached = _INTERNAL
            except BaseException:  # a cancel that is not the flag's: the process is being torn down
                reached = _INTERRUPTED
                raise
            finally:
                await self._end(log, flag.ending(reached), budget)
                self._forget(run.run_id)
                work.usage, work.stop = run.usage, flag.stop
                work.conclude(run, None)

    async def _work(self, run: Run, team: Team, context: Context) -> Ending:
        self._observers.note(RunBegan(context.work.team_run))
        most = self._limits.session_max_chars
        ask = partial(conversation, self._store, run.request, most)
        try:
            said = await patiently(ask, self._limits.store_patience_s)
        except StoreUnavailable:
            return Failed(Failure("store_unavailable", "The session could not be read."))
        return await lead(team, said, context)

    async def _end(self, log: RunLog, ending: Ending, budget: Budget) -> None:
        """Write the end, as soon as the store takes it.

        A run that cannot get one must not take the other runs of the group down with it.
        """
        whose = {"run_id": log.run.run_id}
        try:
            if not await self._endings.write(partial(conclude_run, log, ending, budget)):
                logger.warning("run left to others: no answer of the store", extra=whose)
        except AppendRefused as refused:
            logger.warning("run ended elsewhere: %s", type(refused).__name__, extra=whose)
        except Exception:
            logger.exception("run got no final event", extra=whose)

    async def _end_abandoned(self, run: Run) -> None:
        await self._end(self._log(run), _INTERRUPTED, Budget(None))
        if run.status.is_final:
            self._observers.note(AbandonedRunEnded(run))

    def _log(self, run: Run) -> RunLog:
        return RunLog(run, self._store, self._clock, self._limits, self._observers)

    # --- admission and bookkeeping ----------------------------------------------------------------

    def _team(self, team_id: str | None) -> Team:
        team = next(iter(self._teams.values())) if team_id is None else self._teams.get(team_id)
        if team is None:
            raise TeamNotFound("there is no team with this id")
        return team

    def _admit(self, run_id: str, tenant: str) -> None:
        if self._draining:
            raise Draining("this replica is about to stop")
        self._unfinished.admit(run_id, tenant)

    def _forget(self, run_id: str) -> None:
        self._flags.pop(run_id, None)
        self._unfinished.discard(run_id)

    def _interrupt(self) -> None:
        self._endings.limit(_ENDING_S)
        for run_id in self._unfinished:
            self._flags[run_id].raise_for(_INTERRUPTED)

    def _raise_flag(self, run_id: str, cancel: Cancel) -> None:
        if flag := self._flags.get(run_id):
            stop = flag.stop_for(cancel, self._clock.now())
            self._observers.note(CancelSeen(run_id, stop))

    def _give_up(self, run_id: str) -> None:
        if flag := self._flags.get(run_id):
            flag.raise_for(TAKEN_OVER)
            self._observers.note(LeaseLost(run_id))
