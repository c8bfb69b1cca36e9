"""`team-runs demo` as a process, and what it prints."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

ROOT = Path(__file__).parent.parent.parent


class NeverCameError(AssertionError):
    """The demo ended without having printed what was waited for."""


class Transcript:
    """What the demo has printed."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self._pieces = TextReceiveStream(process.stdout)
        self.text = ""

    async def until(self, pattern: str) -> None:
        """Read on until something was printed. Raises `NeverCameError`."""
        while not re.search(pattern, self.text):
            try:
                self.text += await self._pieces.receive()
            except anyio.EndOfStream:
                raise NeverCameError(f"{pattern}: {self.text}") from None

    async def rest(self) -> None:
        """Read on to the end."""
        async for piece in self._pieces:
            self.text += piece

    def has_line(self, pattern: str) -> bool:
        """Whether there is a line that begins so."""
        return re.search(f"^{pattern}", self.text, re.MULTILINE) is not None


@asynccontextmanager
async def demo(folder: Path, *options: str, **settings: str) -> AsyncIterator[Process]:
    """Run the demo in an empty folder, with no settings but these."""
    ours = ("TEAM_RUNS_", "OPENAI_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    command = [sys.executable, "-m", "app", "demo", *options]
    async with await anyio.open_process(
        command, env=env | {"PYTHONPATH": str(ROOT)} | settings, cwd=folder
    ) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
