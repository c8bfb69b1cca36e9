"""The server: raw asyncio, one protocol a connection, one task a request."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Self, cast

from tests.upstream.chat_replies import ChatReply
from tests.upstream.exchange import Exchange, Journal
from tests.upstream.replies import Omissions, Reply
from tests.upstream.steps import End, Fail, Json, Script
from tests.upstream.writer import Dropped, Writer, answer

_REPLIES: Mapping[str, type[Reply] | type[ChatReply]] = {
    "POST /v1/responses": Reply,
    "POST /v1/chat/completions": ChatReply,
}


class Upstream:
    """A provider at `base_url` while its context is open; errors of the script are raised at exit.

    `omit` says what its streams leave out.
    """

    def __init__(self, script: Script, omit: Omissions | None = None, *, port: int = 0) -> None:
        self.script = script
        self.omit = omit or Omissions()
        self.journal = Journal()
        self._port = port
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        """What the SDK calls `base_url`."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def exchanges(self) -> list[Exchange]:
        """All requests so far, in the order they arrived."""
        return self.journal.exchanges

    @property
    def busy(self) -> list[Exchange]:
        """The exchanges that are not over."""
        return [exchange for exchange in self.exchanges if not exchange.is_over]

    @property
    def open_connections(self) -> int:
        """How many sockets are open, idle ones included."""
        return self.journal.open_connections

    @property
    def connections_made(self) -> int:
        """How many connections there ever were."""
        return self.journal.connections_made

    async def arrived(self, number: int) -> Exchange:
        """Return request `number`, from 1, when it has arrived."""
        await self.journal.news.until(lambda: len(self.exchanges) >= number)
        return self.exchanges[number - 1]

    async def idle(self) -> None:
        """Return when every request that arrived is over."""
        for exchange in self.exchanges:
            await exchange.over()

    async def disconnected(self) -> None:
        """Return when no socket is open."""
        await self.journal.news.until(lambda: self.open_connections == 0)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._connect, "127.0.0.1", self._port, backlog=1024
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await self.disconnected()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        if self.journal.errors and error is None:
            raise self.journal.errors[0]

    def _connect(self) -> _Connection:
        return _Connection(self, self._connections, self._tasks)


class _Connection(asyncio.Protocol):
    """One socket: requests in, replies out, one after the other.

    A client's half-close is its leaving: asyncio then closes the transport by itself.
    """

    _transport: asyncio.Transport

    def __init__(
        self,
        upstream: Upstream,
        connections: set[_Connection],
        tasks: set[asyncio.Task[None]],
    ) -> None:
        self._upstream = upstream
        self._connections = connections
        self._tasks = tasks
        self._received = bytearray()
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._connections.add(self)
        self._number = self._upstream.journal.connected()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._exchange:
            self._exchange.end(closed=True)
        if self._task:
            self._task.cancel()
        self._connections.discard(self)
        self._upstream.journal.disconnected()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = bytes(self._received).partition(b"\r\n\r\n")
        route, headers = _parse_head(head)
        length = int(headers.get("content-length", 0))
        if not found or len(body) < length:
            return
        del self._received[: len(head) + 4 + length]
        if route in _REPLIES:
            self._serve(route, headers, json.loads(body[:length]))
        else:
            self._transport.write(answer(Fail(404, "not_found")))

    def abort(self) -> None:
        self._transport.abort()

    def _serve(self, route: str, headers: Mapping[str, str], body: Json) -> None:
        self._exchange = self._upstream.journal.took(self._number, headers, body)
        self._task = asyncio.get_running_loop().create_task(self._reply(self._exchange, route))
        self._tasks.add(self._task)
        self._task.add_done_callback(self._tasks.discard)
        self._task.add_done_callback(self._upstream.journal.ended)

    async def _reply(self, exchange: Exchange, route: str) -> None:
        """Go through the plan; a client that leaves cancels this task."""
        try:
            plan = self._upstream.script(exchange.body, exchange.number)
            reply = _REPLIES[route](exchange.number, exchange.body, self._upstream.omit)
            await Writer(self._write, exchange, reply).run([*plan, End()])
        except Dropped as drop:
            exchange.end()
            self._drop(reset=drop.reset)
        except Exception:
            exchange.end()
            self._transport.abort()
            raise

    async def _write(self, data: bytes) -> None:
        await self._may_write.wait()
        self._transport.write(data)

    def _drop(self, *, reset: bool) -> None:
        """Close after what was written, or with an RST, which may overtake it."""
        if not reset:
            self._transport.close()
            return
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


def _parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    """Return `POST /path` and the headers, their names in lower case."""
    request_line, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return " ".join(request_line.split(" ")[:2]), headers
