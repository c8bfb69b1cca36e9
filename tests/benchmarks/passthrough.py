"""The limit: what a pipe costs. Two asyncio protocols back to back, nothing is parsed.

Run as `python -m tests.benchmarks.passthrough PORT UPSTREAM_PORT`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class End(asyncio.Protocol):
    """One end of the pipe; what it gets goes out at the other."""

    def __init__(self, other: End | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self.other = other
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        if self.other is not None:
            self.other.other = self
            self.other.pass_on()

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._early += data
        else:
            self.other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def pass_on(self) -> None:
        """Send on what came before there was another end."""
        early, self._early = self._early, b""
        if early:
            self.data_received(early)


async def main(port: int, upstream_port: int) -> None:
    """Pass bytes between clients and the upstream, until the process is ended."""
    loop = asyncio.get_running_loop()
    opening: set[asyncio.Task[object]] = set()

    class Front(End):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            back = loop.create_connection(lambda: End(self), "127.0.0.1", upstream_port)
            task: asyncio.Task[object] = loop.create_task(back)
            opening.add(task)
            task.add_done_callback(opening.discard)

    server = await loop.create_server(Front, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
