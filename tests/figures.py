"""What tests measured: printed when they are done, never asserted."""

from __future__ import annotations

FIGURES: list[str] = []
