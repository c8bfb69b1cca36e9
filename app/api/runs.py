"""Starting, looking at and listing runs."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, BeforeValidator, Field
from starlette.responses import Response

from app.api.bodies import RunBody, read_run_body
from app.api.callers import Calling, view_for
from app.api.following import settled
from app.api.lookup import checked_id
from app.api.negotiation import EVENT_STREAM, accept_of, asks_for_stream, stream_type
from app.api.problems import Flaw, Json, invalid
from app.api.services import Given, Services
from app.api.streams import FORMATS, EventStream, OnLeave, Reading
from app.api.views import listed_view
from app.domain.errors import BadCursor, TeamRunsError
from app.domain.run import MemberRun, Run
from app.domain.status import Status
from app.ports import Filter
from app.runtime.orders import Started

logger = logging.getLogger(__name__)
router = APIRouter()

_TRACE: Final = ("traceparent", "tracestate")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")

Wait = Annotated[float, Query(ge=0, le=50, description="Seconds to wait for the run's end.")]


def _digits(given: object) -> object:
    """Refuse what pydantic takes for an integer too, such as `1.0` or `1_0`."""
    if isinstance(given, str) and not (given.isascii() and given.isdigit()):
        raise ValueError("must be an integer")
    return given


class Listing(BaseModel):
    """The query of `GET /runs`."""

    status: list[Status] = []
    team: str | None = None
    session_id: str | None = None
    limit: Annotated[int, Field(ge=1, le=100), BeforeValidator(_digits)] = 20
    after: str | None = None


@router.post("/runs", status_code=202)
async def start_run(request: Request, services: Given, caller: Calling, wait: Wait = 0) -> Response:
    """Start a run; answer with it, with its end, or with its events as a stream."""
    body, digest = await read_run_body(request, services)
    key, stream = key_of(request), wants_stream(request, body)
    if stream:
        services.readers.check_room()
    order = replace(
        body.order(),
        tenant=caller.tenant,
        idempotency_key=key,
        body_digest=digest,
        trace=trace_of(request),
    )
    started = await services.runner.start(order)
    if stream:
        return _stream(request, services, started)
    run: Run | MemberRun = started.run
    if wait:
        run = await settled(services, caller.tenant, run.run_id, wait)
    status = 200 if (wait or started.is_replay) and run.status.is_final else 202
    headers = {"Location": f"/runs/{run.run_id}", **_replayed(started)}
    return Json(await view_for(caller, run, services), status, headers)


@router.head("/runs", include_in_schema=False)
@router.get("/runs")
async def list_runs(
    services: Given, caller: Calling, query: Annotated[Listing, Query()]
) -> Response:
    """List runs, newest first."""
    which = Filter(
        statuses=frozenset(query.status),
        tenant=caller.tenant,
        team_id=query.team,
        session_id=query.session_id,
        limit=query.limit + 1,  # one more tells whether there is a next page
        after=_place(query.after),
    )
    found = await services.store.list(which)
    shown = found[: query.limit]
    following = shown[-1].run_id if len(found) > len(shown) else None
    return Json({"runs": [listed_view(run) for run in shown], "next": following})


@router.head("/runs/{run_id}", include_in_schema=False)
@router.get("/runs/{run_id}")
async def read_run(run_id: str, services: Given, caller: Calling, wait: Wait = 0) -> Response:
    """Return the run, or member run, as it stands; with `wait`, as soon as it is final."""
    run = await settled(services, caller.tenant, run_id, wait)
    return Json(await view_for(caller, run, services))


def wants_stream(request: Request, body: RunBody) -> bool:
    """Whether a run's answer is to be its stream; the body wins over `Accept`."""
    stream = body.stream
    if stream is None:
        stream = asks_for_stream(accept_of(request.headers))
    if body.on_disconnect == "cancel" and not stream:
        raise invalid(Flaw(["body", "on_disconnect"], "'cancel' needs a streamed answer"))
    return stream


def key_of(request: Request) -> str | None:
    """Return the request's idempotency key, if it has one."""
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise invalid(Flaw(["header", "Idempotency-Key"], "must be 1 to 255 visible ASCII"))
    return key


def trace_of(request: Request) -> dict[str, str]:
    """Return the header fields by which a request is part of a trace (W3C Trace Context)."""
    return {name: request.headers[name] for name in _TRACE if name in request.headers}


def _stream(request: Request, services: Services, started: Started) -> Response:
    run = started.run
    if started.is_replay:
        services.readers.check_room_at(run.run_id)
    style = FORMATS[stream_type(accept_of(request.headers)) or EVENT_STREAM]
    headers = {"X-Run-Id": run.run_id, "Content-Location": f"/runs/{run.run_id}/events"}
    on_leave = _stopper(services, run) if run.request.on_disconnect == "cancel" else None
    reading = Reading(run.run_id, 0, style)
    return EventStream(services, reading, headers | _replayed(started), on_leave)


def _replayed(started: Started) -> dict[str, str]:
    return {"Idempotency-Replayed": "true"} if started.is_replay else {}


def _stopper(services: Services, run: Run) -> OnLeave:
    async def stop() -> None:
        try:
            await services.runner.cancel(run.run_id, "client disconnected", "disconnect")
        except TeamRunsError as error:
            kind = type(error).__name__
            told = {"run_id": run.run_id, "error": kind}
            logger.warning("run goes on without its client", extra=told)

    return stop


def _place(after: str | None) -> str | None:
    if not after:
        return None
    try:
        return checked_id(after)
    except TeamRunsError:
        raise BadCursor("there is no run where the list should go on") from None
