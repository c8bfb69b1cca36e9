"""Takes the steps of one plan, in time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus

from tests.upstream.chat_replies import ChatReply
from tests.upstream.exchange import Exchange
from tests.upstream.replies import Reply
from tests.upstream.steps import (
    CallTool,
    Cut,
    Drop,
    End,
    Fail,
    Hold,
    Open,
    Pause,
    Pieces,
    Raw,
    Refuse,
    Say,
    Step,
    Think,
)

_DELTA_OF: dict[type[Pieces], str] = {
    Say: "output_text",
    Refuse: "refusal",
    Think: "reasoning_summary_text",
    CallTool: "function_call_arguments",
}
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Dropped(Exception):
    """The plan says that the connection goes."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


class Writer:
    """Writes one reply; `write` takes bytes of HTTP."""

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        exchange: Exchange,
        reply: Reply | ChatReply,
    ) -> None:
        self._write = write
        self._exchange = exchange
        self._reply = reply
        self._is_open = False

    async def run(self, steps: Iterable[Step]) -> None:
        """Take the steps until one ends the reply."""
        for step in steps:
            if isinstance(step, Fail):
                await self._write(answer(step))
                self._exchange.end(complete=True)
                if step.headers.get("Connection") == "close":
                    raise Dropped(reset=False)
                return None
            if isinstance(step, End | Cut):
                return await self._end(step)
            await self._take(step)
        return None

    async def _take(self, step: Step) -> None:
        match step:
            case Hold():
                await step.wait()
            case Pause():
                await asyncio.sleep(step.seconds)
            case Drop():
                raise Dropped(reset=step.reset)
            case Open():
                await self._open()
            case Raw():
                await self._open()
                await self._body(step.data)
            case Pieces():
                await self._pieces(step)

    async def _pieces(self, step: Pieces) -> None:
        """Write each piece at its moment of a schedule that does not drift."""
        await self._open()
        if isinstance(step, CallTool):
            await self._body(self._reply.call(step))
        loop = asyncio.get_running_loop()
        begin = loop.time()
        for place, piece in enumerate(step.pieces, start=1):
            due = begin + place * step.every_s if step.every_s else 0
            await asyncio.sleep(due - loop.time())  # also without a pace: others get their turn
            await self._body(self._reply.piece(_DELTA_OF[type(step)], piece))
            self._exchange.add_delta()

    async def _body(self, data: bytes) -> None:
        """Write a piece of the body as one chunk."""
        if data:
            await self._write(b"%x\r\n%b\r\n" % (len(data), data))

    async def _open(self) -> None:
        """Write the reply's head, once."""
        if not self._is_open:
            self._is_open = True
            await self._write(_STREAM_HEAD)
            await self._body(self._reply.begin())

    async def _end(self, step: End | Cut) -> None:
        await self._open()
        data = self._reply.close()
        if isinstance(step, End):
            data += self._reply.end(step)
        await self._body(data)
        await self._write(b"0\r\n\r\n")
        self._exchange.end(complete=isinstance(step, End))


def answer(fail: Fail) -> bytes:
    """Render a whole reply that is no stream; the connection stays."""
    error = {
        "message": fail.message,
        "type": "invalid_request_error",
        "param": None,
        "code": fail.code,
    }
    body = json.dumps({"error": error}).encode() if fail.body is None else fail.body
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **fail.headers,
    }
    lines = [f"HTTP/1.1 {fail.status} {HTTPStatus(fail.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
