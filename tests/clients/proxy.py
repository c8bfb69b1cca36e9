"""A way to the service that breaks: connections are cut behind chosen bytes of the answer."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

_CURSOR = re.compile(rb"^last-event-id: *(\S*)\r$", re.IGNORECASE | re.MULTILINE)
_LAST_CHUNK = b"0\r\n\r\n"


class How(Enum):
    """How a connection ends; `WELL` as HTTP has it, so that the client sees a complete answer."""

    CLOSE = auto()
    RESET = auto()
    WELL = auto()


@dataclass(frozen=True)
class Cut:
    """Cut the connection so many bytes behind a mark in the answer."""

    how: How
    mark: bytes
    further: int = 0

    def place(self, answer: bytes) -> int | None:
        """Return how many bytes of the answer are to be let through, `None` for all so far."""
        found = answer.find(self.mark)
        end = found + len(self.mark) + self.further
        return end if found >= 0 and len(answer) >= end else None


@dataclass
class Proxy:
    """Passes on what both sides say; the n-th connection ends by the n-th cut, later ones do not.

    `asked` and `answered` is what went through, all connections together.
    """

    to_port: int
    cuts: Sequence[Cut]
    port: int = 0
    asked: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)
    _connections: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def cursors(self) -> list[bytes]:
        """The `Last-Event-ID` of each request that had one that is not 0."""
        return [cursor for cursor in _CURSOR.findall(self.asked) if cursor.strip(b"0")]

    async def passed(self, text: bytes) -> None:
        """Wait until some text has gone through."""
        while text not in self.answered:
            await self._news.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a client."""
        cut = self.cuts[self._connections] if self._connections < len(self.cuts) else None
        self._connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self.to_port)
        asking = asyncio.create_task(self._ask(reader, back))
        try:
            await self._answer(there, writer, cut)
        finally:
            asking.cancel()
            back.transport.abort()
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            self.asked += data
            back.write(data)
        back.close()

    async def _answer(
        self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: Cut | None
    ) -> None:
        answer = b""
        while data := await there.read(65_536):
            sent, answer = len(answer), answer + data
            place = cut.place(answer) if cut else None
            self._pass_on(answer[sent:place], writer)
            if cut and place is not None:
                _end(writer, cut.how)
                return

    def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        self.answered += data
        self._news.set()
        self._news = asyncio.Event()


def _end(writer: asyncio.StreamWriter, how: How) -> None:
    if how is How.WELL:
        writer.write(_LAST_CHUNK)
    elif how is How.RESET:
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


@asynccontextmanager
async def proxy(to_port: int, cuts: Sequence[Cut]) -> AsyncIterator[Proxy]:
    """Open a proxy on a free loopback port."""
    opened = Proxy(to_port, cuts)
    server = await asyncio.start_server(opened.serve, "127.0.0.1", 0)
    opened.port = server.sockets[0].getsockname()[1]
    async with server:
        yield opened
