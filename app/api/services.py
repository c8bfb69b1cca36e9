"""What the routes work with: made once by the composition root, read only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from app.api.readers import Readers
from app.api.tickets import Tickets
from app.api.uploads import Uploads
from app.domain.access import Keys
from app.domain.team import TeamSpec
from app.observer.telling import Observers
from app.ports import Store
from app.runtime.runner import Runner


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """What a request may ask for, and how long a client may take; the contract's settings.

    `allowed_hosts` are names besides those of loopback, without a port; `None` allows every host.
    `allowed_origins` are whole origins: `https://example.org`.
    """

    max_input_chars: int = 100_000
    max_body_bytes: int = 2_000_000
    run_timeout_s: float = 900
    read_timeout_s: float = 20
    allowed_hosts: frozenset[str] | None = frozenset()
    allowed_origins: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Services:
    """Everything behind the API; `teams` by id in the order of the teams file.

    `default_model` is the name of the model of teams and members that name none; `figures` makes
    the text of `GET /metrics`.
    """

    store: Store
    runner: Runner
    readers: Readers
    teams: Mapping[str, TeamSpec]
    default_model: str
    tickets: Tickets
    keys: Keys = field(default_factory=Keys)
    limits: ApiLimits = ApiLimits()
    uploads: Uploads = field(default_factory=Uploads)
    observers: Observers = field(default_factory=Observers)
    figures: Callable[[], bytes] = bytes


async def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


Given = Annotated[Services, Depends(_services)]
"""The parameter type by which a route asks for the services."""
