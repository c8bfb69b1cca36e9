"""The page for people, and the files it is made of: the service's own front-end.

The page is plain HTML, CSS and JavaScript modules, read from the package once. Its policy lets
nothing else in: no script or style but these files, no frame around them, no text of a model as
markup (`require-trusted-types-for` refuses every way to turn a string into HTML or code). A client
asks each time whether a file has changed, so that an upgrade shows with the next load.
"""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.problems import Refused

router = APIRouter()

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # a run's address is nobody else's business
}
_MEDIA_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_ASSET: Final = re.compile(r"[a-z-]{1,32}\.(css|js|svg)")


@router.head("/", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def read_page(request: Request) -> Response:
    """Return the page: watch a team work, and stop it."""
    return _file(request, "index.html", "text/html")


@router.head("/assets/{name}", include_in_schema=False)
@router.get("/assets/{name}", include_in_schema=False)
async def read_asset(request: Request, name: str) -> Response:
    """Return one of the files that the page is made of."""
    kind = _ASSET.fullmatch(name)
    if kind is None:
        raise _not_found()
    return _file(request, name, _MEDIA_TYPES[kind[1]])


def _file(request: Request, name: str, media_type: str) -> Response:
    content, tag = _read(name)
    headers = {**_HEADERS, "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)


@cache
def _read(name: str) -> tuple[bytes, str]:
    """Return a file and its entity tag."""
    try:
        content = (files("app") / "web" / name).read_bytes()
    except FileNotFoundError:
        raise _not_found() from None
    return content, f'"{sha256(content).hexdigest()[:32]}"'


def _not_found() -> Refused:
    return Refused("not_found", "nothing is served under this path")
