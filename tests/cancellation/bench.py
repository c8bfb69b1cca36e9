"""The whole service between an upstream and a client, both of the test's own process."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx

from tests.service import Service, Watcher, service
from tests.upstream import Exchange, Upstream, in_turn

TEAMS = str(Path(__file__).with_name("teams.yaml"))

LATE_S = 0.1
"""How long after the end of its run a call that was sent before it may still be read here."""


@dataclass
class Bench:
    """A service, its upstream and the reader's client.

    `ended_at` is when a reader saw the final event, by the mark in the run's input.
    """

    upstream: Upstream
    running: Service
    model: str
    client: httpx.AsyncClient
    ended_at: dict[str, float] = field(default_factory=dict)

    async def start(self, text: str = "A story, please.", **body: object) -> str:
        response = await self.client.post("/runs", json={"input": text, **body})
        assert response.status_code == 202, response.text
        return str(response.json()["run_id"])

    async def delete(self, run_id: str) -> tuple[float, dict[str, Any]]:
        """Press Stop; return when it was pressed, and the run that was answered."""
        pressed = asyncio.get_running_loop().time()
        response = await self.client.delete(f"/runs/{run_id}", params={"reason": "enough"})
        assert response.status_code in (200, 202), response.text
        run = response.json()
        assert run["status"] == ("cancelling" if response.status_code == 202 else "cancelled")
        return pressed, run

    async def get(self, run_id: str) -> dict[str, Any]:
        """Return a run as it stands."""
        run: dict[str, Any] = (await self.client.get(f"/runs/{run_id}")).json()
        return run

    @asynccontextmanager
    async def marked_run(
        self, text: str = "A story, please.", **body: object
    ) -> AsyncIterator[tuple[str, Watcher]]:
        """Start a run whose calls can be told from others', read it to its end, and note when."""
        mark = f"[run {len(self.ended_at) + 1}]"
        run_id = await self.start(f"{text} {mark}", **body)
        async with reading(self.client, run_id) as watcher:
            yield run_id, watcher
        self.ended_at[mark] = watcher.arrived_at[-1]

    def late_calls(self) -> list[Exchange]:
        """Return the calls that were made for a run that was over; every call is a marked run's."""
        return [
            exchange
            for exchange in self.upstream.exchanges
            if exchange.started_at > self.ended_at[_mark_of(exchange)] + LATE_S
        ]


def _mark_of(exchange: Exchange) -> str:
    marks = set(re.findall(r"\[run \d+\]", json.dumps(exchange.body)))
    assert len(marks) == 1, exchange.body
    return str(marks.pop())


@asynccontextmanager
async def bench(model: str = "openai:test", **settings: str) -> AsyncIterator[Bench]:
    """Open everything; what the upstream says is its `script`, nothing at first."""
    async with Upstream(in_turn([])) as upstream:
        settings |= {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "sk-test"}
        async with (
            service(MODEL=model, **settings) as running,
            running.client() as client,
        ):
            yield Bench(upstream, running, model, client)


@asynccontextmanager
async def reading(client: httpx.AsyncClient, run_id: str) -> AsyncIterator[Watcher]:
    """Read a run's events while the context is open, which must be over within 20 s."""
    watcher = Watcher(client, run_id)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(watcher.read)
            yield watcher
