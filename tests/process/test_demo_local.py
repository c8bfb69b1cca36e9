"""`team-runs demo`, without any option, setting or key: what the README's first command ends with.

It starts a server, which starts the small model; the witness of the cancel is the model's own
server, which tells at `/slots` whether it still writes.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from tests.figures import FIGURES
from tests.process.family import PROC, command_of, descendants, listening_ports

pytestmark = pytest.mark.anyio

PROMISED_S = 0.3
SLACK = 5
ROOT = Path(__file__).parent.parent.parent


class Transcript:
    """What the demo has printed."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self._pieces = TextReceiveStream(process.stdout)
        self.text = ""

    async def until(self, pattern: str) -> None:
        """Read on until something was printed."""
        while not re.search(pattern, self.text):
            self.text += await self._pieces.receive()

    async def rest(self) -> None:
        """Read on to the end."""
        async for piece in self._pieces:
            self.text += piece


@asynccontextmanager
async def demo(folder: Path) -> AsyncIterator[Process]:
    """Run the demo in an empty folder."""
    ours = ("TEAM_RUNS_", "OPENAI_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    command = [sys.executable, "-m", "app", "demo"]
    async with await anyio.open_process(
        command, env=env | {"PYTHONPATH": str(ROOT)}, cwd=folder
    ) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()


def model_below(pid: int) -> tuple[int, str]:
    """Return the model's process below the demo's, and its address."""
    (model,) = (one for one in descendants(pid) if "local_server.py" in command_of(one))
    (port,) = listening_ports(model)
    return model, f"http://127.0.0.1:{port}"


async def is_busy(client: httpx.AsyncClient) -> bool:
    slots = (await client.get("/slots")).json()
    return any(slot["is_processing"] for slot in slots)


async def test_the_demo_stops_the_local_model_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    with anyio.fail_after(90):
        async with demo(tmp_path) as process:
            told = Transcript(process)
            await told.until(r"\[StorytellerAgent\] \w")
            model, url = model_below(process.pid)
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                assert await is_busy(client)
                await told.until("→ DELETE /runs/")
                asked = time.perf_counter()
                with anyio.fail_after(SLACK * PROMISED_S):
                    while await is_busy(client):
                        pass
                took = time.perf_counter() - asked
            await told.rest()
            assert await process.wait() == 0, told.text
    FIGURES.append(f"demo: the local model idle {1000 * took:.0f} ms after DELETE was announced")
    assert re.search(r"^status +cancelled$", told.text, re.MULTILINE), told.text
    assert re.search(r"^cancelled +yes$", told.text, re.MULTILINE)
    assert re.search(r"^tokens +about [1-9]", told.text, re.MULTILINE)
    assert not (PROC / str(model)).exists()
