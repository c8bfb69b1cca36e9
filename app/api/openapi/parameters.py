"""Parameters and headers: those that routes read or write by themselves, what the others mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.api.openapi.examples import RUN_ID
from app.api.openapi.schemas import Schema, untitled

_SAID: Final[Mapping[str, Schema]] = {
    "run_id": {
        "description": "The id of a run, or of a member run.",
        "schema": {"format": "uuid"},
        "example": RUN_ID,
    },
    "team_id": {"description": "The team's id.", "example": "storytelling"},
    "wait": {"description": "Seconds to wait for the run's end."},
    "reason": {"description": "Why the run is to stop; told in its events."},
    "purge": {
        "description": "`true` removes a run that has ended, with its log, for good.",
        "schema": {"default": False},
    },
    "all": {
        "description": "`true` stops all runs; not together with `session_id`.",
        "schema": {"default": False},
    },
    "status": {"description": "Only runs with this status; may be repeated."},
    "team": {"description": "Only runs of this team."},
    "session_id": {"description": "Only runs of this session."},
    "limit": {"description": "How many runs a page has at most."},
    "after": {"description": "The `next` of the page before."},
}
_CURSOR: Final = {"type": "string", "pattern": "^[0-9]{0,18}$"}

PARAMETERS: Final[Mapping[str, Schema]] = {
    "LastEventId": {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The cursor: the `seq` behind which to read on, in decimal digits; an empty"
        " one counts as none. `EventSource` sends it by itself.",
        "schema": _CURSOR,
        "example": "17",
    },
    "LastEventIdQuery": {
        "name": "last_event_id",
        "in": "query",
        "description": "The cursor for a first request, which no header can tell; the header wins.",
        "schema": _CURSOR,
        "example": "17",
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The client's own name for this request, to repeat it safely.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        "example": "0f8b6c1e",
    },
}
_TEXT: Final = {"type": "string"}
_PATH: Final = {"type": "string", "format": "uri-reference"}
HEADERS: Final[Mapping[str, Schema]] = {
    "Location": {"description": "The run; of JSON answers.", "schema": _PATH},
    "Content-Location": {"description": "The run's events; of streams.", "schema": _PATH},
    "X-Run-Id": {
        "description": "The run's id, before the first byte; of streams.",
        "schema": {"type": "string", "format": "uuid"},
    },
    "Idempotency-Replayed": {
        "description": "The run was started by an earlier request with the same key.",
        "schema": {"const": "true"},
    },
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "How to show a key.",
        "schema": {"const": "Bearer"},
    },
    "X-Request-Id": {
        "description": "Names this request in the service's log.",
        "schema": {**_TEXT, "pattern": "^[0-9a-f]{16}$"},
    },
    "Cache-Control": {"description": "Do not keep it.", "schema": {"const": "no-store"}},
    "X-Accel-Buffering": {
        "description": "Asks proxies to pass events on one by one; of streams.",
        "schema": {**_TEXT, "const": "no"},
    },
}


def parameter(found: Schema) -> Schema:
    """Return a parameter that the framework found on a route, with what it means."""
    said = _SAID[found["name"]]
    return {
        "name": found["name"],
        "in": found["in"],
        "required": found["required"],
        **said,
        "schema": {**_not_null(untitled(found["schema"])), **said.get("schema", {})},
    }


def _not_null(schema: Schema) -> Schema:
    """A parameter is there or is not; only Python has a third."""
    for one in schema.get("anyOf", ()):
        if one != {"type": "null"}:
            wanted: dict[str, Any] = one
            return wanted
    return {key: value for key, value in schema.items() if key != "description"}
