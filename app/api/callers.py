"""Who calls: a tenant, by its key or by a ticket; or anybody, where there are no keys.

A key is looked at before anything else of a request is, by a dependency of each route that needs
one. So what needs no key is what is not there: an unknown path is `404` to everybody. Whatever is
wrong with a key or a ticket, the answer is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request

from app.api import shapes
from app.api.problems import Refused
from app.api.services import Given, Services
from app.api.views import view_of
from app.domain.run import MemberRun, Run


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose runs a request is about; with a key, its answers carry tickets."""

    tenant: str = ""
    has_key: bool = False


_ANYBODY: Final = Caller()


async def _caller(request: Request, services: Given) -> Caller:
    """Return who sent the request. Raises `Refused`."""
    if not services.keys:
        return _ANYBODY
    tenant = services.keys.tenant_of(_key_in(request) or b"")
    if tenant is None:
        raise _unauthenticated()
    await services.tickets.ready()  # else a run might be started and its answer fail
    return Caller(tenant, has_key=True)


Calling = Annotated[Caller, Depends(_caller)]
"""The parameter type by which a route asks for a key."""


async def reader_of(request: Request, services: Services, run_id: str) -> Caller:
    """Return who wants to read a run's events; a ticket will do, where there is no other header.

    Raises `Refused`, `StoreUnavailable`.
    """
    ticket = request.query_params.get("ticket")
    if not services.keys or ticket is None or "authorization" in request.headers:
        return await _caller(request, services)
    tenant = await services.tickets.tenant_in(ticket, run_id)
    if tenant is None or tenant not in services.keys:
        raise _unauthenticated()
    return Caller(tenant)


async def view_for(
    caller: Caller, of: Run | MemberRun, services: Services
) -> shapes.Run | shapes.MemberRun:
    """Return a run, or member run, as its caller gets to see it. Raises `StoreUnavailable`."""
    ticket = await services.tickets.issue(caller.tenant, of) if caller.has_key else None
    return view_of(of, ticket)


def _key_in(request: Request) -> bytes | None:
    """Return the bearer token, as it came: what is not ASCII is no error, only nobody's key."""
    given = [value for name, value in request.scope["headers"] if name == b"authorization"]
    scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    return bytes(token).strip(b" ") if scheme.lower() == b"bearer" else None


def _unauthenticated() -> Refused:
    detail = "send a key that is valid as Authorization: Bearer KEY"
    return Refused("unauthenticated", detail, {}, {"WWW-Authenticate": "Bearer"})
