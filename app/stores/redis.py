"""Runs in Redis or Valkey, for several replicas: any of them answers any request.

- One replica owns a run and alone writes its log; the others read, and raise flags. The owner's
  name and a fence number stand in the run's hash, and every append is checked against the fence,
  the log's end, its finality and the flags in one script (`redis_scripts.py`).
- A run is stored before its idempotency key leads to it (`redis_creations.py`).
- A replica has one lease, for all its runs, and renews it once a second. When it has run out,
  others claim its runs under new fences, each in one step (`redis_claims.py`). So a replica that
  was frozen writes nothing when it wakes up: its appends are refused, and it lets go of the runs.
- Three connections per replica, however many runs and readers: one writes, one reads
  (`redis_link.py`), one hears news (`redis_news.py`). News only makes things fast; once a second
  everything that matters is looked at.
- Everybody is answered within 2 s: by Redis, from memory where that is as good, or with
  `StoreUnavailable`. What could not be said to Redis in time is said later, under a new fence.

Redis should have `maxmemory-policy noeviction`: a run that is evicted is gone, as after FLUSHALL.
Its owner then loses it, and its readers see its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import anyio

from app.domain.errors import ConfigurationError, LeaseLost, RunIsFinal, StoreUnavailable
from app.domain.events import Entry
from app.domain.run import Cancel, MemberRun, Run, RunRequest
from app.ports import Filter, FlagListener, Hint, LossListener, Page
from app.stores import redis_keys as keys
from app.stores.receipts import Receipt
from app.stores.redis_claims import Claims
from app.stores.redis_creations import Creations
from app.stores.redis_folds import Folds
from app.stores.redis_index import Lists, removed_commands
from app.stores.redis_link import Dialer, Link
from app.stores.redis_news import News
from app.stores.redis_owner import Owner
from app.stores.redis_readers import Readers
from app.stores.redis_runs import flag_text, flags_of
from app.stores.redis_scripts import FLAG
from app.stores.secrets import new_secret
from app.stores.watchers import Watchers

_LOOK_S: Final = 1.0
"""How often everything is looked at that news may have failed to tell; also renews the lease."""
_CLOSING_S: Final = 0.5
"""How long Redis may take to answer what was asked before the end."""


class RedisStore:
    """Keeps runs in the Redis that a URL names; a replica silent for `lease_ttl_s` is dead."""

    def __init__(self, url: str, lease_ttl_s: float = 10.0, replica_id: str | None = None) -> None:
        """`replica_id` is this process's own. Raises `ConfigurationError` for what is no URL."""
        self.replica_id = replica_id or uuid4().hex
        self._look_s = min(_LOOK_S, lease_ttl_s / 6)
        dialer, watchers = Dialer(url), Watchers()
        self._writing, self._reading = Link(dialer), Link(dialer)
        self._news = News(dialer, self._hear)
        self._owner = Owner(self.replica_id, self._writing, watchers)
        self._readers = Readers(self._reading, self._news, self._owner, watchers)
        self._folds = Folds(self._reading)
        self._lists = Lists(self._reading, self._load_team_run)
        self._claims = Claims(self._owner, self._writing, self._folds, lease_ttl_s)
        self._creations = Creations(self._owner, self._writing, self._claims, self._load_team_run)
        self._owner.on_loss.append(self._readers.lost)
        self._owner.on_end.append(self._folds.put)

    async def __aenter__(self) -> Self:
        self._looking = anyio.CancelScope()
        async with AsyncExitStack() as stack:
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(group.cancel_scope.cancel)
            for serve in (self._writing.serve, self._reading.serve, self._news.serve):
                group.start_soon(serve)
            is_there = await self._is_there()
            if is_there:
                self._news.subscribe(keys.replica(self.replica_id))
                group.start_soon(self._look)
                self._stack = stack.pop_all()
        if not is_there:  # raised in here, the task group would wrap it
            raise ConfigurationError(
                "TEAM_RUNS_STORE_URL: Redis does not answer there, or does not let us write"
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._looking.cancel()
        with anyio.CancelScope(shield=True):
            self._claims.give_up()
            await self._writing.flush(_CLOSING_S)
        await self._stack.aclose()

    # --- writing ----------------------------------------------------------------------------------

    async def create(self, request: RunRequest) -> Run:
        """Store a new, pending run, or return the one with its idempotency key."""
        with anyio.CancelScope(shield=True):  # a run that is stored needs somebody to end it
            run = await self._creations.create(request)
        return run  # noqa: RET504 - returned from in there, for mypy the scope may swallow it

    def append(self, run_id: str, entries: Sequence[Entry]) -> Receipt | None:
        """Hand entries over, to be stored all or none; what got no answer may be repeated."""
        if self._owner.has_stored(run_id, entries):
            return None
        owned = self._owner.get(run_id)
        if owned is not None:
            return self._owner.append(owned, entries)
        run = self._folds.peek(run_id)
        if run is not None and run.status.is_final:
            raise RunIsFinal(f"run {run_id} has ended")
        raise LeaseLost(f"run {run_id} is not owned here")

    async def request_cancel(self, run_id: str, cancel: Cancel) -> Run | MemberRun | None:
        """Raise a run's or member run's flag, unless it is too late."""
        team_run_id = await self._team_run_of(run_id)
        of = keys.RunKeys(team_run_id)
        (flags,) = await self._writing.ask(
            FLAG(
                (of.run, of.flags, of.members),
                run_id,
                team_run_id,
                flag_text(cancel),
                keys.replica(""),
                of.news,
            )
        )
        if flags is None:
            return None
        run = await self._flagged(team_run_id, flags_of(flags))
        return None if run is None else run.find(run_id)

    async def sweep(self, finished_before: str, limit: int) -> int:
        """Remove up to `limit` runs that ended before a time."""
        return await self._lists.sweep(finished_before, limit)

    async def purge(self, run_id: str) -> None:
        """Remove a final team run; on the link that has said of it that it has ended."""
        run = await self._load_team_run(run_id)
        if run is not None and run.status.is_final:
            await self._writing.ask(*removed_commands(run))
            self._owner.forget(
                run
            )  # it may not have been told yet that the end is where it belongs

    async def secret(self, name: str) -> bytes:
        """Return the secret under a name, made when it is first asked for."""
        key = keys.secret(name)
        _, kept = await self._writing.ask(("SET", key, new_secret(), "NX"), ("GET", key))
        return bytes(kept)

    async def ping(self) -> None:
        """Return when Redis takes what is written."""
        await self.renew()

    async def renew(self) -> None:
        """Tell the other replicas that this one lives; it also does so by itself."""
        await self._writing.ask(self._claims.lease())

    async def claim_abandoned(self) -> Sequence[Run]:
        """Own the runs of dead replicas; call it once a second or so."""
        return await self._claims.claim_abandoned()

    # --- reading ----------------------------------------------------------------------------------

    async def load(self, run_id: str) -> Run | None:
        """Return the team run with this id, or the one that has a member run with this id."""
        run = await self._load_team_run(run_id)
        if run is None:
            (team_run_id,) = await self._reading.ask(("GET", keys.member(run_id)))
            run = await self._load_team_run(str(team_run_id, "ascii")) if team_run_id else None
        return run if run is not None and run.find(run_id) is not None else None

    async def read(self, run_id: str, after: int, limit_bytes: int) -> Page:
        """Return frames behind the cursor; of a run that is gone, the end."""
        return await self._readers.read(run_id, after, limit_bytes)

    def watch(self, run_id: str) -> AbstractContextManager[Hint]:
        """Be told of changes of a run while the context is open."""
        return self._readers.watch(run_id)

    def on_flag(self, listener: FlagListener) -> None:
        """Have a listener called when a flag of a run of this replica goes up."""
        self._owner.on_flag.append(listener)

    def on_loss(self, listener: LossListener) -> None:
        """Have a listener called with the id of a run that is not this replica's any more."""
        self._owner.on_loss.append(listener)

    async def list(self, which: Filter) -> Sequence[Run]:
        """Return team runs, newest first."""
        return await self._lists.list(which)

    # --- runs and their owners --------------------------------------------------------------------

    async def _load_team_run(self, run_id: str) -> Run | None:
        owned = self._owner.get(run_id)
        return await self._folds.get(run_id) if owned is None else owned.run

    async def _team_run_of(self, run_id: str) -> str:
        """Return the id of the team run that has a member run, or the id itself."""
        if (owned := self._owner.get(run_id)) is not None:
            return owned.run.run_id
        (team_run_id,) = await self._reading.ask(("GET", keys.member(run_id)))
        return str(team_run_id, "ascii") if team_run_id else run_id

    async def _flagged(self, run_id: str, flags: dict[str, Cancel]) -> Run | None:
        """Return a run that shows its flags."""
        owned = self._owner.get(run_id)
        if owned is None or owned.doubt:
            return await self._folds.get(run_id)
        self._owner.take_flags(owned, flags)
        return owned.run

    def _hear(self, channel: str, news: bytes | None) -> None:
        if channel != keys.replica(self.replica_id):
            self._readers.hear(keys.run_of_news(channel), news)
        elif news:
            self._owner.look([str(news, "ascii")])

    # --- what is done all the time ----------------------------------------------------------------

    async def _look(self) -> None:
        """See once a second what news may have failed to tell, and keep the lease."""
        with self._looking:
            while True:
                self._claims.renew()
                self._owner.look_at_all()
                self._readers.look_at_all()
                self._creations.free_keys()
                await asyncio.sleep(self._look_s)

    async def _is_there(self) -> bool:
        try:
            await self.renew()
        except StoreUnavailable:
            return False
        return True
