"""The process's figures, for Prometheus.

They tell of all tenants at once. So where there are keys they are for one tenant alone, and the
others find nothing here, as under any path that is not there.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from app.api.callers import Calling
from app.api.problems import nothing_here
from app.api.services import Given

router = APIRouter()

OPERATOR: Final = "operator"
"""The tenant that may read the figures."""

_FORMAT: Final = "text/plain; version=0.0.4; charset=utf-8"


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics")
async def read_metrics(services: Given, caller: Calling) -> Response:
    """Return the figures as they are now."""
    if caller.has_key and caller.tenant != OPERATOR:
        raise nothing_here()
    headers = {"Content-Type": _FORMAT, "Cache-Control": "no-store"}
    return Response(services.figures(), headers=headers)
