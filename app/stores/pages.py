"""Cutting logs into pages: pure, and in frames, which a blank line ends and none holds inside."""

from __future__ import annotations

from collections.abc import Iterable

_END = b"\n\n"


def page_of(
    batches: Iterable[tuple[int, bytes]], after: int, limit_bytes: int
) -> tuple[bytes, int]:
    """Return the frames behind a cursor, up to about a limit, and the place of the last one.

    `batches` are joined frames in order, each with the place of its first; no more of them is
    taken than needed.
    """
    pieces, last = [], after
    for first, frames in batches:
        piece, last = _cut(frames, first, last, limit_bytes)
        pieces.append(piece)
        limit_bytes -= len(piece)
        if limit_bytes <= 0:
            break
    return b"".join(pieces), last


def split(frames: bytes) -> list[bytes]:
    """Return joined frames one by one."""
    return [frame + _END for frame in frames.split(_END)[:-1]]


def _cut(frames: bytes, first: int, after: int, limit_bytes: int) -> tuple[bytes, int]:
    """Return the frames behind a cursor, at least one, until they reach a limit."""
    begin = 0
    for _ in range(first, after + 1):
        begin = frames.index(_END, begin) + len(_END)
    end, last = begin, max(first - 1, after)
    while end < len(frames) and (end == begin or end - begin < limit_bytes):
        end = frames.index(_END, end) + len(_END)
        last += 1
    return frames[begin:end], last


class Tail:
    """The newest frames of a log, one by one, as far as a bound of bytes allows."""

    __slots__ = ("_before", "_frames", "size")

    def __init__(self, last: int = 0) -> None:
        """`last` is the place of the frame behind which it begins."""
        self._before = last
        self._frames: list[bytes] = []
        self.size = 0

    def reaches(self, after: int) -> bool:
        """Whether everything behind a cursor is here."""
        return after >= self._before

    def add(self, frames: Iterable[bytes], limit_bytes: int) -> None:
        """Take frames in; when they are too many, the older half of the bytes goes."""
        for frame in frames:
            self._frames.append(frame)
            self.size += len(frame)
        if self.size > limit_bytes:
            self._forget(limit_bytes // 2)

    def page(self, after: int, limit_bytes: int) -> tuple[bytes, int]:
        """Return frames behind a cursor that it reaches, as `page_of` does."""
        begin = end = after - self._before
        if begin + 1 == len(self._frames):  # a live reader asks for the newest alone
            return self._frames[begin], after + 1
        while end < len(self._frames) and (end == begin or limit_bytes > 0):
            limit_bytes -= len(self._frames[end])
            end += 1
        return b"".join(self._frames[begin:end]), after + end - begin

    def _forget(self, limit_bytes: int) -> None:
        count = 0
        while self.size > limit_bytes:
            self.size -= len(self._frames[count])
            count += 1
        del self._frames[:count]
        self._before += count
