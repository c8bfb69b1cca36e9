"""The runs of an SQLite store that are in memory, as they are stored.

All unfinished runs are here, and nowhere else do they change; finished ones stay while there is
room, those used last the longest. Live readers read from the tails, without a hop to a thread.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from app.domain.run import Run
from app.stores.pages import Tail
from app.stores.sqlite_steps import Step

_TAIL_BYTES = 262_144
"""How much of one log is kept at most."""
_ALL_TAILS_BYTES = 67_108_864
"""How much of all unfinished logs is kept, about: each may have an equal share."""
_FINISHED_BYTES = 67_108_864
"""How much finished runs may take, about."""
_RUN_BYTES = 4096
"""About what a run costs beside its texts and frames."""


class Kept:
    """A run in memory, its number in the file, and the steps that it is to take, one at a time."""

    __slots__ = ("named_members", "number", "run", "steps", "tail")

    def __init__(self, number: int, run: Run) -> None:
        self.number = number
        self.run = run
        self.tail = Tail(run.last_event_id)
        self.steps: deque[Step] = deque()
        self.named_members = 0

    @property
    def weight(self) -> int:
        """About how many bytes it takes."""
        said = sum(len(m.content) + len(m.task) for m in self.run.members.values())
        texts = len(self.run.request.input) + len(self.run.content) + said
        return texts + self.tail.size + _RUN_BYTES


class Shelf:
    """Runs by their ids, and by those of their members."""

    def __init__(self, finished_bytes: int = _FINISHED_BYTES) -> None:
        self._most_finished_bytes = finished_bytes
        self._by_id: dict[str, Kept] = {}
        self._unfinished = 0
        self._finished: OrderedDict[str, int] = OrderedDict()
        self._finished_bytes = 0

    def get(self, run_id: str) -> Kept | None:
        """Return the team run with this id, or that has a member run with it."""
        kept = self._by_id.get(run_id)
        if kept is not None and kept.run.ended is not None and kept.run.run_id in self._finished:
            self._finished.move_to_end(kept.run.run_id)
        return kept

    def put(self, kept: Kept) -> None:
        """Take a run in."""
        self.name(kept)
        self._unfinished += 1
        self.settle(kept)

    def name(self, kept: Kept) -> None:
        """Have a run found under its id and those of its members."""
        self._by_id.update(dict.fromkeys((kept.run.run_id, *kept.run.members), kept))
        kept.named_members = len(kept.run.members)

    def settle(self, kept: Kept) -> None:
        """See whether a run has finished, and no longer has to stay."""
        if kept.run.ended is not None and kept.run.run_id not in self._finished:
            self._unfinished -= 1
            self._finished[kept.run.run_id] = weight = kept.weight
            self._finished_bytes += weight
            while self._finished_bytes > self._most_finished_bytes and len(self._finished) > 1:
                self.forget(next(iter(self._finished)))

    def forget(self, run_id: str) -> None:
        """Let a finished run go, if it is here."""
        if run_id in self._finished:
            self._finished_bytes -= self._finished.pop(run_id)
            run = self._by_id[run_id].run
            for each in (run_id, *run.members):
                del self._by_id[each]

    @property
    def tail_bytes(self) -> int:
        """How long a tail may be."""
        return min(_TAIL_BYTES, _ALL_TAILS_BYTES // max(1, self._unfinished))
