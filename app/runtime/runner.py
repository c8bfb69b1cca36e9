"""Starts, cancels and drains the runs of this replica."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.domain.events import CancelBy
from app.domain.run import MemberRun, OnDisconnect, Run


@dataclass(frozen=True, slots=True)
class Order:
    """What a client asks for; `None` means the service's default."""

    input: str
    team_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    on_disconnect: OnDisconnect = "continue"
    timeout_s: float | None = None
    max_output_tokens: int | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """How many runs this replica works on, and how many wait for their turn."""

    running: int
    pending: int


class Runner:
    """The runs of this replica."""

    @property
    def is_draining(self) -> bool:
        """Whether new runs are refused because the process is about to go."""
        raise NotImplementedError

    @property
    def load(self) -> Load:
        """How busy this replica is."""
        raise NotImplementedError

    async def start(self, order: Order) -> Run:
        """Store a new run and set it going. Raises `TeamNotFound`, `Overloaded`, `Draining`."""
        raise NotImplementedError

    async def cancel(self, run_id: str, reason: str | None, by: CancelBy) -> Run | MemberRun:
        """Raise the cancellation flag of a run or member run; its status tells what came of it."""
        raise NotImplementedError
