"""What happens in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.domain.errors import RetryCode
from app.domain.run import MemberRun, Run
from app.observer.work import ModelCall, RunWork, Stop

ReaderEnd = Literal["completed", "left", "dropped"]
"""How a reader's stream ended; `dropped`: it took nothing for too long."""


@dataclass(frozen=True, slots=True)
class RunBegan:
    """A pending run has got its place."""

    work: RunWork


@dataclass(frozen=True, slots=True)
class FirstToken:
    """A model call has said the first of its text or reasoning; `of_run`: its run's first too."""

    call: ModelCall
    of_run: bool


@dataclass(frozen=True, slots=True)
class Retried:
    """A model call failed before its first token, and is made again after a pause."""

    call: ModelCall
    attempt: int
    delay_s: float
    code: RetryCode
    upstream_status: int | None


@dataclass(frozen=True, slots=True)
class CancelTaken:
    """This replica was asked to stop a run, on whatever replica it is, and the flag is up."""

    of: Run | MemberRun


@dataclass(frozen=True, slots=True)
class CancelSeen:
    """The replica that works on a run has heard of the flag."""

    run_id: str
    stop: Stop


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """A run of this replica is another one's now."""

    run_id: str


@dataclass(frozen=True, slots=True)
class AbandonedRunEnded:
    """This replica wrote the end of a run whose own is gone."""

    run: Run


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """The store did not answer an append; it is asked again."""


@dataclass(frozen=True, slots=True)
class StoreLost:
    """The store does not answer, for the first time in a row."""


@dataclass(frozen=True, slots=True)
class StoreBack:
    """The store answers again, after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class DrainBegan:
    """No new runs are taken any more; so many have not ended."""

    unfinished: int


@dataclass(frozen=True, slots=True)
class DrainEnded:
    """The drain is over; so many runs have not ended."""

    unfinished: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ReaderGone:
    """A stream of a run's events is over."""

    run_id: str
    end: ReaderEnd
    sent_bytes: int
    seconds: float


Fact = (
    RunBegan
    | FirstToken
    | Retried
    | CancelTaken
    | CancelSeen
    | LeaseLost
    | AbandonedRunEnded
    | StoreFailed
    | StoreLost
    | StoreBack
    | DrainBegan
    | DrainEnded
    | ReaderGone
)
