"""The events of a run: one class per fact, encoded once.

An event is said by somebody: the team run (its names begin with `Team`) or a member run. Who says
it is the event's `Origin`; what is said is the `Event`; at which place of the log, and when, is
the `Entry`. An entry becomes bytes exactly once, here, as the server-sent-events frame that every
reader gets: stores keep these bytes, so every reader on every replica sees the same ones.

Frames are ASCII: whatever the model wrote (newlines, NUL, U+2028, lone surrogates) is escaped by
JSON inside one `data:` line, so no text can end a frame or begin another. The frame's grammar is
the HTML standard's, section 9.2.5, "Parsing an event stream".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii
from typing import Any, Final, Literal

import msgspec

FinishReason = Literal["stop", "length", "refusal"]
CancelBy = Literal["request", "disconnect"]
ToolStatus = Literal["completed", "error", "cancelled"]


class Usage(msgspec.Struct, frozen=True):
    """Tokens spent. `estimated` when any part was counted as UTF-8 bytes / 4, not reported."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    estimated: bool = False

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.total_tokens + other.total_tokens,
            self.estimated or other.estimated,
        )


class Failure(msgspec.Struct, frozen=True):
    """Why a run ended in error; the `error` of the contract."""

    code: str
    message: str
    upstream_status: int | None = None
    upstream_code: str | None = None


class Event(msgspec.Struct, frozen=True):
    """One fact about a run, without its place in the log."""


class RunStarted(Event, frozen=True):
    """The first event of a run that began: `mode` is the team's, the rest a member's."""

    model: str
    mode: str | msgspec.UnsetType = msgspec.UNSET
    task: str | msgspec.UnsetType = msgspec.UNSET
    tool_call_id: str | msgspec.UnsetType = msgspec.UNSET


class RunContent(Event, frozen=True):
    """One text delta of the model; `turn` counts the agent's model calls from 1."""

    content: str
    turn: int


class ReasoningContentDelta(Event, frozen=True):
    """One delta of the model's reasoning summary."""

    content: str
    turn: int


class ToolCallStarted(Event, frozen=True):
    """A tool begins; `arguments` is the JSON text as the model wrote it, valid or not."""

    tool_call_id: str
    tool_name: str
    arguments: str
    turn: int


class ToolCallCompleted(Event, frozen=True):
    """A tool ended; `result` is exactly the string the model reads, `None` if it never will."""

    tool_call_id: str
    tool_name: str
    status: ToolStatus
    result: str | None
    turn: int


class ModelRetry(Event, frozen=True):
    """The model is called again after `delay_s` seconds; `attempt` counts the requests from 1."""

    attempt: int
    delay_s: float
    code: Literal["rate_limited", "server_error", "connection_error"]
    upstream_status: int | None
    upstream_code: str | None
    turn: int


class RunCancelRequested(Event, frozen=True):
    """Somebody asked this run to stop."""

    reason: str | None
    by: CancelBy


class RunCompleted(Event, frozen=True):
    """The run answered."""

    content: str
    finish_reason: FinishReason
    usage: Usage


class RunCancelled(Event, frozen=True):
    """The run was stopped; `content` is what it had said."""

    content: str
    reason: str | None
    usage: Usage


class RunError(Event, frozen=True):
    """The run failed; `content` is what it had said."""

    error: Failure
    content: str
    usage: Usage


FINAL: Final = (RunCompleted, RunCancelled, RunError)
_KINDS: Final[Mapping[str, type[Event]]] = {
    kind.__name__: kind
    for kind in (
        RunStarted,
        RunContent,
        ReasoningContentDelta,
        ToolCallStarted,
        ToolCallCompleted,
        ModelRetry,
        RunCancelRequested,
        *FINAL,
    )
}
EVENT_NAMES: Final = (*(f"Team{name}" for name in _KINDS), *_KINDS)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who says an event: the team run, or a member run (then `parent_run_id` is the team run's).

    `id` and `name` are the team's or the agent's. What they look like in every frame is rendered
    once, because it is most of a frame's bytes.
    """

    run_id: str
    id: str
    name: str
    session_id: str | None = None
    parent_run_id: str | None = None
    prefix: str = field(init=False, repr=False, compare=False)
    rendered: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields = {"run_id": self.run_id}
        if self.session_id is not None:
            fields["session_id"] = self.session_id
        if self.parent_run_id is None:
            fields |= {"team_id": self.id, "team_name": self.name}
        else:
            fields["parent_run_id"] = self.parent_run_id
            fields |= {"agent_id": self.id, "agent_name": self.name}
        object.__setattr__(self, "prefix", "Team" if self.parent_run_id is None else "")
        object.__setattr__(self, "rendered", _inner(fields))


class Entry(msgspec.Struct, frozen=True):
    """An event at its place: `seq` counts a log's entries from 1, `created_at` is RFC 3339, UTC."""

    seq: int
    created_at: str
    origin: Origin
    event: Event
    frame: bytes


def encode(seq: int, created_at: str, origin: Origin, event: Event) -> Entry:
    """Give an event its place in a log, and the bytes that every reader will get."""
    name = origin.prefix + type(event).__name__
    if type(event) is RunContent:  # nearly every event is one: no dict, no general encoder
        own = f'"content":{encode_basestring_ascii(event.content)},"turn":{event.turn}'
    else:
        own = _inner(msgspec.to_builtins(event))
    frame = (
        f'id: {seq}\nevent: {name}\ndata: {{"event":"{name}","seq":{seq},'
        f'{origin.rendered},"created_at":"{created_at}",{own}}}\n\n'
    )
    return Entry(seq, created_at, origin, event, frame.encode("ascii"))


def decode(frame: bytes) -> Entry:
    """Read a frame of ours back, as a store does that folds a log it did not write."""
    fields: dict[str, Any] = json.loads(data_of(frame))
    name = fields.pop("event")
    parent = fields.pop("parent_run_id", None)
    who = "agent" if parent else "team"
    origin = Origin(
        run_id=fields.pop("run_id"),
        id=fields.pop(f"{who}_id"),
        name=fields.pop(f"{who}_name"),
        session_id=fields.pop("session_id", None),
        parent_run_id=parent,
    )
    seq, created_at = fields.pop("seq"), fields.pop("created_at")
    event = msgspec.convert(fields, _KINDS[name.removeprefix("Team")])
    return Entry(seq, created_at, origin, event, frame)


def data_of(frame: bytes) -> bytes:
    """Return the JSON text of a frame, which is its NDJSON line without the newline."""
    return frame[frame.index(b"\ndata: ") + 7 : -2]


def _inner(fields: Mapping[str, Any]) -> str:
    """Render a mapping as the inside of a JSON object, ASCII only."""
    return json.dumps(fields, separators=(",", ":"))[1:-1]
