"""Where a run stands, and what moves it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from app.domain.events import (
    Entry,
    Event,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunError,
    RunStarted,
)


class Status(StrEnum):
    """Where a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    ERROR = "error"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self in (Status.COMPLETED, Status.CANCELLED, Status.ERROR)


TRANSITIONS: Final[Mapping[type[Event], Mapping[Status, Status]]] = {
    RunStarted: {Status.PENDING: Status.RUNNING, Status.CANCELLING: Status.CANCELLING},
    RunCancelRequested: {
        Status.PENDING: Status.CANCELLING,
        Status.RUNNING: Status.CANCELLING,
        Status.CANCELLING: Status.CANCELLING,
    },
    RunCompleted: {Status.RUNNING: Status.COMPLETED},
    RunError: {Status.PENDING: Status.ERROR, Status.RUNNING: Status.ERROR},
    RunCancelled: {Status.CANCELLING: Status.CANCELLED},
}
"""The events that move a status, and from where; every other event leaves it as it is."""


def any_moves(entries: Iterable[Entry]) -> bool:
    """Whether any of them moves a status: words do not, and nearly all entries are words."""
    return not TRANSITIONS.keys().isdisjoint([type(entry.event) for entry in entries])
