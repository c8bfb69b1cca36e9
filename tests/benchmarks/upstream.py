"""The provider of the benchmarks: a raw Responses stream, as fast as it is told to be.

It lives in the process of the client, on the other core than the service, so that what was written
and what was read are told by one clock. Every delta carries the time of its writing, except flat
out. There it makes a difference how many a write holds: a pipe is charged by the read, a service
by the event. So both are measured: one delta a write, as providers send them, and sixteen.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Final, Self, cast

FLAT_OUT: Final = math.inf
SILENT: Final = 0.0
_MARK: Final = re.compile(rb"\[run (\d+)\]")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_GOLDEN: Final = (5**0.5 - 1) / 2
"""Its multiples spread over any number of places as evenly as can be."""
_LAST_CHUNK: Final = b"0\r\n\r\n"
_CALL: Final = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "delegate_task_to_member",
    "arguments": json.dumps({"member_id": "storyteller", "task": "Write."}),
    "status": "completed",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How every model call is answered, but for a leader's, where it delegates.

    `rate` is deltas a second, `SILENT` for one and then none; without a `count` a stream goes on
    until it is released. Flat out, each stream writes a `block` of deltas at a time, in turn.
    """

    rate: float = 20.0
    count: int | None = None
    delegates: bool = False
    block: int = 1


_PHASES: Final = (place * _GOLDEN % 1 for place in count(1))
"""When streams have their turns, in parts of a delta's time: never in step, as models never are.

In step, one wakening would serve all of them, and a pipe would seem to cost half of what it does.
"""


def _chunk(fields: Mapping[str, Any]) -> bytes:
    event = f"event: {fields['type']}\ndata: {json.dumps(fields)}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(event), event)


def _delta(text: str) -> bytes:
    return _chunk(
        {
            "type": "response.output_text.delta",
            "sequence_number": 1,
            "item_id": "msg_1",
            "output_index": 0,
            "content_index": 0,
            "delta": text,
            "logprobs": [],
        }
    )


def _response(status: str, **fields: Any) -> dict[str, Any]:
    base = {"id": "resp_1", "object": "response", "created_at": 0, "model": "m", "tools": []}
    shared = {"tool_choice": "auto", "parallel_tool_calls": True, "output": []}
    return {**base, **shared, "status": status, **fields}


_STAMPED: Final = _delta(f" @{0:015d}#")
_STAMP_AT: Final = _STAMPED.index(b"@") + 1
_STAMPED_HEAD: Final = _STAMPED[:_STAMP_AT]
_STAMPED_TAIL: Final = _STAMPED[_STAMP_AT + 15 :]
WORD: Final = _delta(" word")
_BEGIN: Final = _chunk({"type": "response.created", "response": _response("in_progress")})
_USAGE: Final = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
_END: Final = (
    _chunk({"type": "response.completed", "response": _response("completed", usage=_USAGE)})
    + _LAST_CHUNK
)


def stamp() -> int:
    """Return the time that is written into deltas and compared with, in microseconds."""
    return time.monotonic_ns() // 1000


def _delegation() -> bytes:
    shell = {**_CALL, "arguments": "", "status": "in_progress"}
    place = {"item_id": "fc_1", "output_index": 0}
    arguments = "response.function_call_arguments"
    events: list[dict[str, Any]] = [
        {"type": "response.output_item.added", "output_index": 0, "item": shell},
        {"type": f"{arguments}.delta", **place, "delta": _CALL["arguments"]},
        {"type": f"{arguments}.done", **place, "arguments": _CALL["arguments"]},
        {"type": "response.output_item.done", "output_index": 0, "item": _CALL},
        {
            "type": "response.completed",
            "response": _response("completed", usage=_USAGE, output=[_CALL]),
        },
    ]
    return b"".join(map(_chunk, events)) + _LAST_CHUNK


class Exchange(asyncio.Protocol):
    """One connection, and the stream that is written on it."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._received = b""
        self._mark = -1
        self._said = 0
        self._is_speaking = False
        self._awaits_leave = False
        self._turn: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def connection_lost(self, error: Exception | None) -> None:
        if self._is_speaking:
            self._upstream.closed_at[self._mark] = stamp()
            self._stop()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, _, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is not None and len(body) >= int(length[1]):
            self._received = b""
            self._begin(body)

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._is_speaking and self._upstream.plan.rate == FLAT_OUT:
            self._flood()

    def pause_writing(self) -> None:
        self._is_paused = True

    def end(self) -> None:
        """Come to the provider's end."""
        self._stop()
        self._transport.write(_END)

    def go_on(self) -> None:
        """Flood on, if that was all that was allowed."""
        if self._awaits_leave:
            self._awaits_leave = False
            self._flood()

    def _begin(self, body: bytes) -> None:
        mark = _MARK.search(body)
        plan = self._upstream.plan
        self._mark, self._said = int(mark[1]) if mark else -1, 0
        self._transport.write(_HEAD + _BEGIN)
        if plan.delegates and b'"delegate_task_to_member"' in body:
            has_result = b"function_call_output" in body
            self._transport.write(_END if has_result else _delegation())
            return
        self._is_speaking, self._is_paused, self._awaits_leave = True, False, False
        self._upstream.begin(self)
        if plan.rate == FLAT_OUT:
            self._flood()
            return
        self._next_at = asyncio.get_running_loop().time() - next(_PHASES) / max(plan.rate, 1)
        self._speak()

    def _stop(self) -> None:
        self._is_speaking = False
        self._upstream.speaking.discard(self)
        if self._turn is not None:
            self._turn.cancel()

    def _speak(self) -> None:
        plan = self._upstream.plan
        self._transport.write(_STAMPED_HEAD + b"%015d" % stamp() + _STAMPED_TAIL)
        self._said += 1
        if plan.count is not None and self._said >= plan.count:
            self.end()
        elif plan.rate != SILENT:
            self._next_at += 1 / plan.rate
            self._turn = asyncio.get_running_loop().call_at(self._next_at, self._speak)

    def _flood(self) -> None:
        """Write one block, and go on when the other streams had their turn."""
        plan = self._upstream.plan
        count = plan.count or 0
        block = int(min(plan.block, count - self._said, self._upstream.allowed - self._said))
        if block <= 0:
            self._awaits_leave = True
            return
        self._transport.write(WORD * block)
        self._said += block
        if self._said >= count:
            self.end()
        elif not self._is_paused:
            self._turn = asyncio.get_running_loop().call_soon(self._flood)


class Upstream:
    """The provider; an async context manager.

    `closed_at` tells, by the mark in a run's input, when its unfinished stream was closed.
    """

    def __init__(self) -> None:
        self.plan = Plan()
        self.allowed = FLAT_OUT
        self.speaking: set[Exchange] = set()
        self.closed_at: dict[int, int] = {}
        self._began = asyncio.Event()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Exchange(self), "127.0.0.1", 0, backlog=4096
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()

    def allow(self, deltas: float) -> None:
        """Let each stream that is flat out come to so many deltas, and wait there for more."""
        self.allowed = deltas
        for exchange in list(self.speaking):
            exchange.go_on()

    def begin(self, exchange: Exchange) -> None:
        """Count in a stream that speaks from now on."""
        self.speaking.add(exchange)
        self._began.set()

    async def speaks_in(self, streams: int) -> None:
        """Return when so many streams speak."""
        while len(self.speaking) < streams:
            self._began.clear()
            await self._began.wait()

    def release(self) -> None:
        """End all streams as a provider does."""
        for exchange in list(self.speaking):
            exchange.end()
