"""Errors as `application/problem+json` (RFC 9457), and the only place that knows status numbers.

Whatever goes wrong below raises an error of the domain's tree, or `Refused` where only HTTP is at
fault; what it looks like outside is decided here, from one table. A problem never repeats what the
client sent, nor what an upstream said. An error that nobody foresaw is `internal_error`; the log
tells its class and its place (`telemetry/logging.py`), since its text may hold a key.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.errors import RequestRefused, StoreUnavailable

logger = logging.getLogger(__name__)


class Kind(NamedTuple):
    """What a code looks like; `retry_after_s` goes out as the header of that name."""

    status: int
    title: str
    retry_after_s: int | None = None


KINDS: Final[Mapping[str, Kind]] = {
    "bad_request": Kind(400, "The body is not JSON in UTF-8"),
    "bad_cursor": Kind(400, "The cursor is none of this log's or list's"),
    "unauthenticated": Kind(401, "A key of this service is needed"),
    "origin_not_allowed": Kind(403, "Pages of this origin may not use the service"),
    "host_not_allowed": Kind(403, "The service is not known under this host"),
    "run_not_found": Kind(404, "There is no such run"),
    "team_not_found": Kind(404, "There is no such team"),
    "not_found": Kind(404, "There is nothing here"),
    "method_not_allowed": Kind(405, "The method is not allowed here"),
    "not_acceptable": Kind(406, "None of the accepted media types can be served"),
    "request_timeout": Kind(408, "The request did not arrive in time"),
    "run_finished": Kind(409, "The run has ended"),
    "run_active": Kind(409, "The run has not ended"),
    "body_too_large": Kind(413, "The body is too large"),
    "unsupported_media_type": Kind(415, "The body's media type is not supported"),
    "invalid_request": Kind(422, "The request is not valid"),
    "idempotency_key_reused": Kind(422, "The idempotency key was used before"),
    "not_supported": Kind(422, "The service does not do this"),
    "too_many_runs": Kind(429, "There are as many runs as one may have", retry_after_s=5),
    "too_many_readers": Kind(429, "The run has too many readers", retry_after_s=5),
    "headers_too_large": Kind(431, "The request's target and headers are too large"),
    "internal_error": Kind(500, "Something went wrong"),
    "overloaded": Kind(503, "The service has as much to do as it takes", retry_after_s=5),
    "draining": Kind(503, "The service is about to stop", retry_after_s=5),
    "store_unavailable": Kind(503, "The store does not answer", retry_after_s=5),
}


_SAFE_IN_A_PATH: Final = "/!$&'()*+,;="
"""Without `:` and `@`, so that a path that begins with `//` makes no bad authority (RFC 3986)."""


_MAX_FLAWS: Final = 20
"""How many flaws are told: a short request could have thousands, and its answer be a long one."""


class Flaw(NamedTuple):
    """What is wrong with one part of a request; `loc` is the way to it, from the outside in."""

    loc: Sequence[str | int]
    msg: str


@dataclass
class Refused(Exception):
    """A request cannot be served, for a reason that only HTTP knows; `extra` are own members."""

    code: str
    detail: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def invalid(*flaws: Flaw) -> Refused:
    """Return the refusal of a request whose parts are well-formed but not valid."""
    errors = [
        {"loc": [_clipped(part) for part in flaw.loc], "msg": flaw.msg}
        for flaw in flaws[:_MAX_FLAWS]
    ]
    return Refused("invalid_request", "parts of the request are not valid", {"errors": errors})


def flaws_in(errors: Iterable[Mapping[str, Any]], *prefix: str) -> list[Flaw]:
    """Return pydantic's errors as flaws, without the rejected values they carry."""
    return [Flaw((*prefix, *error["loc"]), _sentence(error["msg"])) for error in errors]


def nothing_here() -> Refused:
    """Return the refusal of a path under which there is nothing, or nothing for this caller."""
    return Refused("not_found", "nothing is served under this path")


class Json(JSONResponse):
    """JSON in ASCII: whatever a model or a client wrote, it can be sent."""

    def render(self, content: Any) -> bytes:
        """Return the bytes of the body."""
        return json.dumps(content, separators=(",", ":")).encode("ascii")


def problem(refused: Refused, instance: str) -> Response:
    """Return the answer for a refusal; `instance` is the path it is about, decoded."""
    kind = KINDS[refused.code]
    content = {
        "type": f"urn:team-runs:{refused.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": refused.detail,
        "instance": quote(instance, _SAFE_IN_A_PATH),
        "code": refused.code,
        **refused.extra,
    }
    retry = {"Retry-After": str(kind.retry_after_s)} if kind.retry_after_s else {}
    return Json(content, kind.status, {**retry, **refused.headers}, "application/problem+json")


def explain_errors(app: FastAPI) -> None:
    """Have every error that a route raises answered with a problem."""
    for ours in (Refused, RequestRefused, StoreUnavailable):
        app.add_exception_handler(ours, _answer_ours)
    for frameworks in (RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(frameworks, _answer_frameworks)
    app.add_middleware(Unforeseen)


async def _answer_ours(request: Request, error: Exception) -> Response:
    match error:
        case Refused():
            refused = error
        case RequestRefused():
            refused = Refused(error.code, str(error))
        case _:
            refused = Refused("store_unavailable", "the store does not answer")
    return problem(refused, request.scope["path"])


async def _answer_frameworks(request: Request, error: Exception) -> Response:
    match error:
        case RequestValidationError():
            refused = invalid(*flaws_in(error.errors()))
        case HTTPException(status_code=404):
            refused = nothing_here()
        case HTTPException(status_code=405):
            allowed = {"Allow": ", ".join(_methods(request))}
            refused = Refused(
                "method_not_allowed", "the Allow header tells the methods", {}, allowed
            )
        case _:  # the client left in the middle of its request: nobody will read this
            refused = Refused("bad_request", "the request is not complete")
    return problem(refused, request.scope["path"])


def _methods(request: Request) -> list[str]:
    """Return the methods of all routes with this path: the framework tells the first one's."""
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "POST")
        for scope in [{**request.scope, "method": method}]
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ")


def _clipped(part: str | int) -> str | int:
    """A name that the client made up may be as long as a body."""
    return part[:64] if isinstance(part, str) else part


class Unforeseen:
    """Answers `internal_error` where something broke; pure ASGI, so that streams stay streams."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        has_started = False

        def sending(message: Message) -> Awaitable[None]:
            nonlocal has_started
            has_started = True
            return send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            logger.exception("a request broke something")
            if not has_started:
                refused = Refused("internal_error", "something went wrong; the log tells what")
                await problem(refused, scope["path"])(scope, receive, send)
