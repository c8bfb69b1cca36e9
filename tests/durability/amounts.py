"""How much of a soak is done: a little by default, `SOAK=tenth`, or `SOAK=full`."""

from __future__ import annotations

import os
from typing import Final

_COLUMN: Final = {"tenth": 1, "full": 2}.get(os.environ.get("SOAK", ""), 0)


def amount(little: int, tenth: int, full: int) -> int:
    """Return one of the three, as the environment wants it."""
    return (little, tenth, full)[_COLUMN]
