"""The network between the browser and the service: a relay that can be cut, frozen and mended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK = 65_536


class Wire:
    """Relays connections to a port of this machine.

    `cut` closes every connection and refuses new ones, `freeze` lets those there are carry nothing
    any more, as a laptop's sleep does, and `mend` takes new ones again. `cut_streams_behind(text)`
    closes each answer to a request for events right behind that text, once.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._pairs: set[_Pair] = set()
        self._is_cut = False
        self.cuts: list[bytes] = []
        self.received = b""
        self.requests: list[bytes] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def cut(self) -> None:
        self._is_cut = True
        for pair in self._pairs:
            pair.close()

    def freeze(self) -> None:
        """The idle connections are closed: a browser doesn't use those again after a sleep."""
        for pair in self._pairs:
            pair.is_frozen = True
            if not pair.is_stream:
                pair.close()

    def mend(self) -> None:
        self._is_cut = False

    def cut_streams_behind(self, *texts: bytes) -> None:
        self.cuts = list(texts)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        there = await asyncio.open_connection("127.0.0.1", self._target)
        pair = _Pair(self, (reader, writer), there)
        self._pairs.add(pair)
        try:
            await pair.relay()
        finally:
            pair.close()
            self._pairs.discard(pair)

    def close(self) -> None:
        for pair in list(self._pairs):
            pair.close()


End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Pair:
    """One connection of the browser, and its continuation to the service."""

    def __init__(self, wire: Wire, here: End, there: End) -> None:
        self._wire = wire
        self._here = here
        self._there = there
        self.is_frozen = False
        self.is_stream = False
        self._answered = b""

    async def relay(self) -> None:
        """Carry both ways until either side ends."""
        ways = [asyncio.create_task(self._upwards()), asyncio.create_task(self._downwards())]
        _, others = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for other in others:
            other.cancel()
        await asyncio.gather(*ways, return_exceptions=True)

    def close(self) -> None:
        self._here[1].transport.abort()
        self._there[1].transport.abort()

    async def _upwards(self) -> None:
        while data := await self._here[0].read(CHUNK):
            self.is_stream = b"/events" in data.split(b"\r\n", 1)[0]
            if self.is_stream:
                self._answered = b""
                self._wire.requests.append(data)
            self._there[1].write(data)

    async def _downwards(self) -> None:
        while data := await self._there[0].read(CHUNK):
            if self.is_frozen:
                continue
            kept = self._until_cut(data) if self.is_stream else data
            self._here[1].write(kept)
            await self._here[1].drain()
            if len(kept) < len(data):
                self._here[1].close()  # what was written goes out first
                return

    def _until_cut(self, data: bytes) -> bytes:
        """Return what is to be carried: all, or what stands before the cut."""
        before, self._answered = len(self._answered), self._answered + data
        self._wire.received += data
        if not self._wire.cuts:
            return data
        place = self._answered.find(self._wire.cuts[0])
        if place < 0:
            return data
        end = place + len(self._wire.cuts.pop(0))
        return data[: max(0, end - before)]


@asynccontextmanager
async def wired(port: int) -> AsyncIterator[Wire]:
    wire = Wire(port)
    server = await asyncio.start_server(wire.take, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        wire.close()
        await server.wait_closed()
