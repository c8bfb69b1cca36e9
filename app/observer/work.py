"""What begins and ends: runs, members' parts in them, model calls, tool calls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from app.domain.closing import Ending, Failed
from app.domain.events import Origin, Usage
from app.domain.run import MemberRun, Run, RunRequest
from app.domain.status import Status

Outcome = Literal["completed", "cancelled", "error", "lost"]
"""How work ended; `lost`: another replica has the run now, and tells its end."""

UNKNOWN: Final = "unknown"
"""The name of a tool that a model made up."""


_NONE: Final = Usage()


@dataclass(frozen=True, slots=True)
class Stop:
    """A request to stop, of a team run or of one member's; `asked_at` is monotonic."""

    scope: Literal["team", "member"]
    asked_at: float


@dataclass(eq=False, slots=True, kw_only=True)
class Work:
    """Something that takes time; times are `time.monotonic()`.

    `outcome` is there when it has ended; `code` says why in an error, `stop` why when cancelled.
    """

    began_at: float = field(default_factory=time.monotonic)
    outcome: Outcome | None = None
    code: str | None = None
    stop: Stop | None = None

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self.began_at

    def conclude(self, of: Run | MemberRun, ending: Ending | None) -> None:
        """Take over how a run ended, or how it will, where that is not in its log yet.

        Without an ending its log is not ours to end any more.
        """
        if of.status.is_final:
            self.outcome = _OUTCOMES[of.status]
            self.code = of.error.code if of.error else None
        elif isinstance(ending, Failed):
            self.outcome, self.code = "error", ending.failure.code
        else:
            self.outcome = "lost" if ending is None else "cancelled"


@dataclass(eq=False, slots=True)
class RunWork(Work):
    """A run, from its admission to its final event; `trace` is what its request said of a trace."""

    request: RunRequest
    origin: Origin
    trace: Mapping[str, str] = field(default_factory=dict)
    usage: Usage = _NONE
    has_spoken: bool = False

    @property
    def team_run(self) -> RunWork:
        """The team run that it belongs to: itself."""
        return self


@dataclass(eq=False, slots=True)
class MemberWork(Work):
    """A member's work on a task; `tool_call_id` is the call by which it was delegated."""

    team_run: RunWork
    origin: Origin
    tool_call_id: str
    usage: Usage = _NONE


Place = RunWork | MemberWork
"""Whose work a call is a part of: the leader's, which is the run's, or a member's."""


@dataclass(eq=False, slots=True)
class ModelCall(Work):
    """One turn of an agent; `headers` are what is to go with the request, set when it begins."""

    place: Place
    model: str
    turn: int
    headers: Mapping[str, str] = field(default_factory=dict)
    usage: Usage = _NONE
    finish_reason: str | None = None
    upstream_status: int | None = None
    upstream_code: str | None = None
    has_spoken: bool = False


@dataclass(eq=False, slots=True)
class ToolUse(Work):
    """A tool call; the name is that of a tool which there is, or `UNKNOWN`."""

    place: Place
    call_id: str
    name: str


_OUTCOMES: Final[Mapping[Status, Outcome]] = {
    Status.COMPLETED: "completed",
    Status.CANCELLED: "cancelled",
    Status.ERROR: "error",
}
