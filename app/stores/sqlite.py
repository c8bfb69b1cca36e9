"""Runs in one SQLite file: durable, embedded, owned by one process.

```
append, request_cancel ─> the run's next step ─> writer ─> group commit ─> the run shows it
create, sweep, ping ───────────────────────────> writer
read, load ─> memory; behind its reach: readers ─> the file
list ───────────────────────────────────────────> readers
```

- This process alone writes the file, so the folds of unfinished runs in memory are authoritative,
  and refusing an append needs no query. They show, to everybody, only what is committed.
- Each step of a run is stored before the next is decided (`sqlite_steps.py`); runs share commits
  (`sqlite_writer.py`). One that fails is `StoreUnavailable` for its waiters, and leaves nothing.
- Finished runs are kept as snapshots, unfinished ones are folded from their logs once, at opening;
  those are the runs of a process that died, for `claim_abandoned`.
- Deleted rows' pages are used again; the file does not shrink.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio.to_thread import run_sync

from app.domain.errors import BadCursor, LeaseLost
from app.domain.events import Entry
from app.domain.run import Cancel, MemberRun, Run, RunRequest
from app.ports import Filter, FlagListener, Hint, LossListener, Page
from app.stores import sqlite_rows as rows
from app.stores.receipts import Receipt
from app.stores.secrets import new_secret
from app.stores.sqlite_checkpoints import checkpointing
from app.stores.sqlite_ownership import owning
from app.stores.sqlite_readers import reading
from app.stores.sqlite_schema import open_for_writing, refusals
from app.stores.sqlite_shelf import Kept, Shelf
from app.stores.sqlite_steps import Append, RaiseFlag
from app.stores.sqlite_turns import Turns
from app.stores.sqlite_writer import Unit, Work, Writer, reject, resolve
from app.stores.watchers import Watchers

_NO_NUMBER = 1 << 62
"""Above the number of every run."""


class SqliteStore:
    """Keeps runs in the file at a path; waits `lease_ttl_s` at opening for its owner to go."""

    def __init__(self, path: Path, lease_ttl_s: float = 10.0) -> None:
        self._path = path
        self._lease_ttl_s = lease_ttl_s
        self._shelf = Shelf()
        self._watchers = Watchers()
        self._listeners: list[FlagListener] = []
        self._abandoned: list[Run] = []
        self._sweeps = 0

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(owning(self._path, self._lease_ttl_s))
            connection = await run_sync(open_for_writing, self._path)
            stack.push_async_callback(run_sync, connection.close)
            await run_sync(self._take_up, connection)
            self._readers = await stack.enter_async_context(reading(self._path))
            await stack.enter_async_context(checkpointing(self._path))
            self._writer = Writer(connection)
            self._turns = Turns(self._writer, self._watchers)
            stack.push_async_callback(self._writer.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()

    # --- writing ----------------------------------------------------------------------------------

    async def create(self, request: RunRequest) -> Run:
        """Store a new, pending run, or return the one with its idempotency key."""
        stored: asyncio.Future[str] = self._loop.create_future()
        self._writer.hand_over(
            Unit(
                partial(rows.insert_run, request=request),
                partial(self._created, request, stored),
                partial(reject, stored),
            )
        )
        with anyio.CancelScope(shield=True):  # a run that is stored needs somebody to end it
            run_id = await stored
        return await self.load(run_id) or await self.create(request)  # gone: it was swept just now

    def append(self, run_id: str, entries: Sequence[Entry]) -> Receipt:
        """Hand entries over, to be stored all or none."""
        kept = self._shelf.get(run_id)
        if kept is None:
            raise LeaseLost(f"run {run_id} is not one of the unfinished ones")
        receipt = Receipt(self._loop)
        taken = partial(self._appended, kept)
        self._turns.enqueue(kept, Append(kept.number, kept.run, entries, receipt, taken))
        return receipt

    async def request_cancel(self, run_id: str, cancel: Cancel) -> Run | MemberRun | None:
        """Raise a run's or member run's flag, unless it is too late."""
        kept = await self._find(run_id)
        if kept is None:
            return None
        answer: asyncio.Future[Run | MemberRun | None] = self._loop.create_future()
        step = RaiseFlag(kept.number, kept.run, run_id, cancel, answer, self._flagged)
        self._turns.enqueue(kept, step)
        return await answer

    async def sweep(self, finished_before: str, limit: int) -> int:
        """Remove up to `limit` runs that ended before a time, each in a commit of its own."""
        delete_oldest = partial(rows.delete_oldest, finished_before=finished_before)
        for count in range(limit):
            if await self._remove(delete_oldest) is None:
                return count
        return limit

    async def purge(self, run_id: str) -> None:
        """Remove a final team run."""
        await self._remove(partial(rows.delete_final, run_id=run_id))

    async def secret(self, name: str) -> bytes:
        """Return the secret under a name, made when it is first asked for."""
        return await self._writer.run(partial(rows.secret, name=name, made=new_secret()))

    async def ping(self) -> None:
        """Return when the file can be written."""
        await self._writer.run(rows.touch)

    async def renew(self) -> None:
        """Return: the lock on the file says that this process lives."""

    async def claim_abandoned(self) -> Sequence[Run]:
        """Return, once, the unfinished runs that were in the file when it was opened."""
        abandoned, self._abandoned = self._abandoned, []
        return tuple(abandoned)

    # --- reading ----------------------------------------------------------------------------------

    async def load(self, run_id: str) -> Run | None:
        """Return the team run with this id, or the one that has a member run with this id."""
        kept = await self._find(run_id)
        return None if kept is None else kept.run

    async def read(self, run_id: str, after: int, limit_bytes: int) -> Page:
        """Return frames behind the cursor; of a run that is gone, the end."""
        kept = self._shelf.get(run_id) or await self._find(run_id)
        if kept is None:
            return Page(b"", after, is_end=True)
        end, is_final = kept.run.last_event_id, kept.run.ended is not None
        if kept.tail.reaches(after):
            frames, last = kept.tail.page(after, limit_bytes)
        else:
            frames, last = await self._readers.run(
                partial(
                    rows.read, number=kept.number, after=after, upto=end, limit_bytes=limit_bytes
                )
            )
        is_all = last >= end
        return Page(frames, last, is_final and is_all, is_all)

    def watch(self, run_id: str) -> AbstractContextManager[Hint]:
        """Be told of changes of a run while the context is open."""
        return self._watchers.watch(run_id)

    def on_flag(self, listener: FlagListener) -> None:
        """Have a listener called when a flag goes up."""
        self._listeners.append(listener)

    def on_loss(self, listener: LossListener) -> None:
        """Return: no other process can take these runs over."""

    async def list(self, which: Filter) -> Sequence[Run]:
        """Return team runs, newest first."""
        found: list[Run] = []
        before = _NO_NUMBER if which.after is None else await self._number(which)
        while missing := which.limit - len(found):
            stored = await self._readers.run(
                partial(rows.newest, which=which, before=before, limit=missing)
            )
            found += [run for each in stored if (run := await self._current(each, which))]
            if len(stored) < missing:
                break
            before = stored[-1].number
        return found

    # --- the file and the memory ------------------------------------------------------------------

    def _take_up(self, connection: sqlite3.Connection) -> None:
        with refusals(self._path):
            for number, run in rows.unfinished(connection):
                self._shelf.put(Kept(number, run))
                self._abandoned.append(run)

    async def _find(self, run_id: str) -> Kept | None:
        """Return a run from memory, or a finished one from the file."""
        if (kept := self._shelf.get(run_id)) is not None:
            return kept
        sweeps = self._sweeps
        stored = await self._readers.run(partial(rows.load, run_id=run_id))
        if (kept := self._shelf.get(run_id)) is not None:
            return kept
        if stored is None or stored.run is None:
            return None
        kept = Kept(stored.number, stored.run)
        if sweeps == self._sweeps:  # else it may be gone already
            self._shelf.put(kept)
        return kept

    async def _number(self, which: Filter) -> int:
        number = await self._readers.run(
            partial(rows.number_of, tenant=which.tenant, run_id=which.after or "")
        )
        if number is None:
            raise BadCursor("there is no run where the list should go on")
        return number

    async def _current(self, stored: rows.Stored, which: Filter) -> Run | None:
        """Return a listed run as it stands by now, if it still belongs in the list."""
        kept = self._shelf.get(stored.run_id)
        run = stored.run or (kept.run if kept else await self.load(stored.run_id))
        return run if run is not None and which.shows(run) else None

    # --- what is stored, on the event loop ------------------------------------------------------

    def _created(
        self, request: RunRequest, stored: asyncio.Future[str], row: tuple[int, str]
    ) -> None:
        number, run_id = row
        if run_id == request.run_id:
            self._shelf.put(Kept(number, Run(request)))
        resolve(stored, run_id)

    def _appended(self, kept: Kept, entries: Sequence[Entry]) -> None:
        kept.tail.add([entry.frame for entry in entries], self._shelf.tail_bytes)
        if len(kept.run.members) != kept.named_members:
            self._shelf.name(kept)
        self._shelf.settle(kept)

    def _flagged(self, run_id: str, cancel: Cancel) -> None:
        for listener in self._listeners:
            listener(run_id, cancel)

    def _remove(self, delete: Work[str | None]) -> asyncio.Future[str | None]:
        removed: asyncio.Future[str | None] = self._loop.create_future()
        self._writer.hand_over(
            Unit(delete, partial(self._removed, removed), partial(reject, removed))
        )
        return removed

    def _removed(self, removed: asyncio.Future[str | None], run_id: str | None) -> None:
        if run_id is not None:
            self._sweeps += 1
            self._shelf.forget(run_id)
            self._watchers.tell(run_id)
        resolve(removed, run_id)
