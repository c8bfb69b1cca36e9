"""The servers that are measured: how each is started, asked, and looked at from outside.

Each runs alone on one core, the client and the upstream on the other. CPU is the scheduler's own
count, in nanoseconds, of all threads of the process; memory is its resident set.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.benchmarks.client import request

SERVER_CORE: Final = 0
CLIENT_CORE: Final = 1
START_S: Final = 300.0
"""Enough for 100,000 runs to be stored first."""
STOP_S: Final = 5.0
AGENTOS_PYTHON: Final = Path("build/agentos/bin/python")
"""Where the extra `benchmarks` is installed, apart from the service's own packages."""

Post = Callable[[str, str | None], bytes]
"""Makes the request for a streamed run of an input text, with a key or without."""


def post_json(text: str, key: str | None = None) -> bytes:
    """Return it as this service takes it."""
    return request("POST", "/runs", {"input": text, "stream": True}, key)


def _post_form(text: str, _: str | None) -> bytes:
    return request("POST", "/teams/storytelling/runs", f"message={text}&stream=true")


def _rival(name: str) -> tuple[str, ...]:
    return ("-m", f"tests.benchmarks.{name}", "{port}", "{upstream}")


@dataclass(frozen=True, slots=True)
class Target:
    """A server to be measured.

    `command` is what Python is given, with the `{port}` and that of the `{upstream}` filled in.
    `marker` begins each delta's event, `final` the last; `flood` is how many deltas
    each of ten streams gets flat out.
    """

    name: str
    marker: bytes
    flood: int
    command: tuple[str, ...]
    final: bytes = b"event: TeamRunCompleted"
    python: str = sys.executable
    make_post: Post = post_json
    key: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    path: str = "/"

    @property
    def is_ours(self) -> bool:
        """Whether it is the service, with whatever store."""
        return "STORE_URL" in self.settings

    def post(self, text: str) -> bytes:
        """Return the request for a streamed run."""
        return self.make_post(text, self.key)

    def with_settings(self, name: str, **settings: str) -> Target:
        """Return the same one under another name, with other settings."""
        return replace(self, name=name, settings={**self.settings, **settings})


_CONTENT: Final = b"event: TeamRunContent\n"
PASSTHROUGH: Final = Target(
    "passthrough",
    b"event: response.output_text.delta\n",
    20_000,
    _rival("passthrough"),
    b"event: response.completed",
)
NAIVE: Final = Target(
    "naive",
    b"event: response.output_text.delta\r\n",
    1500,
    _rival("naive"),
    b"event: response.completed",
)
AGENTOS: Final = Target(
    "AgentOS",
    _CONTENT,
    600,
    _rival("agentos"),
    python=str(AGENTOS_PYTHON),
    make_post=_post_form,
    path="/health",
)
_ROOM: Final = {
    "MAX_RUNNING_RUNS": "2000",
    "MAX_PENDING_RUNS": "2000",
    "LOG_LEVEL": "error",
    "MODEL": "openai:m",
}
MEMORY: Final = Target(
    "memory",
    _CONTENT,
    10_000,
    ("-m", "app", "serve"),
    settings={**_ROOM, "STORE_URL": "memory:"},
    path="/readyz",
)
SQLITE: Final = MEMORY.with_settings("SQLite", STORE_URL="sqlite:runs.db")


def redis(url: str) -> Target:
    """Return the service over a Redis or Valkey server."""
    return MEMORY.with_settings("Redis", STORE_URL=url)


def has_agentos() -> bool:
    """Whether agno can be imported where it was to be installed."""
    return (
        AGENTOS_PYTHON.exists()
        and subprocess.run(  # noqa: S603 - our own interpreter
            [AGENTOS_PYTHON, "-c", "import agno.os"], capture_output=True, check=False
        ).returncode
        == 0
    )


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs; `rss` is bytes, `cpu` seconds since its start."""

    target: Target
    port: int
    process: subprocess.Popen[bytes]

    @property
    def cpu(self) -> float:
        """CPU time of all its threads, those included that ended."""
        # What clock_getcpuclockid(3) returns, which Python has for threads only.
        return time.clock_gettime(~self.process.pid << 3 | 2)

    async def rest(self) -> None:
        """Return when it does next to nothing any more, or never seems to."""
        for _ in range(40):
            spent = self.cpu
            await asyncio.sleep(0.25)
            if self.cpu - spent < 0.02:
                return

    @property
    def rss(self) -> int:
        """Memory that it holds now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGESIZE")


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@asynccontextmanager
async def serving(
    target: Target, upstream_port: int, core: int | None = SERVER_CORE
) -> AsyncIterator[Server]:
    """Run a server while the context is open; it is ready when that is entered."""
    with TemporaryDirectory() as folder:
        port = free_port()
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - a millisecond; our own modules
            _command(target, port, upstream_port),
            cwd=folder,
            env=_environment(target, port, upstream_port),
            stdout=subprocess.DEVNULL,
            # a log that is measured is not read
            stderr=subprocess.DEVNULL if target.settings.get("LOG_LEVEL") == "info" else None,
        )
        cores = {core} if core is not None else {SERVER_CORE, CLIENT_CORE}
        os.sched_setaffinity(process.pid, cores)
        try:
            await ready(process, port, target.path)
            yield Server(target, port, process)
        finally:
            await _stop(process)


async def ready(process: subprocess.Popen[bytes], port: int, path: str) -> None:
    """Return when a GET is answered with 200, or by what speaks no HTTP of its own, at all."""
    async with asyncio.timeout(START_S):
        while not await _answers(port, path):
            if process.poll() is not None:
                raise OSError("the server went without a word")
            await asyncio.sleep(0.01)


async def _answers(port: int, path: str) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        if path == "/":
            return True
        writer.write(request("GET", path))
        return b" 200 " in await reader.readline()
    finally:
        writer.close()


async def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it; what does not end when asked is killed."""
    process.terminate()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + STOP_S
    while process.poll() is None and loop.time() < deadline:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.02)
    process.kill()
    process.wait()


def _command(target: Target, port: int, upstream_port: int) -> list[str]:
    python = str(Path(target.python).absolute())
    return [python, *(part.format(port=port, upstream=upstream_port) for part in target.command)]


def _environment(target: Target, port: int, upstream_port: int) -> dict[str, str]:
    ours = {f"TEAM_RUNS_{name}": value for name, value in target.settings.items()}
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("TEAM_RUNS_")},
        **ours,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OPENAI_API_KEY": "none",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream_port}/v1",
        "TEAM_RUNS_PORT": str(port),
        "TEAM_RUNS_DRAIN_TIMEOUT_S": "0",
    }
