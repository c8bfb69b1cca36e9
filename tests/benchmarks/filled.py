"""The service, with finished runs in its store before it is ready.

Run as `python -m tests.benchmarks.filled COUNT`; settings are the environment's, as for `serve`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import anyio
from fastapi import FastAPI

from app.domain.events import RunCompleted, RunContent, RunStarted, Usage, encode
from app.domain.run import RunRequest
from app.main import create_app
from app.ports import Store
from app.runtime.clock import SystemClock
from app.server import serve
from app.settings import load_settings
from app.telemetry.logging import configure_logging

_AT_ONCE = 200
_EVENTS = (
    RunStarted("m", "coordinate"),
    RunContent("Done.", 1),
    RunCompleted("Done.", "stop", Usage()),
)


async def fill(store: Store, count: int) -> None:
    """Store so many runs that are over."""
    now = SystemClock().now()

    async def one() -> None:
        run = await store.create(RunRequest(str(uuid4()), "old", "Old", "input", now, 900.0))
        entries = [encode(seq, now, run.origin, event) for seq, event in enumerate(_EVENTS, 1)]
        stored = store.append(run.run_id, entries)
        if stored is not None:
            await stored

    for begin in range(0, count, _AT_ONCE):
        async with anyio.create_task_group() as group:
            for _ in range(min(_AT_ONCE, count - begin)):
                group.start_soon(one)


def main(count: int) -> None:
    """Serve until a signal."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    api = create_app(settings)
    lifespan = api.router.lifespan_context

    @asynccontextmanager
    async def filling(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app):
            await fill(api.state.services.store, count)
            yield

    api.router.lifespan_context = filling
    serve(api, settings)


if __name__ == "__main__":
    main(int(sys.argv[1]))
