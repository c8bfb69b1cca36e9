"""Whether the process is alive, and whether it should get requests; text, one line a part.

The lines name parts, never addresses: whoever can reach the port may read them.
"""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from app.api.services import Given
from app.domain.errors import StoreUnavailable
from app.ports import Store

router = APIRouter()

STORE_TIMEOUT_S: Final = 2.0
_FRESH: Final = {"Cache-Control": "no-store"}


@router.head("/livez", include_in_schema=False)
@router.get("/livez")
async def livez() -> Response:
    """Answer: the event loop turns."""
    return PlainTextResponse("process: alive\n", headers=_FRESH)


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz")
async def readyz(services: Given) -> Response:
    """Answer 200 when new runs can be taken and kept, else 503."""
    store, runner = await _answers(services.store), services.runner
    left = runner.load.running + runner.load.pending
    runs = f"draining, {left} left" if runner.is_draining else "accepted"
    lines = f"store: {'ok' if store else 'unavailable'}\nruns: {runs}\n"
    return PlainTextResponse(lines, 200 if store and not runner.is_draining else 503, _FRESH)


async def _answers(store: Store) -> bool:
    try:
        async with asyncio.timeout(STORE_TIMEOUT_S):
            await store.ping()
    except (StoreUnavailable, TimeoutError):
        return False
    return True
