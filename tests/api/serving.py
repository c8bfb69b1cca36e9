"""The API served on a loopback port, over the runner and the memory store, with scripted models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
from fastapi import FastAPI

from app.api.application import build_api
from app.api.readers import Readers
from app.api.services import ApiLimits, Services
from app.api.tickets import Tickets
from app.domain.access import Keys
from app.domain.run import Run
from app.domain.team import AgentSpec, TeamSpec
from app.listening import listen
from app.observer.telling import Observers
from app.ports import Store
from app.runtime.clock import SystemClock
from app.runtime.runner import Capacity, Runner
from app.server import Server
from app.stores.memory import MemoryStore
from tests.runtime.playing import Cast, saying

JSON = {"Content-Type": "application/json"}


def services_for(
    cast: Cast,
    *,
    store: Store | None = None,
    readers: Readers | None = None,
    limits: ApiLimits | None = None,
    capacity: Capacity | None = None,
    keys: Keys | None = None,
    tickets: Tickets | None = None,
    observers: Observers | None = None,
    figures: bytes = b"",
) -> Services:
    store = MemoryStore() if store is None else store
    observers = observers or Observers()
    members = tuple(AgentSpec(id=id_, name=id_.title()) for id_ in cast.members)
    nobody = (AgentSpec(id="nobody", name="Nobody"),)
    spec = TeamSpec(
        id="team", name="Team", mode=cast.mode, instructions="Secret.", members=members or nobody
    )
    return Services(
        store=store,
        runner=Runner(store, {"team": cast.team()}, SystemClock(), None, capacity, observers),
        readers=Readers() if readers is None else readers,
        teams={"team": spec},
        default_model="scripted:",
        tickets=tickets or Tickets(store),
        keys=keys or Keys(),
        limits=limits or ApiLimits(),
        observers=observers,
        figures=lambda: figures,
    )


def api_over(services: Services) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with services.runner:
            yield

    return build_api(services, lifespan)


@dataclass
class Served:
    """A served API, and a client that talks to it."""

    services: Services
    server: Server
    port: int
    client: httpx.AsyncClient

    def client_with(self, **headers: str) -> httpx.AsyncClient:
        """Return another client, that sends these headers."""
        return httpx.AsyncClient(
            base_url=self.client.base_url, headers=headers, trust_env=False, timeout=15
        )

    async def start(self, **body: Any) -> str:
        """Start a run; return its id."""
        answer = await self.client.post("/runs", json={"input": "Hello.", **body})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["run_id"])

    async def finish(self, **body: Any) -> Any:
        """Start a run and wait for its end; return it as JSON."""
        answer = await self.client.post("/runs?wait=10", json={"input": "Hello.", **body})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def run(self, run_id: str) -> Run:
        run = await self.services.store.load(run_id)
        assert run is not None
        return run

    async def ended(self, run_id: str) -> Run:
        """Wait until a run is final."""
        run = await self.run(run_id)
        with anyio.fail_after(10), self.services.store.watch(run_id) as hint:
            while not run.status.is_final:
                await hint.wait()
        return run

    @asynccontextmanager
    async def open(
        self, target: str, *headers: str, method: str = "GET", body: bytes = b""
    ) -> AsyncIterator[Connection]:
        """Send a request over a socket of its own."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: localhost:{self.port}", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        async with self.connect() as connection:
            connection.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            yield connection

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """Open a socket and send nothing yet."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 26)
        try:
            yield Connection(reader, writer)
        finally:
            writer.transport.abort()


@dataclass
class Connection:
    """One connection, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def until(self, end: bytes) -> bytes:
        """Read up to and with some bytes."""
        async with asyncio.timeout(10):
            return await self.reader.readuntil(end)

    async def rest(self) -> bytes:
        """Read until the server closes the connection."""
        async with asyncio.timeout(10):
            return await self.reader.read()

    def leave(self) -> None:
        """Close it."""
        self.writer.close()

    def half_close(self) -> None:
        """Send nothing more, and read on."""
        self.writer.write_eof()

    def stop_reading(self) -> None:
        """Take nothing more, and stay."""
        transport = self.writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()

    def reset(self) -> None:
        """Abort it: the server gets RST where something was left unread."""
        self.writer.transport.abort()


class AttentiveServer(Server):
    """Looks every few milliseconds, not ten times a second, whether it is to stop."""

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:  # noqa: ASYNC110 - an attribute, as uvicorn has it
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(
    cast: Cast | None = None, services: Services | None = None, drain_timeout_s: float = 0
) -> AsyncIterator[Served]:
    services = services or services_for(cast or Cast(saying("Once ", "upon ", "a time.")))
    ready = anyio.Event()
    server = AttentiveServer(api_over(services), drain_timeout_s, lambda _: ready.set())
    listening = listen("127.0.0.1", 0, 30)
    port = listening.getsockname()[1]
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve, [listening])
        with anyio.fail_after(10):
            await ready.wait()
        url = f"http://localhost:{port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=15) as client:
            yield Served(services, server, port, client)
        server.should_exit = True


def dechunked(stream: bytes) -> bytes:
    """Return what chunks hold; they must end with the last chunk of a stream that is complete."""
    body = b""
    while True:
        size, _, stream = stream.partition(b"\r\n")
        length = int(size, 16)
        body, stream = body + stream[:length], stream[length + 2 :]
        if length == 0:
            return body
