"""The whole service between an upstream and a client, both of the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx

from tests.service import Service, Watcher, service
from tests.upstream import Upstream, in_turn


@dataclass
class Bench:
    """A service, its upstream and the reader's client."""

    upstream: Upstream
    running: Service
    model: str
    client: httpx.AsyncClient

    async def start(self) -> str:
        response = await self.client.post("/runs", json={"input": "A story, please."})
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
