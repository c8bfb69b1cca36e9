"""What changes a run in an SQLite store: a batch is appended, or a flag goes up.

A run takes one step at a time. A step is decided against the run as it is stored, when its turn
comes; then it is stored; then the run shows it; then the next is decided. So a cancel that arrives
while a final event is being committed learns which of the two was first, a final event that arrives
while a flag is being committed is refused when the run shows the flag, and a commit that fails
leaves nothing to be taken back. Steps are taken in order, so a busy run cannot keep a cancel out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import msgspec

from app.domain.errors import StoreUnavailable
from app.domain.events import Entry, RunStarted
from app.domain.run import Cancel, MemberRun, Run
from app.domain.snapshots import snapshot
from app.domain.status import TRANSITIONS, Status, any_moves
from app.stores.receipts import Receipt
from app.stores.sqlite_rows import Batch, frames_of, insert_batch
from app.stores.sqlite_shared import Flag
from app.stores.sqlite_writer import Work, reject, resolve


class Step(Protocol):
    """One change of one run; an urgent one does not let those before it wait for others."""

    is_urgent: ClassVar[bool]

    def decide(self) -> Work[Any] | None:
        """Return what is to be stored, `None` for nothing, or raise what refuses the step."""

    def take(self) -> None:
        """Change the run, now that it is stored, and tell whoever waits."""

    def refuse(self, error: Exception) -> None:
        """Tell whoever waits that it was not done."""


class Append(msgspec.Struct, frozen=True):
    """Entries for the log; `taken` is told when the run shows them."""

    is_urgent: ClassVar[bool] = False

    number: int
    run: Run
    entries: Sequence[Entry]
    receipt: Receipt
    taken: Callable[[Sequence[Entry]], None]

    def decide(self) -> Work[None] | None:
        """Check them; a batch numbered behind one that was still on its way comes too early."""
        if not self.entries:
            return None
        if self.entries[0].seq != self.run.last_event_id + 1:
            raise StoreUnavailable("the log has grown since the batch was numbered")
        self.run.check(self.entries)
        if any_moves(self.entries):
            return partial(insert_batch, batch=batch_of(self.number, self.run, self.entries))
        return frames_of(self.number, self.entries)

    def take(self) -> None:
        """Apply them."""
        for entry in self.entries:
            self.run.apply(entry)
        self.taken(self.entries)
        self.receipt.settle()

    def refuse(self, error: Exception) -> None:
        """None of the entries is stored."""
        self.receipt.settle(error)


@dataclass(frozen=True, slots=True)
class RaiseFlag:
    """A request to stop a team run or a member run; `raised` is told if the flag goes up."""

    is_urgent: ClassVar[bool] = True

    number: int
    run: Run
    run_id: str
    cancel: Cancel
    answer: asyncio.Future[Run | MemberRun | None]
    raised: Callable[[str, Cancel], None]

    def decide(self) -> Work[None] | None:
        """See whether it is neither too late nor done already."""
        target = self.run.find(self.run_id)
        if target is None or target.status not in (Status.PENDING, Status.RUNNING):
            return None
        cancel = self.cancel
        row = self.number, self.run_id, cancel.requested_at, cancel.reason, cancel.by
        return Flag(row, is_team=target is self.run)

    def take(self) -> None:
        """Raise it, if it still can be raised."""
        target = self.run.request_cancel(self.run_id, self.cancel)
        if target is not None and target.cancel is self.cancel:
            self.raised(self.run_id, self.cancel)
        resolve(self.answer, target)

    def refuse(self, error: Exception) -> None:
        """The flag is not up."""
        reject(self.answer, error)


def batch_of(number: int, run: Run, entries: Sequence[Entry]) -> Batch:
    """Return what is to be stored of entries that a run can take.

    Where they move its status, they are tried on a copy: a finished run's snapshot is stored
    together with its end, and the run itself shows nothing that is not stored.
    """
    frames = frames_of(number, entries)
    members = [
        e.origin.run_id
        for e in entries
        if type(e.event) is RunStarted and e.origin.run_id != run.run_id
    ]
    if not any(_moves(run, entry) for entry in entries):
        return Batch(frames, number, members)
    moved = deepcopy(run)
    for entry in entries:
        moved.apply(entry)
    saved = snapshot(moved) if moved.status.is_final else None
    return Batch(frames, number, members, moved.status, moved.finished_at, saved)


def _moves(run: Run, entry: Entry) -> bool:
    return type(entry.event) in TRANSITIONS and entry.origin.run_id == run.run_id
