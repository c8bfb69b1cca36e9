"""Waiting for what nobody tells of."""

from __future__ import annotations

from collections.abc import Callable

import anyio


async def until(holds: Callable[[], bool], within_s: float = 10) -> None:
    """Look until something holds, bounded."""
    with anyio.fail_after(within_s):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(0.01)
