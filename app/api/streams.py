"""Events as they go out: server-sent events, or one JSON object a line.

The stored bytes are sent as they are, everything behind the cursor in one write. `EventSource`
gives up for ever on any status but 200, so where this replica cannot serve a stream just now, it
answers one that only says when to come back.

sse-starlette would cancel streams when the process is asked to stop; here they go on during the
drain, and end by themselves behind the final events (`Readers.close`).

That a client is gone is told in three ways: by `receive`, by a `send` that raises, and by a `send`
that takes too long (`Readers`). All three are the same leaving.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request
from sse_starlette.sse import AppStatus, EventSourceResponse
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.api.callers import reader_of
from app.api.following import SILENCE, follow
from app.api.lookup import find_run
from app.api.negotiation import EVENT_STREAM, NDJSON, accept_of, stream_type
from app.api.problems import Refused
from app.api.readers import ClientGone, Reader
from app.api.services import Given, Services
from app.domain.errors import BadCursor, Overloaded, StoreUnavailable
from app.domain.events import data_of
from app.domain.run import Run
from app.observer.facts import ReaderEnd, ReaderGone

logger = logging.getLogger(__name__)
router = APIRouter()

AppStatus.enable_automatic_graceful_drain = False

_CURSOR_DIGITS: Final = 18
SERVER_SEND: Final = "team_runs.send"
"""Where a request's scope has the server's own `send` (`application.py`)."""

_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

OnLeave = Callable[[], Awaitable[None]]


def _body(chunk: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": chunk, "more_body": more}


def _lines(frames: bytes) -> bytes:
    """Turn frames into NDJSON; a blank line ends a frame and never stands inside one."""
    blocks = frames[:-2].split(b"\n\n")
    return b"".join(data_of(block + b"\n\n") + b"\n" for block in blocks)


@dataclass(frozen=True, slots=True)
class Format:
    """How a log looks on the wire. Single newlines, so that no parser sees an empty event."""

    media_type: str
    opening: bytes
    heartbeat: bytes
    render: Callable[[bytes], bytes]


FORMATS: Final[Mapping[str, Format]] = {
    EVENT_STREAM: Format(EVENT_STREAM, b"retry: 2000\n: ok\n", b": ping\n", render=bytes),
    NDJSON: Format(NDJSON, b"", b"\n", _lines),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """Whose events are read, behind which place, and in which format."""

    run_id: str
    after: int
    style: Format


class Pages(EventSourceResponse):
    """What sse-starlette makes of a stream, but for four things.

    It opens a scope for each send, looks for a text to encode, and for a logger, in a private
    method that is replaced here (measured: 10 µs an event); a send that lasts too long is noticed
    by the timer that all readers share. A page goes straight to the server, for whatever wraps
    `send` on the way is done with an answer when its head has passed (six calls an event). It says
    `Connection: keep-alive`, which is for the server to say, and wrong where the connection closes.
    And each stream has an event of its own that tells of the process's end, which is not for it to
    heed (1.5 KB a reader).

    Pages come in a reading's format; `has_ended` tells that none is missing at the end.
    """

    def __init__(
        self,
        pages: AsyncGenerator[bytes, None],
        reading: Reading,
        reader: Reader,
        headers: Mapping[str, str],
    ) -> None:
        # ping 0: heartbeats are among the pages
        super().__init__(pages, media_type=reading.style.media_type, headers=headers, ping=0)
        self.has_ended = False
        self._pages = pages
        self._reading = reading
        self._reader = reader
        self._straight: Send | None = None
        del self.headers["Connection"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        self._straight = scope.get(SERVER_SEND)
        await super().__call__(scope, receive, send)

    @staticmethod
    async def _listen_for_exit_signal() -> None:
        """Wait for ever."""
        await asyncio.get_running_loop().create_future()

    async def _stream_response(self, send: Send) -> None:
        style, write = self._reading.style, self._reader.write
        start = {"status": self.status_code, "headers": self.raw_headers}
        await write(send, {"type": "http.response.start", **start})
        straight = self._straight or send
        if style.opening:
            await write(straight, _body(style.opening))
        try:
            async with aclosing(self._pages) as pages:
                async for page in pages:
                    chunk = style.heartbeat if page == SILENCE else style.render(page)
                    await write(straight, _body(chunk))
        except StoreUnavailable:
            run_id = self._reading.run_id
            logger.warning("stream ended early: no answer of the store", extra={"run_id": run_id})
        self.active, self.has_ended = False, True
        await write(send, _body(b"", more=False))


class EventStream(Response):
    """A reading as an answer. `on_leave` is told of a client that leaves before the end.

    The end of a stream for a reason of the server's own is not such a leaving.
    """

    def __init__(
        self,
        services: Services,
        reading: Reading,
        headers: Mapping[str, str] | None = None,
        on_leave: OnLeave | None = None,
    ) -> None:
        super().__init__()
        self._services = services
        self._reading = reading
        self._stream_headers = {**_HEADERS, **(headers or {})}
        self._on_leave = on_leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        run_id, after = self._reading.run_id, self._reading.after
        with self._services.readers.join(run_id) as reader:
            followed = follow(self._services.store, run_id, after, reader)
            pages = Pages(followed, self._reading, reader, self._stream_headers)
            try:
                with reader.patience:
                    await pages(scope, receive, send)
            except ClientGone:
                logger.debug("a reader's connection is closed, as sending tells")
            finally:
                self._tell_end(reader, has_ended=pages.has_ended)
        if self._on_leave is not None and not pages.has_ended:
            await self._on_leave()

    def _tell_end(self, reader: Reader, *, has_ended: bool) -> None:
        end: ReaderEnd = "completed" if has_ended else "left"
        if reader.patience.cancelled_caught:
            end = "dropped"
        seconds = time.monotonic() - reader.began_at
        gone = ReaderGone(self._reading.run_id, end, reader.sent_bytes, seconds)
        self._services.observers.note(gone)


@router.head("/runs/{run_id}/events", include_in_schema=False)
@router.get("/runs/{run_id}/events")
async def read_events(request: Request, run_id: str, services: Given) -> Response:
    """Read a run's events: everything behind the cursor, then live, to the final event."""
    media_type = stream_type(accept_of(request.headers))
    try:
        caller = await reader_of(request, services, run_id)
        if media_type is None:
            raise Refused("not_acceptable", f"events are served as {EVENT_STREAM} or {NDJSON}")
        after = cursor_of(request)
        run = await find_run(services.store, run_id, caller.tenant)
        return _open_stream(request, services, run, after, FORMATS[media_type])
    except (Overloaded, StoreUnavailable):
        if media_type == EVENT_STREAM:
            return _busy()
        raise


def _open_stream(
    request: Request, services: Services, run: Run, after: int, style: Format
) -> Response:
    if _is_read_to_the_end(run, after):
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    if request.method != "HEAD":
        services.readers.check_room_at(run.run_id)
    return EventStream(services, Reading(run.run_id, after, style))


def cursor_of(request: Request) -> int:
    """Return the place behind which to read on; the header wins over the query."""
    header = request.headers.get("last-event-id", "").strip(" \t")  # the parser keeps them
    given = header or request.query_params.get("last_event_id") or "0"
    if len(given) > _CURSOR_DIGITS or not (given.isascii() and given.isdigit()):
        raise BadCursor(f"a cursor is 1 to {_CURSOR_DIGITS} decimal digits")
    return int(given)


def _is_read_to_the_end(run: Run, after: int) -> bool:
    if run.status.is_final:
        return after >= run.last_event_id
    if after > run.last_event_id:
        raise BadCursor("the cursor is beyond the end of the run's log")
    return False


def _busy() -> Response:
    return Response(b"retry: 5000\n: busy\n", headers=_HEADERS, media_type=EVENT_STREAM)
