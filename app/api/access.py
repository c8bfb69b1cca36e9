"""From where the service may be used: hosts, origins, and requests that are too long.

Without keys the service trusts this machine, so it must not trust every web page that the machine's
browser shows. The `Host` check stops pages that point a name of theirs at loopback (DNS rebinding);
the `Origin` check stops the others from changing anything. With keys no page can do anything that
its own script has no key for, so every host is served.

Pages of other origins read answers only where CORS lets them: those of `ALLOWED_ORIGINS`, and
always without credentials, as there are no cookies. Starlette's own middleware would answer
preflights in plain text and echo whatever headers they ask for; here it is a table of two.

Every answer says that its media type is meant: what clients and models wrote comes back as JSON and
as event streams, and no browser is to take it for a page.

Probes are let through with any `Host`, since those who probe name the process by its address, and
the answer says nothing worth hiding. Keys are checked by the routes (`callers.py`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable, Sequence
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import Refused, problem
from app.api.services import ApiLimits

MAX_HEAD_BYTES: Final = 65_536
"""How long a request's target and header fields may be together."""

_FIELD_EXTRA_BYTES: Final = 4
"""The colon, space and line end that each field has on the wire."""

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PROBES: Final = frozenset({"/livez", "/readyz"})
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_AUTHORITY: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::\d{1,5})?")

_NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")
_VARY: Final = (b"vary", b"Origin")
_EXPOSED: Final = (
    b"access-control-expose-headers",
    b"X-Run-Id, Location, Content-Location, Retry-After, Idempotency-Replayed",
)
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Accept, Idempotency-Key,"
    " Last-Event-ID, traceparent",
    "Access-Control-Max-Age": "600",
}

RawHeaders = Iterable[tuple[bytes, bytes]]


class Access:
    """Refuses requests for other hosts and from other origins, and shares answers; pure ASGI."""

    def __init__(self, app: ASGIApp, limits: ApiLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, headers = scope["method"], scope["headers"]
        app = self._app
        try:
            check_length(scope["raw_path"], scope["query_string"], headers)
            check(method, scope["path"], headers, self._limits)
        except Refused as refused:
            app = problem(refused, scope["path"])
        else:
            if _is_preflight(method, headers):
                app = Response(status_code=204, headers=_PREFLIGHT)
        await app(scope, receive, _marking(send, (_NO_SNIFFING, *sharing(headers, self._limits))))


def check_length(path: bytes, query: bytes, headers: RawHeaders) -> None:
    """Raise `Refused` for a request with too much ahead of its body."""
    fields = sum(len(name) + len(value) + _FIELD_EXTRA_BYTES for name, value in headers)
    if len(path) + len(query) + fields > MAX_HEAD_BYTES:
        detail = f"target and headers must have at most {MAX_HEAD_BYTES} bytes"
        raise Refused("headers_too_large", detail, {}, {"Connection": "close"})


def check(method: str, path: str, headers: RawHeaders, limits: ApiLimits) -> None:
    """Raise `Refused` for a request that is not to be served; `headers` as ASGI tells them."""
    hosts, origins = _values(b"host", headers), _values(b"origin", headers)
    if path not in _PROBES and not _is_known(hosts, limits):
        detail = "without API keys, only localhost and allowed hosts are served"
        raise Refused("host_not_allowed", detail)
    is_change = method not in _SAFE_METHODS or _is_preflight(method, headers)
    if is_change and not all(_is_ours(one, hosts, limits) for one in origins):
        raise Refused("origin_not_allowed", "pages of this origin may not change anything here")


def sharing(headers: RawHeaders, limits: ApiLimits) -> Sequence[tuple[bytes, bytes]]:
    """Return the header fields that say which pages may read the answer."""
    hosts, origins = _values(b"host", headers), _values(b"origin", headers)
    if len(origins) != 1 or not _is_ours(origins[0], hosts, limits):
        return (_VARY,)
    allowed = next(value for name, value in headers if name == b"origin")
    return _VARY, (b"access-control-allow-origin", allowed), _EXPOSED


def _marking(send: Send, fields: Sequence[tuple[bytes, bytes]]) -> Send:
    """Add header fields to an answer; what follows them is passed on without a further await."""

    def sending(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *fields]}
        return send(message)

    return sending


def _is_preflight(method: str, headers: RawHeaders) -> bool:
    return (
        method == "OPTIONS"
        and bool(_values(b"origin", headers))
        and bool(_values(b"access-control-request-method", headers))
    )


def _values(name: bytes, headers: RawHeaders) -> list[str]:
    return [value.decode("latin-1").lower() for each, value in headers if each == name]


def _is_known(hosts: list[str], limits: ApiLimits) -> bool:
    if limits.allowed_hosts is None:
        return True
    authority = _AUTHORITY.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if authority is None:
        return False
    return authority[1] in _LOOPBACK or authority[1] in map(str.lower, limits.allowed_hosts)


def _is_ours(origin: str, hosts: list[str], limits: ApiLimits) -> bool:
    """Whether the page is one of this service (browsers leave the default port out of both)."""
    return origin.partition("://")[2] in hosts or origin in map(str.lower, limits.allowed_origins)
