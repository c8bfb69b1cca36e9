"""A client that does what it is told: reads on with the cursor, and tries again what got a 503."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any, Final

import httpx

from tests import laws

_FINAL: Final = re.compile(rb"^event: (TeamRun(?:Completed|Cancelled|Error))$", re.MULTILINE)
_ID: Final = re.compile(rb"^id: (\d+)$", re.MULTILINE)
_RETRY: Final = re.compile(rb"^retry: (\d+)$", re.MULTILINE)
_ASIDE: Final = re.compile(rb"^(?:retry: \d+|: \w+)\n", re.MULTILINE)


class Reader:
    """Reads one run to its final event, over as many connections as it takes, like EventSource."""

    def __init__(self, client: httpx.AsyncClient, run_id: str) -> None:
        self._client = client
        self._url = f"/runs/{run_id}/events"
        self._retry_s = 0.0
        self.frames = b""
        self.connections = 0

    async def read(self) -> None:
        """Return when the final event is there."""
        while not _FINAL.search(self.frames):
            if self.connections:
                await asyncio.sleep(self._retry_s)
            self.connections += 1
            await self._read_on()

    async def _read_on(self) -> None:
        headers = {"Accept": "text/event-stream"}
        if ids := _ID.findall(self.frames):
            headers["Last-Event-ID"] = ids[-1].decode()
        received = b""
        try:
            async with self._client.stream("GET", self._url, headers=headers) as response:
                assert response.status_code == 200, response
                async for chunk in response.aiter_raw():
                    received += chunk
        except httpx.TransportError:
            pass  # whatever ended it: what was received whole counts, and the rest comes again
        if told := _RETRY.search(received):
            self._retry_s = int(told[1]) / 1000
        whole, end, _ = received.rpartition(b"\n\n")
        self.frames += _ASIDE.sub(b"", whole + end)


async def start(client: httpx.AsyncClient, body: dict[str, Any], answers: Counter[int]) -> str:
    """Start a run, as often as it takes; return its id. `answers` counts the statuses."""
    while True:
        response = await client.post("/runs", json=body)
        answers[response.status_code] += 1
        if response.status_code == 202:
            run_id: str = response.json()["run_id"]
            return run_id
        assert response.status_code == 503, response.text
        await asyncio.sleep(int(response.headers["Retry-After"]))


def check(frames: bytes) -> None:
    """Assert that these are the frames of a run that was completed."""
    log = laws.parse(frames)
    laws.check(log)
    assert log[-1]["event"] == "TeamRunCompleted", log[-1]
