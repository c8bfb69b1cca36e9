"""What is asked of a store again, for a while, when it does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from app.domain.errors import StoreUnavailable

T = TypeVar("T")

_ASK_AGAIN_S = 0.1
"""The pause before a store that did not answer is asked again, in seconds."""


async def patiently(ask: Callable[[], Awaitable[T]], patience_s: float) -> T:
    """Return the store's answer. Raises `StoreUnavailable` when none came for some seconds."""
    now = asyncio.get_running_loop().time  # each event is asked for so: anyio finds its loop anew
    until = now() + patience_s  # an answer takes time, too
    while True:
        try:
            return await ask()
        except StoreUnavailable:
            if now() >= until:
                raise
        await anyio.sleep(_ASK_AGAIN_S)
