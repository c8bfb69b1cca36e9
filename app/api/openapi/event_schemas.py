"""The schemas of events, one per name, and of the streams they come in.

An event's own fields are read off its class in `domain/events.py`; what stands around them (who
says it, and at which place) is what `Origin` and `encode` render. A stream is described by
`itemSchema`, OpenAPI 3.2's word for media types that are a sequence: an item of the event stream is
what `EventSource` hands out, an item of NDJSON is the event itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

import msgspec

from app.api.negotiation import EVENT_STREAM, NDJSON
from app.api.openapi import examples
from app.api.openapi.schemas import Schema, ref, untitled
from app.domain import events
from app.domain.events import EVENT_NAMES
from app.domain.team import Mode

_TEXT: Final = {"type": "string"}
_ID: Final = {"type": "string", "format": "uuid"}
_COUNT: Final = {"type": "integer", "minimum": 1}

_PLACE: Final[Mapping[str, Schema]] = {
    "seq": {**_COUNT, "description": "The place in the team run's log, from 1 without gaps."},
    "run_id": {**_ID, "description": "Whose event it is."},
    "session_id": {**_TEXT, "description": "The run's session; absent where it has none."},
    "created_at": {
        **_TEXT,
        "format": "date-time",
        "description": "When it was written: RFC 3339, UTC, milliseconds.",
    },
}
_SPEAKERS: Final[Mapping[str, Mapping[str, Schema]]] = {
    "Team": {
        "team_id": {**_TEXT, "description": "The team's id."},
        "team_name": {**_TEXT, "description": "The team's name."},
    },
    "": {
        "parent_run_id": {**_ID, "description": "The team run's id."},
        "agent_id": {**_TEXT, "description": "The member's id in its team."},
        "agent_name": {**_TEXT, "description": "The member's name."},
    },
}
_NOT_SAID_BY: Final[Mapping[str, frozenset[str]]] = {
    "Team": frozenset({"task", "tool_call_id"}),
    "": frozenset({"mode"}),
}
"""The fields of `RunStarted` that only the other one has; what is left is always there."""

_FACTS: Final = {
    "RunStarted": "The work begins.",
    "RunContent": "One text delta of the model.",
    "ReasoningContentDelta": "One delta of the model's reasoning summary.",
    "ToolCallStarted": "A tool begins.",
    "ToolCallCompleted": "A tool ended.",
    "ModelRetry": "The model is called again after a delay.",
    "RunCancelRequested": "Somebody asked the run to stop; only closings follow.",
    "RunCompleted": "The run answered. Final.",
    "RunCancelled": "The run was stopped. Final.",
    "RunError": "The run failed. Final.",
}
_FIELDS: Final[Mapping[str, Schema]] = {
    "model": {"description": "The language model."},
    "mode": {"description": "How the leader works with the members.", "enum": [*get_args(Mode)]},
    "task": {"description": "What the member was given to do."},
    "tool_call_id": {"description": "The tool call; of a member's start, the one it works on."},
    "content": {"description": "The piece; of a final event, the text by the rule of the run."},
    "turn": {"description": "The agent's model call, from 1.", "minimum": 1},
    "tool_name": {"description": "The tool's name."},
    "arguments": {"description": "The JSON text as the model wrote it, valid or not, to 64 KiB."},
    "status": {"description": "How the call ended; a delegation's is its member's."},
    "result": {"description": "Exactly the string the model reads; `null` if it never will."},
    "attempt": {"description": "The number of the request that failed, from 1.", "minimum": 1},
    "delay_s": {"description": "Seconds until the next.", "minimum": 0},
    "code": {"description": "Why the request failed."},
    "upstream_status": {"description": "The provider's HTTP status, where it gave one."},
    "upstream_code": {"description": "The provider's own code, where it gave one."},
    "reason": {"description": "Why, as the one who asked put it."},
    "by": {"description": "A request, or the disconnect of a client that had asked so."},
    "finish_reason": {"description": "Why the answer ended."},
    "usage": {"description": "Tokens spent; the team run's are leader's and members' together."},
    "error": {"description": "Why it failed."},
}


def event_schemas() -> dict[str, Schema]:
    """Return a schema per event by name, `Event` for any of them, and that of a stream's item."""
    kinds = [getattr(events, name) for name in _FACTS]
    _, found = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    own = {name: _own_fields(untitled(found[name])) for name in _FACTS}
    named = {name: _event(name, own[name.removeprefix("Team")]) for name in EVENT_NAMES}
    return {**named, "Event": _any_event(), "ServerSentEvent": _server_sent_event()}


def stream_content() -> dict[str, Schema]:
    """Return the two media types of events, each with its item's schema."""
    names = list(EVENT_NAMES)
    return {
        EVENT_STREAM: {
            "itemSchema": ref("ServerSentEvent"),
            "examples": {"story": _written(examples.stream())},
            "x-event-names": names,
        },
        NDJSON: {
            "itemSchema": ref("Event"),
            "examples": {"story": _written(examples.lines())},
            "x-event-names": names,
        },
    }


def _written(text: str) -> Schema:
    return {"summary": "A run with one member, from its first event", "serializedValue": text}


def _own_fields(schema: Schema) -> dict[str, Schema]:
    return {name: _told(name, part) for name, part in schema["properties"].items()}


def _told(name: str, part: Schema) -> Schema:
    """Add what the class does not say; its enumerations have no type."""
    typed = {"type": "string", **part} if "enum" in part else part
    return {**typed, **_FIELDS[name]}


def _event(name: str, own: Mapping[str, Schema]) -> Schema:
    speaker = "Team" if name.startswith("Team") else ""
    others = _NOT_SAID_BY[speaker] if name.endswith("RunStarted") else frozenset()
    properties = {
        "event": {"type": "string", "const": name, "description": "The event's name."},
        **_PLACE,
        **_SPEAKERS[speaker],
        **{field: part for field, part in own.items() if field not in others},
    }
    return {
        "type": "object",
        "description": _FACTS[name.removeprefix("Team")],
        "properties": properties,
        "required": [field for field in properties if field != "session_id"],
        "examples": [examples.event(name)],
    }


def _any_event() -> Schema:
    return {
        "description": "One fact about a run. Ignore events whose name you do not know.",
        "oneOf": [ref(name) for name in EVENT_NAMES],
        "discriminator": {
            "propertyName": "event",
            "mapping": {name: ref(name)["$ref"] for name in EVENT_NAMES},
        },
    }


def _server_sent_event() -> Schema:
    json_text = {"type": "string", "contentMediaType": "application/json"}
    return {
        "type": "object",
        "description": "An `Event` as `EventSource` hands it out: its name and its JSON.",
        "properties": {
            "id": {
                **_TEXT,
                "pattern": "^[1-9][0-9]{0,17}$",
                "description": "The event's `seq`: what to send as `Last-Event-ID` to read on.",
            },
            "event": {**_TEXT, "description": "The event's name."},
            "data": {**json_text, "description": "The event as one line of ASCII JSON."},
            "retry": {
                "type": "integer",
                "description": "When to come back, in milliseconds; before the first event only.",
            },
        },
        "required": ["id", "event", "data"],
        "oneOf": [_frame(name, json_text) for name in EVENT_NAMES],
    }


def _frame(name: str, json_text: Mapping[str, Any]) -> Schema:
    return {
        "properties": {
            "event": {"const": name},
            "data": {**json_text, "contentSchema": ref(name)},
        },
        "required": ["event"],
    }
