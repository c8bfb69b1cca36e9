"""How late the loop is, seen from within."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest

from app.telemetry.lag import EVERY_S, keep_measuring_lag

pytestmark = pytest.mark.anyio


async def test_whoever_holds_the_loop_up_is_seen() -> None:
    observed: list[float] = []
    loop = asyncio.get_running_loop()
    async with anyio.create_task_group() as group:
        group.start_soon(keep_measuring_lag, observed.append)
        await anyio.lowlevel.checkpoint()
        until = loop.time() + EVERY_S + 0.1
        while loop.time() < until:
            pass  # this is what is to be seen
        with anyio.fail_after(5):
            while not observed:
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert observed[0] > 0.09
