"""The time of day, as events tell it."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Final

_FRACTIONS: Final = tuple(f".{ms:03d}Z" for ms in range(1000))


class SystemClock:
    """The machine's clock. A second is rendered once: most events share theirs with others."""

    def __init__(self) -> None:
        self._second = -1
        self._rendered = ""

    def now(self, offset_s: float = 0.0) -> str:
        """Return the time, some seconds off, as RFC 3339, UTC, with milliseconds."""
        second, nanoseconds = divmod(time.time_ns() + int(offset_s * 1e9), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._rendered = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return self._rendered + _FRACTIONS[nanoseconds // 1_000_000]


def seconds_between(earlier: str, later: str) -> float:
    """Return how much later a time is, never less than 0: two machines' clocks may differ."""
    return max(0.0, (_read(later) - _read(earlier)).total_seconds())


def _read(time_: str) -> datetime:
    return datetime.fromisoformat(time_)
