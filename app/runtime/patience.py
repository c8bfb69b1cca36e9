"""What is asked of a store again, for a while, when it does not answer.

Every event comes through here. So the clock is the machine's, as in `cancellation.py`'s timer the
loop's: anyio's first looks for the event loop, which costs more than all the rest.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from app.domain.errors import StoreUnavailable

T = TypeVar("T")

_ASK_AGAIN_S = 0.1
"""The pause before a store that did not answer is asked again, in seconds."""


async def patiently(ask: Callable[[], Awaitable[T]], patience_s: float) -> T:
    """Return the store's answer. Raises `StoreUnavailable` when none came for some seconds."""
    until = time.monotonic() + patience_s  # an answer takes time, too
    while True:
        try:
            return await ask()
        except StoreUnavailable:
            if time.monotonic() >= until:
                raise
        await anyio.sleep(_ASK_AGAIN_S)
