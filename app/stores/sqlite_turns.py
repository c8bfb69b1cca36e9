"""The steps of each run, one at a time, on their way through the writer."""

from __future__ import annotations

from functools import partial

from app.stores.sqlite_shared import Frames
from app.stores.sqlite_shelf import Kept
from app.stores.sqlite_steps import Step
from app.stores.sqlite_writer import Unit, Writer
from app.stores.watchers import Watchers


class Turns:
    """Decides a run's next step when the one before it is stored, and has it stored."""

    def __init__(self, writer: Writer, watchers: Watchers) -> None:
        self._writer = writer
        self._watchers = watchers

    def enqueue(self, kept: Kept, step: Step) -> None:
        """Let a run take a step, after those that wait already."""
        kept.steps.append(step)
        if len(kept.steps) == 1:
            self._go_on(kept)
        elif step.is_urgent:
            self._writer.hurry()

    def _go_on(self, kept: Kept) -> None:
        """Decide steps, up to the first that is to be stored."""
        while kept.steps:
            step = kept.steps[0]
            try:
                work = step.decide()
            except Exception as refused:
                kept.steps.popleft().refuse(refused)
                continue
            if work is not None:
                told = partial(self._stored, kept), partial(self._failed, kept)
                by = kept if isinstance(work, Frames) else None  # only words can wait
                self._writer.hand_over(Unit(work, *told, by=by))
                return
            kept.steps.popleft().take()

    def _stored(self, kept: Kept, _: None) -> None:
        step = kept.steps.popleft()
        try:
            step.take()
        except Exception as defect:
            step.refuse(defect)
        self._watchers.tell(kept.run.run_id)
        self._go_on(kept)

    def _failed(self, kept: Kept, error: Exception) -> None:
        """Fail those behind it as well: they would wait as long for the same."""
        steps = list(kept.steps)
        kept.steps.clear()
        for step in steps:
            step.refuse(error)
