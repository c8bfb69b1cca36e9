"""Text as it comes from models and tools: its size, its parts, and the half characters in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
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


def pieces(text: str, size: int) -> Iterator[str]:
    """Yield a text in pieces that fit some UTF-8 bytes each, cut at characters."""
    at = 0
    while (len(text) - at) * 4 > size:  # no character has more than four bytes
        piece = cut(text[at : at + size], size)
        yield piece
        at += len(piece)
    if at < len(text):
        yield text[at:]


def cut(text: str, size: int) -> str:
    """Return the start of a text that fits some UTF-8 bytes, cut at a character."""
    head = text[:size].encode("utf-8", "replace")[:size]
    return head.decode("utf-8", "ignore") if len(head) == size else text
