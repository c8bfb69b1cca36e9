"""The API's description, for programs and for people.

The page is made here, from the document, and not by a script in the browser: it needs no network,
no script and no second file, so it can be read behind any firewall, printed, and saved.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from app.api.openapi.page import page_of, style_digest
from app.api.problems import Json

router = APIRouter()

_HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src '{style_digest()}';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


@router.head("/openapi.json", include_in_schema=False)
@router.get("/openapi.json")
async def read_openapi(request: Request) -> Response:
    """Return the OpenAPI document."""
    return Json(request.app.openapi())


@router.head("/docs", include_in_schema=False)
@router.get("/docs")
async def read_docs(request: Request) -> Response:
    """Return it as a page."""
    return HTMLResponse(page_of(request.app.openapi()), headers=_HEADERS)
