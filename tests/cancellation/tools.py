"""Tools that never end by themselves: the one can be cancelled, the other only be left."""

from __future__ import annotations

import asyncio
import threading


async def waits() -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


def blocks() -> None:
    """Block a thread for ever."""
    threading.Event().wait()
