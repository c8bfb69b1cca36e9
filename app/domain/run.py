"""A run is its log: what a sequence of events says about a run and its members.

`Run.apply(entry)` is the only way a run changes, and `TRANSITIONS` (`status.py`) the one table by
which a status does. Beside the log stands the cancellation flag (`Run.request_cancel`): from the
moment it is up the status reads `cancelling`, and `Run.check` refuses every final event but the
`…Cancelled` that was promised. A store that asks `check` and then applies in one atomic step has
settled every race between a cancel and a completion, a deadline or a crash.

```
pending ──> running ──> completed          pending, running ──> error
   └───────────┴──────> cancelling ──> cancelled
```
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Literal

from app.domain.errors import CancelIsDue, RunIsFinal
from app.domain.events import (
    FINAL,
    CancelBy,
    Entry,
    Event,
    Failure,
    FinishReason,
    Origin,
    ReasoningContentDelta,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunContent,
    RunError,
    RunStarted,
    ToolCallCompleted,
    ToolCallStarted,
    Usage,
)
from app.domain.status import TRANSITIONS, Status
from app.domain.text import utf8_size

OnDisconnect = Literal["continue", "cancel"]


@dataclass(frozen=True, slots=True)
class Cancel:
    """Who asked a run to stop, and why: the first request; later ones change nothing."""

    requested_at: str
    reason: str | None
    by: CancelBy = "request"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What somebody asked for. `timeout_s` counts from `created_at`, waiting included.

    `body_digest` tells requests with the same idempotency key apart.
    """

    run_id: str
    team_id: str
    team_name: str
    input: str
    created_at: str
    timeout_s: float
    session_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    on_disconnect: OnDisconnect = "continue"
    max_output_tokens: int | None = None
    tenant: str = ""
    idempotency_key: str | None = None
    body_digest: str | None = None


class Progress:
    """What a log says of one run: the part that team runs and member runs have in common.

    `ended` is the final status, once there is one; cheaper than `status`, and asked at every event.
    """

    # Here and wherever words pass: a dict of its own costs an object two cache lines at every word.
    __slots__ = (
        "_output_bytes",
        "_text",
        "_turn",
        "_usage",
        "cancel",
        "cancel_is_logged",
        "ended",
        "error",
        "finish_reason",
        "finished_at",
        "open_calls",
        "origin",
        "started_at",
    )

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.started_at: str | None = None
        self.finished_at: str | None = None
        self.finish_reason: FinishReason | None = None
        self.error: Failure | None = None
        self.cancel: Cancel | None = None
        self.cancel_is_logged = False
        self.open_calls: dict[str, ToolCallStarted] = {}
        self.ended: Status | None = None
        self._usage: Usage | None = None
        self._turn = 0
        self._text = StringIO()
        self._output_bytes = 0

    @property
    def run_id(self) -> str:
        """The id under which this run is known."""
        return self.origin.run_id

    @property
    def is_cancelling(self) -> bool:
        """Whether it was asked to stop and has not ended."""
        return self.cancel is not None and self.ended is None

    @property
    def status(self) -> Status:
        """Where it stands: what the log says, and `cancelling` while the flag is up."""
        if self.ended is not None:
            return self.ended
        if self.is_cancelling:
            return Status.CANCELLING
        return Status.PENDING if self.started_at is None else Status.RUNNING

    @property
    def content(self) -> str:
        """The pieces of the highest turn that has any, concatenated."""
        return self._text.getvalue()

    @property
    def own_usage(self) -> Usage:
        """Tokens as the final event tells them, before that an estimate of what was written."""
        if self._usage is not None:
            return self._usage
        tokens = self._output_bytes // 4
        return Usage(0, tokens, tokens, estimated=self.started_at is not None)

    def _after(self, event: Event) -> Status:
        """Look up the status after an event; raise `RunIsFinal` or `ValueError` for none."""
        if self.ended is not None:
            raise RunIsFinal(f"run {self.run_id} has ended")
        moves = TRANSITIONS.get(type(event))
        if moves is None:
            return self.status
        if self.status not in moves:
            raise ValueError(f"{type(event).__name__} cannot follow the status {self.status}")
        return moves[self.status]

    def _apply(self, event: Event, created_at: str) -> None:
        status = self._after(event)
        if isinstance(event, RunStarted):
            self.started_at = created_at
        elif isinstance(event, RunCancelRequested):
            self.cancel = self.cancel or Cancel(created_at, event.reason, event.by)
            self.cancel_is_logged = True
        elif isinstance(event, ToolCallStarted):
            self.open_calls[event.tool_call_id] = event
            self._output_bytes += utf8_size(event.arguments)
        elif isinstance(event, ReasoningContentDelta):
            self._output_bytes += utf8_size(event.content)
        elif isinstance(event, ToolCallCompleted):
            self.open_calls.pop(event.tool_call_id, None)
        elif isinstance(event, RunCompleted | RunCancelled | RunError):
            self.ended, self.finished_at, self._usage = status, created_at, event.usage
            if isinstance(event, RunCompleted):
                self.finish_reason = event.finish_reason
            elif isinstance(event, RunError):
                self.error = event.error

    def _say(self, event: RunContent) -> None:
        if event.turn > self._turn:
            self._turn, self._text = event.turn, StringIO()
        self._text.write(event.content)
        self._output_bytes += utf8_size(event.content)


class MemberRun(Progress):
    """One member's work on one delegated task, inside its team's run."""

    __slots__ = ("_team", "task", "tool_call_id")

    def __init__(self, origin: Origin, started: RunStarted, team: Run) -> None:
        super().__init__(origin)
        self.task = started.task or ""
        self.tool_call_id = started.tool_call_id or ""
        self._team = team

    @property
    def is_cancelling(self) -> bool:
        """Whether it, or the team run above it, was asked to stop."""
        return self.ended is None and (self.cancel is not None or self._team.is_cancelling)

    @property
    def request(self) -> RunRequest:
        """What its team was asked for."""
        return self._team.request

    @property
    def usage(self) -> Usage:
        """Tokens that this member spent."""
        return self.own_usage


class Run(Progress):
    """A team run: what its log and its flag say, folded."""

    __slots__ = ("last_event_id", "log_bytes", "members", "request")

    def __init__(self, request: RunRequest) -> None:
        super().__init__(
            Origin(request.run_id, request.team_id, request.team_name, request.session_id)
        )
        self.request = request
        self.members: dict[str, MemberRun] = {}
        self.last_event_id = 0
        self.log_bytes = 0

    @property
    def usage(self) -> Usage:
        """Tokens of leader and members together."""
        if self._usage is not None:
            return self._usage
        return sum((member.usage for member in self.members.values()), start=self.own_usage)

    def find(self, run_id: str) -> Run | MemberRun | None:
        """Return the team run itself or one of its member runs."""
        return self if run_id == self.run_id else self.members.get(run_id)

    def request_cancel(self, run_id: str, cancel: Cancel) -> Run | MemberRun | None:
        """Raise the flag of the team run or of one member run, unless it is too late.

        The status of what is returned tells which: `cancelling` (taken, now or before) or final.
        """
        target = self.find(run_id)
        if target is not None and target.status in (Status.PENDING, Status.RUNNING):
            target.cancel = cancel
        return target

    def check(self, entries: Iterable[Entry]) -> None:
        """Refuse what the log must not take; a store asks this in one step with its append.

        Raises `RunIsFinal` after the final event, and `CancelIsDue` for a final event other than
        `…Cancelled` of a run or member run whose flag is up.
        """
        if self.ended is not None:
            raise RunIsFinal(f"run {self.run_id} has ended")
        for entry in entries:
            if type(entry.event) not in FINAL:
                continue
            of = self.find(entry.origin.run_id)
            if of is None:  # a member that starts and ends in one batch
                continue
            if of.status.is_final:
                raise RunIsFinal(f"run {of.run_id} has ended")
            if of.is_cancelling and not isinstance(entry.event, RunCancelled):
                raise CancelIsDue(f"run {of.run_id} was asked to stop")

    def apply(self, entry: Entry) -> None:
        """Take one entry of the log into account."""
        self.last_event_id = entry.seq
        self.log_bytes += len(entry.frame)
        event, origin = entry.event, entry.origin
        of: Run | MemberRun
        if origin is self.origin or origin.run_id == self.run_id:
            of = self
        elif isinstance(event, RunStarted):
            of = self.members[origin.run_id] = MemberRun(origin, event, self)
        else:
            of = self.members[origin.run_id]
        if type(event) is RunContent:
            of._say(event)  # noqa: SLF001 - the hot path, spared the general one
        else:
            of._apply(event, entry.created_at)  # noqa: SLF001 - a run folds its members
