"""The runs that a replica owns, and what is said of them to Redis and by it: pure.

The owner's `Run` is the fold of what is stored. A batch is applied when Redis has said that it took
it; a flag, when Redis has been asked behind every append that was sent before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from app.domain.events import FINAL, Entry, RunCancelled, RunStarted, decode
from app.domain.run import Cancel, Run, RunRequest
from app.domain.snapshots import restore, snapshot
from app.domain.status import any_moves
from app.stores.pages import Tail, split
from app.stores.redis_keys import RunKeys
from app.stores.redis_scripts import APPEND, CLAIM, FETCH, LOOK, Command

TAIL_BYTES: Final = 262_144
"""How much of a log is kept in memory for its readers."""
_SAVE_BYTES: Final = 131_072
"""By how much a log grows, at least, until the run is saved anew."""
_SAVE_GROWTH: Final = 4
"""And by how many times the last snapshot, which holds all of the text: saved at even distances, a
long run would cost more with each event. Nobody folds more than about the greater of the two.
"""
_WHOLE: Final = 1 << 40


@dataclass(slots=True, eq=False)
class Owned:
    """A run of this replica. `doubt` is a batch of which it is not known whether it is stored.

    `flags` are the run ids whose flags the run shows; a snapshot is due when the log has come to
    `save_at_bytes`.
    """

    run: Run
    number: int
    fence: int
    flags: set[str] = field(default_factory=set)
    doubt: Sequence[Entry] = ()
    is_asking: bool = False
    keys: RunKeys = field(init=False)
    tail: Tail = field(init=False)
    save_at_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.keys = RunKeys(self.run.run_id)
        self.tail = Tail(self.run.last_event_id)
        self.save_at_bytes = self.run.log_bytes + _SAVE_BYTES

    def apply(self, entries: Sequence[Entry]) -> None:
        """Show what is stored now."""
        for entry in entries:
            self.run.apply(entry)
        self.tail.add([entry.frame for entry in entries], TAIL_BYTES)

    def frames_behind(self, seq: int) -> Sequence[bytes] | None:
        """Return the frames behind a place, `None` when they are not all here any more."""
        return split(self.tail.page(seq, _WHOLE)[0]) if self.tail.reaches(seq) else None

    def raise_flags(self, flags: Mapping[str, Cancel]) -> Iterator[tuple[str, Cancel]]:
        """Show flags; yield those that are new. One of a member not seen yet waits for it."""
        for run_id, cancel in flags.items():
            target = self.run.find(run_id)
            if target is None or run_id in self.flags:
                continue
            self.flags.add(run_id)
            if target.cancel is None and not target.status.is_final:
                target.cancel = cancel
                yield run_id, cancel


def append(owned: Owned, entries: Sequence[Entry], lost: Sequence[bytes] = ()) -> Command:
    """Return the command that stores entries, and ahead of them frames that Redis has lost.

    Raises `ValueError` for a final event that does not fit.
    """
    run = owned.run
    ends: list[str] = []
    members: Mapping[str, int] = {}
    moved: Run | None = None
    if lost or any_moves(entries):
        ends += [entry.origin.run_id for entry in entries if _is_refusable(entry)]
        if ends:
            ends.append(run.run_id)  # a team's flag is its members' as well
        members = _members(run, entries, everyone=bool(lost))
        moved = _moved(run, entries)
    saved, snapshot_ = _saved(owned, moved)
    return APPEND(
        (owned.keys.run, owned.keys.log, owned.keys.flags, owned.keys.members),
        owned.fence,
        entries[0].seq - len(lost),
        entries[-1].seq,
        len(owned.flags),
        owned.keys.news,
        moved.status if moved else "",
        (moved.finished_at or "") if moved else "",
        saved,
        snapshot_,
        len(ends),
        len(members),
        *ends,
        *(part for member in members.items() for part in member),
        *lost,
        *(entry.frame for entry in entries),
    )


def claim(run: RunKeys, fence: int, old_owner: str, new_owner: str) -> Command:
    """Return the command that makes a run somebody's, under a new fence."""
    return CLAIM((run.run, run.flags), old_owner, new_owner, fence)


def look(run: RunKeys) -> Command:
    """Return the command that asks for owner and flags."""
    return LOOK((run.run, run.flags))


def fetch(run: RunKeys, after: int | None, limit_bytes: int) -> Command:
    """Return the command that reads a run; from its snapshot on where there is no `after`."""
    place = "" if after is None else after
    return FETCH((run.run, run.log, run.flags), place, limit_bytes)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What `fetch` brings: frames up to `at` of a log that ends at `last`."""

    last: int
    is_final: bool
    at: int
    frames: bytes
    flags: Mapping[str, Cancel]
    request: bytes
    snapshot: bytes

    @classmethod
    def of(cls, reply: list[Any]) -> Fetched:
        """Read the reply."""
        last, status, at, frames, flags, request, saved = reply
        return cls(int(last), bool(status), int(at), frames, flags_of(flags), request, saved)

    def begin(self) -> Run:
        """Return the run as it was saved, or a new one."""
        request = msgspec.convert(json.loads(self.request), RunRequest)
        return restore(request, self.snapshot) if self.snapshot else Run(request)

    def fold_into(self, run: Run) -> None:
        """Have a run show it; flags last, because they know more than these frames may."""
        for frame in split(self.frames):
            run.apply(decode(frame))
        for run_id, cancel in self.flags.items() if self.at == self.last else ():
            if (target := run.find(run_id)) is not None and target.cancel is None:
                target.cancel = cancel


def request_text(request: RunRequest) -> bytes:
    """Return a request as it is stored."""
    return json.dumps(asdict(request), separators=(",", ":")).encode("ascii")


def flag_text(cancel: Cancel) -> bytes:
    """Return a flag as it is stored."""
    return json.dumps(asdict(cancel), separators=(",", ":")).encode("ascii")


def flags_of(fields: list[bytes]) -> dict[str, Cancel]:
    """Read a hash of flags: run ids and flags in turn."""
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return {str(run_id, "ascii"): Cancel(**json.loads(text)) for run_id, text in pairs}


def milliseconds(time: str) -> int:
    """Return a time as a number that sorted sets can sort by."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def new_members(run: Run, entries: Sequence[Entry]) -> Sequence[str]:
    """Return the run ids of members that begin."""
    return [
        entry.origin.run_id
        for entry in entries
        if type(entry.event) is RunStarted and entry.origin.run_id != run.run_id
    ]


def _is_refusable(entry: Entry) -> bool:
    return isinstance(entry.event, FINAL) and not isinstance(entry.event, RunCancelled)


def _members(run: Run, entries: Sequence[Entry], *, everyone: bool) -> dict[str, int]:
    """Return the members that change, 1 where they begin and 0 where they end."""
    members = {}
    if everyone:
        members = {each.run_id: int(not each.status.is_final) for each in run.members.values()}
    members.update(dict.fromkeys(new_members(run, entries), 1))
    for entry in entries:
        if isinstance(entry.event, FINAL) and entry.origin.run_id != run.run_id:
            members[entry.origin.run_id] = 0
    return members


def _moved(run: Run, entries: Sequence[Entry]) -> Run | None:
    """Return the run as it will be where the entries end it: it itself shows what is stored."""
    last = entries[-1]
    if not isinstance(last.event, FINAL) or last.origin.run_id != run.run_id:
        return None
    moved = deepcopy(run)
    for entry in entries:
        moved.apply(entry)
    return moved


def _saved(owned: Owned, moved: Run | None) -> tuple[int | str, bytes | str]:
    """Return place and text of a snapshot, if one is due: at the end, and now and then before."""
    if moved is not None:
        return moved.last_event_id, snapshot(moved)
    run = owned.run
    if run.log_bytes < owned.save_at_bytes:
        return "", ""
    saved = snapshot(run)
    owned.save_at_bytes = run.log_bytes + max(_SAVE_BYTES, _SAVE_GROWTH * len(saved))
    return run.last_event_id, saved
