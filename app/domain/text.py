"""Text as it comes from models and tools: its size, and the half characters in it."""

from __future__ import annotations

import re
from typing import Final

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def utf8_size(text: str) -> int:
    """Return the bytes of a text in UTF-8; a lone surrogate counts as three."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def repair(text: str) -> str:
    """Join surrogate pairs and replace lone halves with U+FFFD: no encoder takes them."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
