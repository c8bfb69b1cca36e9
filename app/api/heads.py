"""What comes ahead of a request's body, bounded in length and in time; bodies, in time.

uvicorn waits for ever for the end of a head, and keeps whatever it is sent until then, so a few
hundred connections that send a byte now and then (slowloris) would cost all there are. Here each
has `read_timeout_s` for its first head, for every later one from its first byte on, and for each
body; a head that grows too long without an end is refused. Those that arrive whole are measured by
`access.py`.

Nothing is cut while an answer is on its way: it has its own limits, and ends a stream's connection
no earlier than the stream. A connection that closes while its client still sends is closed in two
steps: the answer and its end, then a short time in which what comes in is read and thrown away.
Closing at once would make the client's system drop the answer unread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.api.access import MAX_HEAD_BYTES
from app.api.problems import Refused, problem

_LINGER_S: Final = 1.0
_NOT_HTTP: Final = (
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 30\r\nconnection: close\r\n\r\n"
    b"Invalid HTTP request received."
)
_TOO_LONG: Final = Refused(
    "headers_too_large", f"target and headers must have at most {MAX_HEAD_BYTES} bytes"
)


class _Lingering:
    """A transport, but for how it is closed."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self.close = close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedRequests(HttpToolsProtocol):
    """A connection that takes only so much, and waits only so long, for a request."""

    read_timeout_s: ClassVar[float] = 20.0

    _head_bytes = 0
    _is_in_body = False
    _is_refused = False
    _timer: asyncio.TimerHandle | None = None

    # --- the connection ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
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
        is_in_head = self._timer is not None and not self._is_in_body and not self._is_refused
        if is_in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(_TOO_LONG)

    # --- what the parser finds --------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        """Go on to wait for the body."""
        super().on_headers_complete()  # raises where the target is none
        self._head_bytes = 0
        self._is_in_body = True
        self._wait(self.read_timeout_s)
        self.cycle.transport = cast(asyncio.Transport, _Lingering(self.transport, self._linger))

    def on_message_complete(self) -> None:
        """Wait no more: the request is there."""
        self._head_bytes = 0
        self._is_in_body = False
        self._stop_waiting()
        self.cycle.transport = self.transport
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in uvicorn's words; to the parser a long target is none."""
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(_TOO_LONG)
        elif self._is_in_body and not self.cycle.response_started:
            self.cycle.disconnected = True  # its own answer, if any, comes too late
            self.cycle.message_event.set()
            self._say_last(STATUS_LINE[400] + _NOT_HTTP)
        else:
            self._end_with(STATUS_LINE[400] + _NOT_HTTP)

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

    # --- the end ----------------------------------------------------------------------------------

    def _refuse(self, refused: Refused) -> None:
        self._end_with(b"".join(_answer(refused)))

    def _end_with(self, answer: bytes) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()  # the answer before this one is not complete
        else:
            self._say_last(answer)

    def _say_last(self, answer: bytes) -> None:
        self.transport.write(answer)
        self._linger()

    def _linger(self) -> None:
        """Say that nothing follows, and give the client a moment to read that."""
        self._is_refused = True
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
