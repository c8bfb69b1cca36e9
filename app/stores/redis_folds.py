"""Runs as Redis has them, for a replica that does not own them.

A fold is kept, and the next time only what came since is read and folded; a finished run is read
from its snapshot. Redis is asked every time, so what it has forgotten is not remembered here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from app.domain.run import Run
from app.stores.redis_keys import RunKeys
from app.stores.redis_link import Link
from app.stores.redis_runs import Fetched, fetch

_STEP_BYTES = 262_144
"""How much of a log is read and folded in one go."""
_KEPT_BYTES = 67_108_864
"""How much the logs of the folds that are kept may come to, about."""
_RUN_BYTES = 4096
"""About what a run costs beside its log and its input."""


@dataclass(slots=True, eq=False)
class _Fold:
    keys: RunKeys
    run: Run | None = None
    weight: int = 0
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)


class Folds:
    """Folds logs, and keeps those that were asked for last."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._folds: OrderedDict[str, _Fold] = OrderedDict()
        self._bytes = 0

    async def get(self, run_id: str) -> Run | None:
        """Return a team run as it stands."""
        fold = self._folds.setdefault(run_id, _Fold(RunKeys(run_id)))
        try:
            async with fold.one_at_a_time:
                run = await self._current(fold)
        except BaseException:
            self.forget(run_id)
            raise
        self._weigh(fold)
        return run

    async def fresh(self, run_id: str) -> Run | None:
        """Return a team run as it stands, folded for the caller alone."""
        return await self._current(_Fold(RunKeys(run_id)))

    def peek(self, run_id: str) -> Run | None:
        """Return a run as it stood when it was asked for last."""
        fold = self._folds.get(run_id)
        return None if fold is None else fold.run

    def put(self, run: Run) -> None:
        """Keep a run that is known already."""
        self.forget(run.run_id)
        self._folds[run.run_id] = fold = _Fold(RunKeys(run.run_id), run)
        self._weigh(fold)

    def forget(self, run_id: str) -> None:
        """Let a run go."""
        if (fold := self._folds.pop(run_id, None)) is not None:
            self._bytes -= fold.weight

    async def _current(self, fold: _Fold) -> Run | None:
        while True:
            after = None if fold.run is None else fold.run.last_event_id
            (reply,) = await self._link.ask(fetch(fold.keys, after, _STEP_BYTES))
            if reply is None:
                fold.run = None
                return None
            fetched = Fetched.of(reply)
            if fold.run is not None and fetched.last < fold.run.last_event_id:
                fold.run = None  # Redis has lost a part of what it had
                continue
            fold.run = fold.run or fetched.begin()
            fetched.fold_into(fold.run)
            if fetched.at >= fetched.last or not fetched.frames:
                return fold.run
            await asyncio.sleep(0)

    def _weigh(self, fold: _Fold) -> None:
        """Note what a fold takes; let others go where it is too much."""
        run = fold.run
        if run is None:
            self.forget(fold.keys.run_id)
            return
        if self._folds.get(run.run_id) is not fold:
            return
        self._folds.move_to_end(run.run_id)
        weight = run.log_bytes + len(run.request.input) + _RUN_BYTES
        self._bytes += weight - fold.weight
        fold.weight = weight
        while self._bytes > _KEPT_BYTES and len(self._folds) > 1:
            self.forget(next(iter(self._folds)))
