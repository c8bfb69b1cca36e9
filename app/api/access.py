"""Who may use the service: for now, whoever reaches it under a name it is known by.

Without keys the service trusts this machine, so it must not trust every web page that the machine's
browser shows. The `Host` check stops pages that point a name of theirs at loopback (DNS rebinding);
the `Origin` check stops the others from changing anything.

Probes are let through with any `Host`, since those who probe name the process by its address, and
the answer says nothing worth hiding. Keys and tenants will be checked here too, before routing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import Refused, problem
from app.api.services import ApiLimits

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PROBES: Final = frozenset({"/livez", "/readyz"})
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_AUTHORITY: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::\d{1,5})?")


class Access:
    """Refuses requests for other hosts and from other origins; pure ASGI."""

    def __init__(self, app: ASGIApp, limits: ApiLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        app = self._app
        if scope["type"] == "http":
            try:
                check(scope["method"], scope["path"], scope["headers"], self._limits)
            except Refused as refused:
                app = problem(refused, scope["path"])
        await app(scope, receive, send)


def check(
    method: str, path: str, headers: Iterable[tuple[bytes, bytes]], limits: ApiLimits
) -> None:
    """Raise `Refused` for a request that is not to be served; `headers` as ASGI tells them."""
    hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
    origins = [value.decode("latin-1").lower() for name, value in headers if name == b"origin"]
    if path not in _PROBES and not _is_known(hosts, limits):
        detail = "without API keys, only localhost and allowed hosts are served"
        raise Refused("host_not_allowed", detail)
    if method not in _SAFE_METHODS and not all(_is_ours(one, hosts, limits) for one in origins):
        raise Refused("origin_not_allowed", "pages of this origin may not change anything here")


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
