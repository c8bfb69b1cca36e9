"""Server-sent events, incrementally: bytes in, the data of whole events out. No I/O.

The grammar is the HTML standard's, section 9.2.6: lines end with CRLF, LF or CR, an event's `data:`
lines are joined with LF, an event without its blank line at the end of the stream is dropped.
Names and ids of events are not looked at: a Responses stream tells its types within the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
"""A provider that sends more than this in one event, or in one line, is refused."""

_CR: Final = 13
"""A number: for bytes in bytes, CPython 3.11 raises and catches a `TypeError` first."""

_BOM: Final = b"\xef\xbb\xbf"


class EventTooLong(ValueError):
    """One event is longer than `MAX_EVENT_BYTES`."""


class EventStream:
    """Splits a stream into events, the same ones however its bytes arrive."""

    __slots__ = ("_data", "_ended_with_cr", "_is_first_line", "_rest", "_size")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._ended_with_cr = False
        self._is_first_line = True

    def feed(self, received: bytes) -> Iterator[bytes]:
        """Yield the data of each event that is complete now. Raises `EventTooLong`."""
        lines = self._split(received)
        rest = lines.pop()
        for line in lines:
            if line.startswith(b"data:"):
                self._size += len(line)
                if self._size > MAX_EVENT_BYTES:
                    raise EventTooLong
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif self._data and not line:
                yield b"\n".join(self._data)
                self._data.clear()
                self._size = 0
        if rest:
            self._keep(rest)

    def _split(self, received: bytes) -> list[bytes]:
        """Return the lines that are complete now, and the beginning of the next."""
        if _CR in received or (self._ended_with_cr and received):
            received = self._with_line_feeds(received)
        lines = received.split(b"\n")
        if len(lines) > 1 and (self._rest or self._is_first_line):
            lines[0] = self._joined(lines[0])
        return lines

    def _with_line_feeds(self, received: bytes) -> bytes:
        """Let every line end with LF; the CR of a CRLF may have come before."""
        if self._ended_with_cr:
            received = received.removeprefix(b"\n")
        self._ended_with_cr = received.endswith(b"\r")
        return received.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _keep(self, start: bytes) -> None:
        """Put the beginning of a line aside until its end arrives."""
        self._rest += start
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLong

    def _joined(self, end: bytes) -> bytes:
        line = bytes(self._rest) + end
        self._rest.clear()
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BOM)
        return line
