"""What a client asks for, and the run that it leads to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import uuid4

from app.domain.errors import IdempotencyKeyReused
from app.domain.run import OnDisconnect, Run, RunRequest
from app.runtime.team import Team


@dataclass(frozen=True, slots=True)
class Order:
    """What a client asks for; `None` means the service's default.

    `trace` are the header fields that say of which trace the run is to be a part.
    """

    input: str
    team_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    on_disconnect: OnDisconnect = "continue"
    timeout_s: float | None = None
    max_output_tokens: int | None = None
    session_id: str | None = None
    tenant: str = ""
    idempotency_key: str | None = None
    body_digest: str | None = None
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Started:
    """The run that an order led to; `is_replay` when an earlier request had started it."""

    run: Run
    is_replay: bool = False


def request_of(order: Order, team: Team, now: str, most_s: float) -> RunRequest:
    """Return what a new run of a team is to do; it may take `most_s` seconds at most."""
    return RunRequest(
        run_id=str(uuid4()),
        team_id=team.leader.id,
        team_name=team.leader.name,
        input=order.input,
        created_at=now,
        timeout_s=min(order.timeout_s or most_s, most_s),
        session_id=order.session_id,
        metadata=order.metadata,
        on_disconnect=order.on_disconnect,
        max_output_tokens=order.max_output_tokens,
        tenant=order.tenant,
        idempotency_key=order.idempotency_key,
        body_digest=order.body_digest,
    )


def replay(run: Run, request: RunRequest) -> Started:
    """Return the run that an earlier request with the same key started.

    Raises `IdempotencyKeyReused`.
    """
    if run.request.body_digest != request.body_digest:
        raise IdempotencyKeyReused("the idempotency key was used with another body")
    return Started(run, is_replay=True)
