"""Text on its way from a model and to it: no lone surrogates.

JSON may carry half a surrogate pair, and providers that cut text at UTF-16 units do send an emoji
as two deltas. Python's encoders raise on such a half, so it is joined or replaced at this border.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.domain.text import repair


def repair_json(value: Any) -> Any:
    """Return plain lists and dicts of the same content, every string in them repaired."""
    if isinstance(value, str):
        return repair(value)
    if isinstance(value, Mapping):
        return {repair(str(key)): repair_json(inner) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [repair_json(inner) for inner in value]
    return value
