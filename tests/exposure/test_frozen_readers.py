"""Readers that read nothing, beside runs that stream and readers that read."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
import pytest

from tests import laws
from tests.durability.amounts import amount
from tests.figures import FIGURES
from tests.process.family import PROC
from tests.service import Service, service

pytestmark = pytest.mark.anyio

ROOT: Final = Path(__file__).parents[2]
RUNS: Final = amount(5, 10, 20)
FAST: Final = amount(10, 50, 100)
FROZEN: Final = amount(90, 450, 900)
PIECES: Final = amount(150, 300, 500)
SEND_TIMEOUT_S: Final = amount(2, 4, 8)
BOUND_BYTES: Final = 256 * 1024
_GONE: Final = re.compile("reader (?:dropped|left)")
SCRIPT: Final = f"""
pace_s: 0.02
agents:
  - turns:
      - - say: "{" ".join(["x" * 1000] * PIECES)}"
"""


def memory_of(running: Service) -> int:
    """Return the bytes that the process holds now."""
    pages = (PROC / str(running.process.pid) / "statm").read_text().split()[1]
    return int(pages) * 4096


async def start_runs(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    answers = [await client.post("/runs", json={"input": "x"}) for _ in range(RUNS)]
    return [answer.json() for answer in answers]


async def read_whole(client: httpx.AsyncClient, path: str, seen: list[bytes]) -> None:
    async with client.stream("GET", path) as answer:
        assert answer.status_code == 200
        seen.append(await answer.aread())


async def fast_readers(client: httpx.AsyncClient, paths: list[str]) -> float:
    """Read runs to their ends; return how long the slowest took. What was read is whole."""
    seen: list[bytes] = []
    began = time.monotonic()
    with anyio.fail_after(120):
        async with anyio.create_task_group() as group:
            for number in range(FAST):
                group.start_soon(read_whole, client, paths[number % len(paths)], seen)
    took = time.monotonic() - began
    for stream in set(seen):
        laws.check(laws.parse(stream))
    assert len(seen) == FAST
    assert len(set(seen)) == min(FAST, len(paths))
    return took


@asynccontextmanager
async def frozen_readers(
    running: Service, paths: list[str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process with so many streams, stopped in its tracks."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.exposure.frozen", str(running.port), str(FROZEN), *paths),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        with anyio.fail_after(60):
            assert await process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        await process.wait()


async def readers_are_gone(running: Service, client: httpx.AsyncClient, count: int) -> None:
    """Wait until so many were dropped, by the service or, as soon, by the kernel for it."""
    with anyio.fail_after(5 * SEND_TIMEOUT_S + 10):
        while sum(bool(_GONE.search(line)) for line in running.log) < count:
            await client.get("/livez")


async def test_readers_that_read_nothing_cost_little_and_nobody_else_anything(
    tmp_path: Path,
) -> None:
    script = tmp_path / "long.yaml"
    script.write_text(SCRIPT)
    settings = {
        "MODEL": f"scripted:{script}",
        "STORE_URL": "memory:",
        "DRAIN_TIMEOUT_S": "0",
        "SEND_TIMEOUT_S": str(SEND_TIMEOUT_S),
    }
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with (
        service(**settings) as running,
        httpx.AsyncClient(
            base_url=running.url, timeout=60, limits=limits, trust_env=False
        ) as client,
    ):
        alone = await fast_readers(
            client, [run["links"]["events"] for run in await start_runs(client)]
        )
        runs = await start_runs(client)
        paths = [run["links"]["events"] for run in runs]
        before = memory_of(running)
        async with frozen_readers(running, paths):
            beside = await fast_readers(client, paths)
            cost = memory_of(running) - before
            assert cost < FROZEN * BOUND_BYTES + RUNS * PIECES * 20_000
            await readers_are_gone(running, client, FROZEN)
            whole = (await client.get(paths[0])).content
            assert laws.parse(whole)[-1]["event"] == "TeamRunCompleted"
        cut = whole[: whole.index(b"id: 50\n")]  # what a dropped reader had may end anywhere
        rest = await client.get(paths[0], headers={"Last-Event-ID": "49"})
        opening = len(b"retry: 2000\n: ok\n")
        assert cut + rest.content[opening:] == whole
    FIGURES.append(
        f"{RUNS} runs, {FAST} readers: {alone:.2f} s alone, {beside:.2f} s beside {FROZEN} frozen"
        f" ({beside / alone - 1:+.0%}, aim 20 %); {cost / FROZEN / 1000:.0f} kB for each frozen one"
    )
