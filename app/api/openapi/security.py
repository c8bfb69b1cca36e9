"""Who may call what, as OpenAPI says it: a key, a ticket, or nothing where there are no keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.api.openapi.schemas import Schema

SCHEMES: Final[Mapping[str, Mapping[str, Any]]] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of the service. A key is a tenant's; runs, sessions, lists and"
        " idempotency keys are seen by their tenant alone. A service without keys asks for none.",
    },
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "Opens the events of one run for a while, to clients that cannot send a"
        " header. It is in `links.events` of answers about one run.",
    },
}

_KEYLESS: Final[Schema] = {}
BY_KEY: Final[Sequence[Schema]] = ({"key": []}, _KEYLESS)
BY_KEY_OR_TICKET: Final[Sequence[Schema]] = ({"key": []}, {"ticket": []}, _KEYLESS)

OF_TAGS: Final[Mapping[str, Sequence[Schema]]] = {
    "runs": BY_KEY,
    "teams": BY_KEY,
    "figures": BY_KEY,
}
"""What the operations of a tag ask for; those of the others are open to everybody."""
