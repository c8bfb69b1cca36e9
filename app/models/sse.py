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

_BOM: Final = b"\xef\xbb\xbf"


class EventTooLong(ValueError):
    """One event is longer than `MAX_EVENT_BYTES`."""


class EventStream:
    """Splits a stream into events, the same ones however its bytes arrive."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._ended_with_cr = False
        self._is_first_line = True

    def feed(self, received: bytes) -> Iterator[bytes]:
        """Yield the data of each event that is complete now. Raises `EventTooLong`."""
        for line in self._lines(received):
            if not line:
                yield from self._dispatch()
                continue
            self._grow(len(line))
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])

    def _lines(self, received: bytes) -> Iterator[bytes]:
        if self._ended_with_cr and received:
            self._ended_with_cr = False
            received = received.removeprefix(b"\n")
        lines = received.splitlines(keepends=True)  # of bytes: CRLF, LF and CR only
        for line in lines:
            whole = line.rstrip(b"\r\n")
            if len(whole) == len(line):
                self._keep(line)
                return
            yield self._joined(whole)
        self._ended_with_cr = received.endswith(b"\r")

    def _keep(self, start: bytes) -> None:
        """Put the beginning of a line aside until its end arrives."""
        self._rest += start
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLong

    def _joined(self, end: bytes) -> bytes:
        line = end
        if self._rest:
            line = bytes(self._rest) + end
            self._rest.clear()
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BOM)
        return line

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_EVENT_BYTES:
            raise EventTooLong

    def _dispatch(self) -> Iterator[bytes]:
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            self._data.clear()
            yield data
        self._size = 0
