"""The service as its users run it: a process of its own, on a free loopback port."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx

from tests import laws

START_S = 30
STOP_S = 40
_UNPREFIXED = ("OPENAI_", "OTEL_", "HTTP_", "HTTPS_", "ALL_")
_LISTENING = re.compile(r"listening on [^ ]+, port (\d+)")


@dataclass
class Service:
    """A running service; `log` is what it has logged so far."""

    process: asyncio.subprocess.Process
    port: int = 0
    log: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **headers: str) -> httpx.AsyncClient:
        """A client that waits long for the next byte, as a reader of a silent run must."""
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(sig)

    async def ended(self) -> int:
        """Wait for the process's end, bounded; return its exit status."""
        with anyio.fail_after(STOP_S):
            return await self.process.wait()


@asynccontextmanager
async def service(**settings: str) -> AsyncIterator[Service]:
    """Run `python -m app serve` with these settings, named without their prefix."""
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env["PYTHONPATH"] = str(Path(__file__).parent.parent)  # teams of the tests have their own tools
    env |= {
        name if name.startswith(_UNPREFIXED) else f"TEAM_RUNS_{name}": value
        for name, value in ({"PORT": "0", "LOG_FORMAT": "text"} | settings).items()
    }
    with tempfile.TemporaryDirectory() as folder:  # no .env of the person who runs the tests
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "app",
            "serve",
            env=env,
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        running = Service(process)
        reading = asyncio.create_task(_read_log(running))
        try:
            with anyio.fail_after(START_S):
                await _until_listening(running, reading)
            yield running
        finally:
            running.stop()
            try:
                await running.ended()
            except TimeoutError:
                running.stop(signal.SIGKILL)
                raise
            finally:
                await reading


async def _read_log(running: Service) -> None:
    assert running.process.stdout is not None
    async for line in running.process.stdout:
        running.log.append(line.decode())
        if found := _LISTENING.search(running.log[-1]):
            running.port = int(found[1])


async def _until_listening(running: Service, reading: asyncio.Task[None]) -> None:
    while not running.port:
        assert not reading.done(), "".join(running.log)
        await asyncio.sleep(0.01)


class Watcher:
    """A reader of one run's events, in a task of its own; notes when each chunk arrived."""

    def __init__(self, client: httpx.AsyncClient, run_id: str) -> None:
        self._client = client
        self._url = f"/runs/{run_id}/events"
        self._received = bytearray()
        self._news = asyncio.Event()
        self.arrived_at: list[float] = []
        self.is_over = False

    @property
    def received_bytes(self) -> int:
        """How much of the stream has arrived."""
        return len(self._received)

    @property
    def events(self) -> list[laws.LogEvent]:
        """The whole events so far."""
        whole, _, _ = self._received.rpartition(b"\n\n")
        return laws.parse(bytes(whole) + b"\n\n") if whole else []

    async def read(self) -> None:
        """Read to the stream's end."""
        async with self._client.stream("GET", self._url) as response:
            assert response.status_code == 200, response
            async for chunk in response.aiter_raw():
                self.arrived_at.append(asyncio.get_running_loop().time())
                self._received += chunk
                self._tell()
        self.is_over = True
        self._tell()

    async def until(self, text: str, times: int = 1) -> None:
        """Wait until some text stands in the stream, so many times."""
        await self._until(lambda: self._received.count(text.encode()) >= times)

    async def over(self) -> None:
        """Wait until the stream has ended."""
        await self._until(lambda: self.is_over)

    async def _until(self, holds: object) -> None:
        assert callable(holds)
        while not holds():
            assert not self.is_over, self.events
            await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
