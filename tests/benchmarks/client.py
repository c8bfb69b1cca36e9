"""The readers of the benchmarks: raw connections that count what arrives, and when."""

from __future__ import annotations

import asyncio
import json
import re
from array import array
from collections.abc import Sequence
from typing import Final, cast

from tests.benchmarks.upstream import stamp

STAMP: Final = re.compile(rb"@(\d{15})#")
_STAMP_BYTES: Final = 17
_RUN_ID: Final = re.compile(rb"\r\nx-run-id: ([0-9a-f-]{36})")
_END: Final = b"\r\n0\r\n\r\n"


class Tally:
    """What readers saw: latencies in microseconds, only while it `counts`; bytes and all events."""

    def __init__(self, marker: bytes, final: bytes = b"") -> None:
        """`marker` begins each event that is a delta, `final` the last one, as readers get them."""
        self.marker = marker
        self.final = final
        self.latencies_us: array[int] = array("q")
        self.bytes = 0
        self.counts = False
        self.events = 0
        self._wanted = 0
        self._reached: asyncio.Future[None] | None = None

    def add(self, events: int) -> None:
        """Count deltas, and tell whoever waits for so many."""
        self.events += events
        if self._reached is not None and not self._reached.done() and self.events >= self._wanted:
            self._reached.set_result(None)

    async def reach(self, events: int) -> None:
        """Return when so many have been read; for one waiter."""
        if self.events < events:
            self._wanted, self._reached = events, asyncio.get_running_loop().create_future()
            await self._reached


class Reader(asyncio.Protocol):
    """Sends one request and reads the stream that answers it; `latencies_us` are its own."""

    def __init__(self, request: bytes, tally: Tally) -> None:
        loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[int] = loop.create_future()
        self.ended: asyncio.Future[bool] = loop.create_future()
        self.run_id = ""
        self.asked_at = 0
        self.latencies_us: array[int] = array("q")
        self._request = request
        self._tally = tally
        self._rest = b""
        self._has_final = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self.asked_at = stamp()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now, tally = stamp(), self._tally
        text = self._rest + data
        tally.add(text.count(tally.marker) - self._rest.count(tally.marker))
        if not self.begun.done():
            self._look_for_the_first(text, now)
        if tally.counts:
            tally.bytes += len(data)
            self._note(text, now)
        self._rest = text if not self.begun.done() else self._tail(text)
        self._has_final = self._has_final or tally.final in text
        if text.endswith(_END):
            self._end(whole=self._has_final)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(whole=False)

    def leave(self) -> None:
        """Close the connection."""
        self._transport.abort()

    def _tail(self, text: bytes) -> bytes:
        """Return what the beginning of a stamp or a marker may be cut off in."""
        size = max(_STAMP_BYTES, len(self._tally.marker)) - 1
        return text[max(text.rfind(b"#", -size) + 1, len(text) - size) :]

    def _note(self, text: bytes, now: int) -> None:
        waits_us = [now - int(written) for written in STAMP.findall(text)]
        self.latencies_us.extend(waits_us)
        self._tally.latencies_us.extend(waits_us)

    def _look_for_the_first(self, text: bytes, now: int) -> None:
        if self._tally.marker in text:
            run_id = _RUN_ID.search(text)
            self.run_id = run_id[1].decode() if run_id else ""
            self.begun.set_result(now - self.asked_at)

    def _end(self, *, whole: bool) -> None:
        if not self.ended.done():
            self.ended.set_result(whole)
        self.begun.cancel()


async def read(port: int, request: bytes, tally: Tally) -> Reader:
    """Open one reader's connection."""
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(lambda: Reader(request, tally), "127.0.0.1", port)
    return reader


def request(method: str, path: str, body: object = None, key: str | None = None) -> bytes:
    """Return a request; a body that is a `str` is a form, anything else JSON."""
    form = isinstance(body, str)
    content = (
        b"" if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    )
    kind = "application/x-www-form-urlencoded" if form else "application/json"
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n"
    if key is not None:
        head += f"authorization: Bearer {key}\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


async def ask(port: int, request: bytes) -> bytes:
    """Send one request and return the whole answer, which must have a content length."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    body = await reader.readexactly(int(length[1]) if length else 0)
    writer.close()
    return head + body


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of all lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
