"""The writing end of a Redis store: the runs of this replica, and how they come and go.

Everything goes over one link, in order. So when the reply to a look or a flag comes, the owner's
`Run` shows every append that Redis did before it, and a flag never contradicts what is still on its
way.

An append without an answer leaves its run in doubt: it may be stored, now or later. The run takes
no other batch until it has been claimed under a new fence, which makes sure that the old batch is
stored or never will be; which of the two, Redis then says. Who repeats a batch that is found to be
stored is told so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from app.domain.errors import CancelIsDue, LeaseLost, StoreUnavailable
from app.domain.events import Entry
from app.domain.run import Cancel, Run
from app.domain.status import any_moves
from app.ports import FlagListener, LossListener
from app.stores import redis_keys as keys
from app.stores.receipts import Receipt
from app.stores.redis_index import finished_commands
from app.stores.redis_link import Link
from app.stores.redis_runs import Owned, append, claim, flags_of, look, new_members
from app.stores.watchers import Watchers

logger = logging.getLogger(__name__)


class Owner:
    """Owns runs under a replica's name."""

    def __init__(self, replica_id: str, link: Link, watchers: Watchers) -> None:
        self.replica_id = replica_id
        self.on_flag: list[FlagListener] = []
        self.on_loss: list[LossListener] = []
        self.on_end: list[Callable[[Run], None]] = []
        self._link = link
        self._watchers = watchers
        self._owned: dict[str, Owned] = {}
        self._team_run_of: dict[str, str] = {}
        self._found_stored: dict[str, int] = {}

    def __iter__(self) -> Iterator[Owned]:
        return iter(list(self._owned.values()))

    def get(self, run_id: str) -> Owned | None:
        """Return a run that is owned, by its id or that of a member."""
        return self._owned.get(self._team_run_of.get(run_id, run_id))

    def adopt(self, owned: Owned) -> Run:
        """Own a run from now on."""
        run = owned.run
        self._owned[run.run_id] = owned
        self._team_run_of.update(dict.fromkeys(run.members, run.run_id))
        return run

    def has_stored(self, run_id: str, entries: Sequence[Entry]) -> bool:
        """Whether these are the entries that were in doubt, and are found to be stored."""
        return self._found_stored.pop(run_id, None) == entries[-1].seq

    def append(self, owned: Owned, entries: Sequence[Entry]) -> Receipt:
        """Hand entries over; what is returned is told when they are stored, or why not."""
        if owned.doubt or entries[0].seq != owned.run.last_event_id + 1:
            self._resolve_doubt(owned)
            raise StoreUnavailable("it is not known whether what was written before is stored")
        owned.run.check(entries)
        command = append(owned, entries)
        for run_id in new_members(owned.run, entries):
            self._link.hand_over(("SET", keys.member(run_id), owned.run.run_id), _nothing)
        receipt = Receipt(asyncio.get_running_loop())
        answered = partial(self._answered, owned, entries, receipt)
        self._link.hand_over(command, answered, by=None if any_moves(entries) else owned)
        return receipt

    def take_flags(self, owned: Owned, flags: Mapping[str, Cancel]) -> None:
        """Have a run show its flags, and tell of the new ones."""
        if owned.doubt:
            return
        raised = list(owned.raise_flags(flags))
        for run_id, cancel in raised:
            for listener in self.on_flag:
                listener(run_id, cancel)
        if raised:
            self._watchers.tell(owned.run.run_id)

    def forget(self, run: Run) -> None:
        """Own a run no more."""
        self._owned.pop(run.run_id, None)
        for member_id in run.members:
            self._team_run_of.pop(member_id, None)

    def look(self, run_ids: Iterable[str]) -> None:
        """Look at what Redis says of owned runs: whose they are, and which flags are up."""
        for run_id in run_ids:
            if (owned := self._owned.get(run_id)) is not None:
                self._link.hand_over(look(owned.keys), partial(self._looked, owned))

    def look_at_all(self) -> None:
        """Look at all runs; also take up what could not be done before."""
        for owned in self:
            if owned.doubt:
                self._resolve_doubt(owned)
            elif owned.run.status.is_final:
                self._finish(owned)
        self.look(self._owned)

    # --- replies ----------------------------------------------------------------------------------

    def _answered(
        self, owned: Owned, entries: Sequence[Entry], receipt: Receipt, reply: Any
    ) -> None:
        """Deal with the reply to an append."""
        if isinstance(reply, Exception):
            owned.doubt = entries
            self._resolve_doubt(owned)
            receipt.settle(reply)
            return
        verdict, *rest = reply
        if verdict == b"ok":
            self._stored(owned, entries)
            self.take_flags(owned, flags_of(rest[0]))
            receipt.settle()
        elif verdict == b"due":
            self.take_flags(owned, flags_of(rest[0]))
            receipt.settle(CancelIsDue(f"run {owned.run.run_id} was asked to stop"))
        elif verdict == b"gap" and (lost := owned.frames_behind(int(rest[0]))):
            logger.warning("Redis lost %d events of run %s", len(lost), owned.run.run_id)
            told = partial(self._answered, owned, entries, receipt)
            self._link.hand_over(append(owned, entries, lost), told)
        else:
            for run_id in new_members(owned.run, entries):
                self._link.hand_over(("DEL", keys.member(run_id)), _nothing)
            self._lose(owned)
            receipt.settle(LeaseLost(f"run {owned.run.run_id} is not owned here any more"))

    def _stored(self, owned: Owned, entries: Sequence[Entry]) -> None:
        run = owned.run
        owned.apply(entries)
        for run_id in new_members(run, entries):
            self._team_run_of[run_id] = run.run_id
        self._watchers.tell(run.run_id)
        if run.status.is_final:
            self._finish(owned)

    def _resolve_doubt(self, owned: Owned) -> None:
        if owned.doubt and not owned.is_asking:
            owned.is_asking = True
            command = claim(owned.keys, owned.fence, self.replica_id, self.replica_id)
            self._link.hand_over(command, partial(self._resolved, owned))

    def _resolved(self, owned: Owned, reply: Any) -> None:
        owned.is_asking = False
        if isinstance(reply, Exception):
            return
        batch, owned.doubt = owned.doubt, ()
        if reply is not None and reply[0] == batch[-1].seq:
            self._found_stored[owned.run.run_id] = batch[-1].seq
            self._stored(owned, batch)
        elif reply is None or reply[0] != owned.run.last_event_id:
            self._lose(owned)
            return
        owned.fence += 1
        self.take_flags(owned, flags_of(reply[1]))

    def _looked(self, owned: Owned, reply: Any) -> None:
        if isinstance(reply, Exception):
            return
        if reply[0] == self.replica_id.encode():
            self.take_flags(owned, flags_of(reply[1]))
        else:
            self._lose(owned)

    # --- the end ----------------------------------------------------------------------------------

    def _finish(self, owned: Owned) -> None:
        """Take a run that has ended out of what is owned, once Redis has it where it belongs."""
        if owned.is_asking:
            return
        owned.is_asking = True
        commands = finished_commands(owned.run, owned.number)
        self._link.hand_over_all(commands, partial(self._noted, owned))

    def _noted(self, owned: Owned, reply: Any) -> None:
        """Have the run be nobody's, now that it is where finished runs are looked for."""
        if isinstance(reply, Exception):
            owned.is_asking = False
        else:
            command = ("ZREM", keys.owned(self.replica_id), owned.run.run_id)
            self._link.hand_over(command, partial(self._finished, owned))

    def _finished(self, owned: Owned, reply: Any) -> None:
        owned.is_asking = False
        if isinstance(reply, Exception):
            return
        self.forget(owned.run)
        for listener in self.on_end:
            listener(owned.run)

    def _lose(self, owned: Owned) -> None:
        """Let a run go that is somebody else's, or nobody's."""
        if self._owned.get(owned.run.run_id) is not owned:
            return
        logger.debug("run %s is not owned here any more", owned.run.run_id)
        self.forget(owned.run)
        for listener in self.on_loss:
            listener(owned.run.run_id)
        self._watchers.tell(owned.run.run_id)


def _nothing(_: Any) -> None:
    """Go on: the command behind this one fails with it, or nobody needs it."""
