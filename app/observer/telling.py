"""Who is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from app.domain.errors import ModelFailed, RunFailed
from app.observer.facts import Fact
from app.observer.work import ModelCall, Work

logger = logging.getLogger(__name__)

REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""The id of the HTTP request in which, or in consequence of which, something is done."""


class Observer:
    """Is told everything on the event loop, and does nothing with it; others do."""

    def began(self, work: Work) -> None:
        """Work begins."""

    def ended(self, work: Work) -> None:
        """Work ended; it says how."""

    def note(self, fact: Fact) -> None:
        """Something happened."""

    def appended(self, events: int, seconds: float) -> None:
        """A batch of events was stored; the only thing told as often as there are deltas."""


Doing = TypeVar("Doing", bound=Work)


class Observers(Observer):
    """Tells several observers; one that fails harms neither the others nor the run."""

    def __init__(self, *observers: Observer) -> None:
        self._began = [observer.began for observer in observers]
        self._ended = [observer.ended for observer in observers]
        self._note = [observer.note for observer in observers]
        self._appended = [
            observer.appended
            for observer in observers
            if type(observer).appended is not Observer.appended
        ]

    @contextmanager
    def doing(self, work: Doing) -> Iterator[Doing]:
        """Tell of work that begins and ends with the context, and names how it ends by itself."""
        self.began(work)
        try:
            yield work
        except BaseException as error:
            _name(work, error)
            raise
        finally:
            work.outcome = work.outcome or "completed"
            self.ended(work)

    def began(self, work: Work) -> None:
        """Tell it."""
        _tell_all(self._began, work)

    def ended(self, work: Work) -> None:
        """Tell it."""
        _tell_all(self._ended, work)

    def note(self, fact: Fact) -> None:
        """Tell it."""
        _tell_all(self._note, fact)

    def appended(self, events: int, seconds: float) -> None:
        """Tell it to those who want to know."""
        for tell in self._appended:
            tell(events, seconds)


def _tell_all(observers: Sequence[Callable[[Any], None]], what: object) -> None:
    for tell in observers:
        try:
            tell(what)
        except Exception:
            logger.exception("something could not be told")


def _name(work: Work, error: BaseException) -> None:
    """Name an outcome that nobody has named: anything but an `Exception` is a cancel."""
    if work.outcome is not None:
        return
    match error:
        case RunFailed():
            work.outcome, work.code = "error", error.code
        case Exception():
            work.outcome, work.code = "error", "internal_error"
        case _:
            work.outcome = "cancelled"
    if isinstance(work, ModelCall) and isinstance(error, ModelFailed):
        work.upstream_status, work.upstream_code = error.upstream_status, error.upstream_code
