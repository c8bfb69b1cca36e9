"""PNG files made small: a picture of a page has few colours, so 256 of them are enough."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOURS = 256
_RGB = 3


def with_palette(png: bytes) -> bytes:
    """Return an 8-bit RGB picture, as a browser takes them, with a palette of 256 colours."""
    chunks = list(_chunks(png))
    width, height, *form = struct.unpack(">IIBBBBB", dict(chunks)[b"IHDR"])
    assert form == [8, 2, 0, 0, 0]
    rows = _rows(zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT")), width)
    pixels = [row[place : place + _RGB] for row in rows for place in range(0, len(row), _RGB)]
    palette = _palette(pixels)
    index = {colour: _nearest(colour, palette) for colour in set(pixels)}
    body = bytes(index[pixel] for pixel in pixels)
    lines = b"".join(b"\0" + body[at : at + width] for at in range(0, len(body), width))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    written = [(b"IHDR", header), (b"PLTE", b"".join(palette)), (b"IDAT", zlib.compress(lines, 9))]
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in [*written, (b"IEND", b"")])


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_SIGNATURE)
    while place < len(png):
        (length,) = struct.unpack_from(">I", png, place)
        yield png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        place += 12 + length


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _palette(pixels: list[bytes]) -> list[bytes]:
    """Return the most frequent colours, of those that look alike the first one only."""
    chosen: dict[bytes, bytes] = {}
    for colour, _ in Counter(pixels).most_common():
        chosen.setdefault(bytes(part & 0xF8 for part in colour), colour)
    return list(chosen.values())[:_COLOURS]


def _nearest(colour: bytes, palette: list[bytes]) -> int:
    def distance(place: int) -> int:
        return sum((a - b) ** 2 for a, b in zip(colour, palette[place], strict=True))

    return min(range(len(palette)), key=distance)


def _rows(filtered: bytes, width: int) -> Iterable[bytes]:
    """Undo the filters of the PNG specification, section 9."""
    length = width * _RGB
    above = bytes(length)
    for start in range(0, len(filtered), length + 1):
        row = bytearray(filtered[start + 1 : start + 1 + length])
        if filtered[start]:
            _unfilter(filtered[start], row, above)
        above = bytes(row)
        yield above


def _unfilter(kind: int, row: bytearray, above: bytes) -> None:
    for place, value in enumerate(row):
        left = row[place - _RGB] if place >= _RGB else 0
        corner = above[place - _RGB] if place >= _RGB else 0
        guess = (0, left, above[place], (left + above[place]) // 2)
        row[place] = (
            value + (_paeth(left, above[place], corner) if kind == 4 else guess[kind])
        ) % 256


def _paeth(left: int, up: int, corner: int) -> int:
    slope = left + up - corner
    return min((left, up, corner), key=lambda one: abs(slope - one))
