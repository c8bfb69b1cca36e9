"""The seams of the service: what the runtime asks of models, tools, stores and the clock.

Each is a Protocol with at least one implementation that needs nothing but Python (the scripted
model, the memory store), and one contract suite in the tests that every implementation passes.
They stand on one page, long as it is, for together they are all that an implementation may know.

Values are frozen dataclasses; those that every event makes anew are msgspec's structs, which are
made in a fifth of the time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import msgspec

from app.domain.errors import RetryCode
from app.domain.events import Entry, FinishReason, ToolStatus, Usage
from app.domain.run import Cancel, MemberRun, Run, RunRequest
from app.domain.status import Status

# --- models ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a model is told of a tool; `parameters` is a JSON Schema of type `object`."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UserText:
    """What the person, or the leader in a member's conversation, says."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for; `arguments` is JSON text as the model wrote it."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class AssistantTurn:
    """What the model said in one turn.

    `provider_items` are the provider's own output items of the turn (reasoning included), to be
    given back as they came to the same provider; empty where there are none.
    """

    text: str
    calls: tuple[ToolCall, ...] = ()
    provider_items: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answers; `output` is exactly the string the model reads."""

    call_id: str
    output: str
    status: ToolStatus = "completed"


ConversationItem = UserText | AssistantTurn | ToolResult


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One model call: everything the model is to know. Nothing is kept on the provider's side.

    `headers` are HTTP header fields of this call alone, where there is HTTP: a trace's.
    """

    instructions: str
    conversation: Sequence[ConversationItem]
    tools: Sequence[ToolSpec] = ()
    hosted_tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: Literal["auto", "required"] = "auto"
    parallel_tool_calls: bool = True
    max_output_tokens: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class TextDelta(msgspec.Struct, frozen=True):
    """A piece of the answer, or of a refusal; never empty, never a lone surrogate."""

    text: str


class ReasoningDelta(msgspec.Struct, frozen=True):
    """A piece of the reasoning summary; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Retry:
    """The call failed before its first token, and is made again after `delay_s` seconds.

    `attempt` is the number of the request that failed, from 1. It is told before the wait.
    """

    attempt: int
    delay_s: float
    code: RetryCode
    upstream_status: int | None = None
    upstream_code: str | None = None


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """The provider's own end of a turn, always the last event of a stream that did not fail.

    `usage` is what the provider reported, `None` when it did not. `text` is the whole text.
    """

    turn: AssistantTurn
    finish_reason: FinishReason = "stop"
    usage: Usage | None = None


ModelEvent = TextDelta | ReasoningDelta | Retry | TurnEnd


class Model(Protocol):
    """A language model behind a name such as `openai:gpt-5.2-mini`."""

    @property
    def name(self) -> str:
        """The name under which teams and events know it."""

    def stream(
        self, request: ModelRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[ModelEvent]]]:
        """Call the model; iterate over what arrived together, in order.

        An empty batch tells that the model is at work, and has nothing to say yet.

        Leaving the context closes the connection at once, however it is left, which is what makes
        a provider stop generating. Raises `ModelFailed`, and nothing else of its own. An iterator
        that ends without `TurnEnd` is a defect of the implementation.
        """


# --- tools ----------------------------------------------------------------------------------------


class Tool(Protocol):
    """Something a model can call."""

    @property
    def spec(self) -> ToolSpec:
        """What the model is told of it."""

    async def __call__(self, call: ToolCall) -> ToolResult:
        """Do it. A mistake of the model or of the tool is a result with the status `error`."""


# --- stores ---------------------------------------------------------------------------------------


class Page(msgspec.Struct, frozen=True):
    """Frames of a log behind a cursor, joined: `last` is the place of the last one.

    `is_end` tells that the run is final and nothing comes after `last`; `is_all` that there was
    nothing after it yet, so that there is no need to ask again before there is news.
    """

    frames: bytes
    last: int
    is_end: bool
    is_all: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs of a tenant a list shows; it goes on after the run with the id `after`."""

    statuses: frozenset[Status] = frozenset()
    tenant: str = ""
    team_id: str | None = None
    session_id: str | None = None
    limit: int = 20
    after: str | None = None

    def shows(self, run: Run) -> bool:
        """Whether a run is one of them, its place in the list aside."""
        return (
            run.request.tenant == self.tenant
            and (not self.statuses or run.status in self.statuses)
            and self.team_id in (None, run.request.team_id)
            and self.session_id in (None, run.request.session_id)
        )


class Hint(Protocol):
    """Wakes one waiter up when a run may have changed, or when somebody tells it to look."""

    def tell(self) -> None:
        """Wake the waiter, now or as soon as it waits."""

    def wait(self) -> Awaitable[None]:
        """Return what is done when something may have changed since the last `wait`."""


FlagListener = Callable[[str, Cancel], None]
LossListener = Callable[[str], None]


class Store(Protocol):
    """Runs, their logs and their cancellation flags; open while its context is.

    Runs given out are for reading: only `append` and `request_cancel` change one. Every method
    raises `StoreUnavailable` when the store does not answer.
    """

    async def __aenter__(self) -> Self:
        """Open it. Raises `ConfigurationError` when it cannot be had."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """Close it, what was handed over stored first."""

    async def create(self, request: RunRequest) -> Run:
        """Store a new, pending run, owned by this replica, which stays current.

        Where the tenant has a run with the same idempotency key, that one is returned, and nothing
        is stored. Raises `Overloaded` when the store is full.
        """

    async def load(self, run_id: str) -> Run | None:
        """Return the team run with this id, or the one that has a member run with this id."""

    def append(self, run_id: str, entries: Sequence[Entry]) -> Awaitable[None] | None:
        """Hand entries of a run of this replica over, to be stored in one atomic step.

        Returns `None` when they are stored already, else what to wait for, and to wait for again
        if that is cancelled; they are stored even if nobody waits. When stored, the run that
        `create` returned has them applied. Raises, or the awaitable does, `AppendRefused`, and
        then none of the entries is stored. One batch of a run at a time; after `StoreUnavailable`
        the same one may be handed over again, and is not stored twice.
        """

    async def read(self, run_id: str, after: int, limit_bytes: int) -> Page:
        """Return frames behind the cursor, at least one if there is any, up to about a limit."""

    def watch(self, run_id: str) -> AbstractContextManager[Hint]:
        """Be told of changes of a team run while the context is open."""

    async def request_cancel(self, run_id: str, cancel: Cancel) -> Run | MemberRun | None:
        """Raise the cancellation flag of a team run or of a member run, unless it is too late.

        Returns the run as it stands after that, `None` when there is none.
        """

    def on_flag(self, listener: FlagListener) -> None:
        """Have `listener(run_id, cancel)` called when a flag of a run of this replica goes up."""

    def on_loss(self, listener: LossListener) -> None:
        """Have `listener(run_id)` called when a run is not this replica's any more."""

    async def list(self, which: Filter) -> Sequence[Run]:
        """Return team runs, newest first; at most `limit`. Raises `BadCursor`."""

    async def ping(self) -> None:
        """Return when the store answers."""

    async def renew(self) -> None:
        """Tell the other replicas that this one lives, and still owns its runs."""

    async def claim_abandoned(self) -> Sequence[Run]:
        """Take over unfinished runs whose owner is gone; they are this replica's to end now."""

    async def sweep(self, finished_before: str, limit: int) -> int:
        """Remove up to `limit` runs that ended before a time, whole; return how many it were."""

    async def purge(self, run_id: str) -> None:
        """Remove a team run, whole, if there is one and it is final."""

    async def secret(self, name: str) -> bytes:
        """Return the 32 random bytes under a name, made when somebody first asks for them.

        All replicas get the same, now and after restarts, for as long as the store keeps anything.
        """


# --- the clock ------------------------------------------------------------------------------------


class Clock(Protocol):
    """What time it is."""

    def now(self, offset_s: float = 0.0) -> str:
        """Return the time as RFC 3339, UTC, with milliseconds: `2026-11-22T09:57:12.123Z`."""
