"""Stopping runs, one or many, and removing what is known of one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BeforeValidator
from starlette.responses import Response

from app.api.callers import Caller, Calling, view_for
from app.api.following import settled
from app.api.lookup import find_run, part
from app.api.problems import Flaw, Json, Refused, invalid
from app.api.runs import Wait
from app.api.services import Given, Services
from app.domain.errors import NotSupported, RunNotFound
from app.domain.run import MemberRun, Run
from app.domain.status import Status
from app.ports import Filter

router = APIRouter()

_UNFINISHED: Final = frozenset({Status.PENDING, Status.RUNNING, Status.CANCELLING})
_MOST_AT_ONCE: Final = 10_000
"""How many runs one request stops: all, unless a tenant has more than ten full replicas of them."""
SIDE_BY_SIDE: Final = 100
"""How many of them a store is asked to stop together.

Together they share commits: one after another, 500 runs took SQLite 8.5 s. But a store that is
asked for too many has no time for others: with 1,200 long runs of another replica's at once, 923
of them got no answer from Redis within its 1.8 s (measured).
"""


def _true_or_false(given: object) -> object:
    """Refuse what pydantic takes for a boolean too, such as `yes`."""
    if given not in ("true", "false", True, False):
        raise ValueError("must be true or false")
    return given


Reason = Annotated[str | None, Query(max_length=200)]
Flag = Annotated[bool, BeforeValidator(_true_or_false)]


@router.delete("/runs/{run_id}", status_code=202)
async def cancel_run(  # noqa: PLR0913, PLR0917 - FastAPI reads parameters off the signature
    run_id: str,
    services: Given,
    caller: Calling,
    reason: Reason = None,
    wait: Wait = 0,
    purge: Flag = False,
) -> Response:
    """Ask a run, or a member run, to stop; or remove a run that has ended."""
    run = await find_run(services.store, run_id, caller.tenant)
    if purge:
        return await _purge(services, caller, part(run, run_id))
    stopped = await services.runner.cancel(run_id, reason or None, "request")
    if wait and stopped.status is Status.CANCELLING:
        stopped = await settled(services, caller.tenant, run_id, wait)
    return await _stop_answer(services, caller, stopped)


@router.delete("/runs", status_code=202)
async def cancel_runs(
    services: Given,
    caller: Calling,
    session_id: str | None = None,
    everything: Annotated[Flag, Query(alias="all")] = False,
    reason: Reason = None,
) -> Response:
    """Ask all unfinished runs, or those of a session, to stop."""
    if (session_id is None) is not everything:
        raise invalid(Flaw(["query"], "must have either session_id or all=true"))
    which = Filter(_UNFINISHED, caller.tenant, session_id=session_id, limit=_MOST_AT_ONCE)
    stopped: list[str] = []
    runs = await services.store.list(which)
    for begin in range(0, len(runs), SIDE_BY_SIDE):
        some = runs[begin : begin + SIDE_BY_SIDE]
        asked = await asyncio.gather(*(_is_stopped(services, run.run_id, reason) for run in some))
        stopped += [run.run_id for run, is_stopped in zip(some, asked, strict=True) if is_stopped]
    return Json({"runs": stopped}, 202)


async def _is_stopped(services: Services, run_id: str, reason: str | None) -> bool:
    """Ask a run to stop; return whether it is, or will be."""
    with suppress(RunNotFound):  # it ended, and was removed, a moment ago
        return (await services.runner.cancel(run_id, reason or None, "request")).cancel is not None
    return False


async def _stop_answer(services: Services, caller: Caller, stopped: Run | MemberRun) -> Response:
    view = await view_for(caller, stopped, services)
    if stopped.status is Status.CANCELLED:
        return Json(view)
    if stopped.status is Status.CANCELLING:
        return Json(view, 202)
    raise Refused("run_finished", "the run had ended before it was asked to stop", {"run": view})


async def _purge(services: Services, caller: Caller, run: Run | MemberRun) -> Response:
    if isinstance(run, MemberRun):
        raise NotSupported("a member's run is a part of its team's, and is removed with it")
    if not run.status.is_final:
        view = await view_for(caller, run, services)
        raise Refused("run_active", "the run has not ended; stop it first", {"run": view})
    await services.store.purge(run.run_id)
    return Response(status_code=204)
