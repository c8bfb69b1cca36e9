"""Runs in this process's memory: gone with it, and fast.

Everything happens inside one call on one event loop, so every step is atomic by nature and an
append is stored when it returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from types import TracebackType
from typing import Self

from app.domain.errors import BadCursor, LeaseLost, Overloaded
from app.domain.events import Entry, RunStarted
from app.domain.run import Cancel, MemberRun, Run, RunRequest
from app.ports import Filter, FlagListener, Hint, LossListener, Page
from app.stores.secrets import new_secret
from app.stores.watchers import Watchers

_RUN_BYTES = 4096
"""About what a run costs beside its log's frames and its input, in bytes."""


class _Kept:
    """A run and its frames; frame number n is `frames[n - 1]`."""

    __slots__ = ("frames", "run")

    def __init__(self, request: RunRequest) -> None:
        self.run = Run(request)
        self.frames: list[bytes] = []

    @property
    def size(self) -> int:
        return self.run.log_bytes + len(self.run.request.input) + _RUN_BYTES


class MemoryStore:
    """Keeps up to about `max_bytes` of runs; the oldest finished ones make room for new ones."""

    def __init__(self, max_bytes: int = 536_870_912) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: dict[str, _Kept] = {}
        self._team_run_of: dict[str, str] = {}
        self._watchers = Watchers()
        self._listeners: list[FlagListener] = []
        self._keys: dict[tuple[str, str], str] = {}
        self._secrets: dict[str, bytes] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    async def create(self, request: RunRequest) -> Run:
        """Keep a new, pending run, or return the one with its idempotency key."""
        if request.idempotency_key is not None:
            key = (request.tenant, request.idempotency_key)
            if key in self._keys:
                return self._kept[self._keys[key]].run
        self._make_room()
        if request.idempotency_key is not None:
            self._keys[key] = request.run_id
        kept = self._kept[request.run_id] = _Kept(request)
        self._team_run_of[request.run_id] = request.run_id
        self._bytes += kept.size
        return kept.run

    async def load(self, run_id: str) -> Run | None:
        """Return the team run with this id, or the one that has a member run with this id."""
        kept = self._kept.get(self._team_run_of.get(run_id, ""))
        return kept.run if kept else None

    def append(self, run_id: str, entries: Sequence[Entry]) -> None:
        """Store entries, all or none."""
        kept = self._kept.get(run_id)
        if kept is None:
            raise LeaseLost(f"run {run_id} is not kept here")
        kept.run.check(entries)
        for entry in entries:
            kept.run.apply(entry)
            kept.frames.append(entry.frame)
            self._bytes += len(entry.frame)
            if type(entry.event) is RunStarted:
                self._team_run_of[entry.origin.run_id] = run_id
        self._watchers.tell(run_id)

    async def read(self, run_id: str, after: int, limit_bytes: int) -> Page:
        """Return frames behind the cursor; of a run that is gone, the end."""
        kept = self._kept.get(run_id)
        if kept is None:
            return Page(b"", after, is_end=True)
        newest = len(kept.frames)
        last = newest if after + 1 == newest else _up_to(limit_bytes, kept.frames, after)
        is_all = last >= newest
        frames = b"".join(kept.frames[after:last])
        return Page(frames, last, kept.run.ended is not None and is_all, is_all)

    def watch(self, run_id: str) -> AbstractContextManager[Hint]:
        """Be told of changes of a run while the context is open."""
        return self._watchers.watch(run_id)

    async def request_cancel(self, run_id: str, cancel: Cancel) -> Run | MemberRun | None:
        """Raise a run's or member run's flag, unless it is too late."""
        kept = self._kept.get(self._team_run_of.get(run_id, ""))
        if kept is None:
            return None
        target = kept.run.request_cancel(run_id, cancel)
        if target is not None and target.cancel is cancel:
            for listener in self._listeners:
                listener(run_id, cancel)
            self._watchers.tell(kept.run.run_id)
        return target

    def on_flag(self, listener: FlagListener) -> None:
        """Have a listener called when a flag goes up."""
        self._listeners.append(listener)

    def on_loss(self, listener: LossListener) -> None:
        """Return: no other process can take these runs over."""

    async def list(self, which: Filter) -> Sequence[Run]:
        """Return team runs, newest first."""
        return list(islice(self._matching(which), which.limit))

    async def ping(self) -> None:
        """Return: memory always answers."""

    async def renew(self) -> None:
        """Return: nobody else knows of these runs."""

    async def claim_abandoned(self) -> Sequence[Run]:
        """Return none: what a dead process had in its memory is gone with it."""
        return ()

    async def sweep(self, finished_before: str, limit: int) -> int:
        """Drop up to `limit` runs that ended before a time."""
        old = (
            kept
            for kept in self._kept.values()
            if kept.run.finished_at is not None and kept.run.finished_at < finished_before
        )
        dropped = list(islice(old, limit))
        for kept in dropped:
            self._drop(kept)
        return len(dropped)

    async def purge(self, run_id: str) -> None:
        """Drop a final team run."""
        kept = self._kept.get(run_id)
        if kept is not None and kept.run.status.is_final:
            self._drop(kept)

    async def secret(self, name: str) -> bytes:
        """Return the secret under a name, made when it is first asked for."""
        return self._secrets.setdefault(name, new_secret())

    def _matching(self, which: Filter) -> Iterator[Run]:
        newest_first = (kept.run for kept in reversed(self._kept.values()))
        if which.after is not None:
            last = self._kept.get(which.after)
            if last is None or last.run.request.tenant != which.tenant:
                raise BadCursor("there is no run where the list should go on")
            for run in newest_first:
                if run.run_id == which.after:
                    break
        return filter(which.shows, newest_first)

    def _make_room(self) -> None:
        if self._bytes < self._max_bytes:
            return
        finished = (kept for kept in list(self._kept.values()) if kept.run.status.is_final)
        while self._bytes >= self._max_bytes:
            oldest = next(finished, None)
            if oldest is None:
                raise Overloaded("the memory store is full of runs that have not finished")
            self._drop(oldest)

    def _drop(self, kept: _Kept) -> None:
        del self._kept[kept.run.run_id]
        if kept.run.request.idempotency_key is not None:
            del self._keys[kept.run.request.tenant, kept.run.request.idempotency_key]
        for run_id in (kept.run.run_id, *kept.run.members):
            del self._team_run_of[run_id]
        self._bytes -= kept.size
        self._watchers.tell(kept.run.run_id)


def _up_to(limit_bytes: int, frames: Sequence[bytes], after: int) -> int:
    """Return the place of the last frame behind a cursor until they pass a limit, at least one."""
    last = after
    while last < len(frames) and limit_bytes > 0:
        limit_bytes -= len(frames[last])
        last += 1
    return last
