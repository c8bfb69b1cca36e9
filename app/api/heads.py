"""What comes ahead of a request's body, bounded in length and in time; bodies, in time.

uvicorn waits for ever for the end of a head, and keeps whatever it is sent until then, so a few
hundred connections that send a byte now and then (slowloris) would cost all there are. Here each
has `read_timeout_s` for its first head, for every later one from its first byte on, and for each
body; a head that grows too long without an end is refused. Those that arrive whole are measured by
`access.py`.

Nothing is cut while an answer is on its way: it has its own limits, and ends a stream's connection
no earlier than the stream. A refusal is followed by a short time in which what still comes in is
read and thrown away; closing at once would make the client's system drop the answer unread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import ClassVar, Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.api.access import MAX_HEAD_BYTES
from app.api.problems import Refused, problem

_LINGER_S: Final = 1.0


class BoundedRequests(HttpToolsProtocol):
    """A connection that takes only so much, and waits only so long, for a request."""

    read_timeout_s: ClassVar[float] = 20.0

    _head_bytes = 0
    _is_in_body = False
    _is_refused = False
    _timer: asyncio.TimerHandle | None = None

    # --- the connection ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait(self.read_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes in; those of a head that has no end yet are counted."""
        if self._is_refused:
            return
        if self._timer is None and not self._is_in_body:
            self._wait(self.read_timeout_s)
        self._head_bytes += len(data)
        super().data_received(data)
        if self._timer is not None and not self._is_in_body and self._head_bytes > MAX_HEAD_BYTES:
            detail = f"target and headers must have at most {MAX_HEAD_BYTES} bytes"
            self._refuse(Refused("headers_too_large", detail))

    # --- what the parser finds --------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        """Go on to wait for the body."""
        self._head_bytes = 0
        self._is_in_body = True
        self._wait(self.read_timeout_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait no more: the request is there."""
        self._head_bytes = 0
        self._is_in_body = False
        self._stop_waiting()
        super().on_message_complete()

    # --- patience ---------------------------------------------------------------------------------

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if self.transport.is_closing():
            return
        if is_answering or self.flow.read_paused:
            self._wait(self.read_timeout_s)
        elif self._head_bytes and not self._is_refused:
            detail = f"the request did not arrive within {self.read_timeout_s:g} s"
            self._refuse(Refused("request_timeout", detail))
        else:
            self.transport.close()

    def _refuse(self, refused: Refused) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()  # the answer before this one is not complete
            return
        self._is_refused = True
        self.transport.write(b"".join(_answer(refused)))
        self.transport.write_eof()
        self._wait(_LINGER_S)


def bounded(connection: type[BoundedRequests], read_timeout_s: float) -> type[BoundedRequests]:
    """Return a kind of connection with this patience; uvicorn makes them by itself."""
    made = type(connection.__name__, (connection,), {"read_timeout_s": read_timeout_s})
    return cast(type[BoundedRequests], made)


def _answer(refused: Refused) -> Iterator[bytes]:
    """Yield an answer to what is no request yet: its path is not known."""
    answer = problem(refused, "/")
    yield STATUS_LINE[answer.status_code]
    for name, value in answer.raw_headers:
        yield b"%b: %b\r\n" % (name, value)
    yield b"connection: close\r\n\r\n"
    yield bytes(answer.body)
