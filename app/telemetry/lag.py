"""How late the event loop is: what a callback does without a pause, everything else waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Never

EVERY_S: Final = 0.25


async def keep_measuring_lag(observe: Callable[[float], None]) -> Never:
    """Tell, four times a second, by how many seconds a timer was late; until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + EVERY_S
        await asyncio.sleep(EVERY_S)
        observe(max(0.0, loop.time() - due))
