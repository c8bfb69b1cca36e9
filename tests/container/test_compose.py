"""The Compose file's topology at work: nginx, Redis and two replicas with what it says of them.

A rolling restart under runs of 60 s, instead of 10:

    RUN_S=60 pytest -m system tests/container/test_compose.py
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests import laws
from tests.container.reader import Reader, check, start
from tests.container.topology import ADDRESSES, free_port, nginx, redis, replica
from tests.figures import FIGURES
from tests.service import Service

pytestmark = [pytest.mark.anyio, pytest.mark.system]

RUN_S = float(os.environ.get("RUN_S", "10"))
RUNS = 50
READERS = 4
"""How many runs are live at once, and how many read each of them."""
PACE_S = 0.25


def script(run_s: float) -> dict[str, Any]:
    """The leader delegates to a member, who speaks for half the time, then speaks itself."""
    says = {"say": "word " * int(run_s / PACE_S / 2)}
    delegates = {
        "call": "delegate_task_to_member",
        "arguments": {"member_id": "storyteller", "task": "Write."},
    }
    return {
        "pace_s": PACE_S,
        "agents": [
            {"match": "The members of your team", "turns": [[delegates], [says]]},
            {"turns": [[says]]},
        ],
    }


class Stand:
    """The topology; `replicas` run until they are replaced."""

    def __init__(self, url: str, port: int, store_url: str, model: str) -> None:
        self.client = httpx.AsyncClient(
            base_url=url,
            timeout=60,
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=RUNS),
        )
        self._places = (port, store_url, model)
        self._stacks = [AsyncExitStack() for _ in ADDRESSES]
        self.replicas: list[Service] = []

    async def open(self) -> None:
        self.replicas = [await self._open(number) for number in range(len(ADDRESSES))]

    async def replace(self, number: int) -> None:
        """Ask a replica to stop, wait for its end, and start another in its place."""
        self.replicas[number].stop()
        with anyio.fail_after(RUN_S + 30):
            status = await self.replicas[number].process.wait()
        assert status == 0, "".join(self.replicas[number].log)
        await self._stacks[number].aclose()
        self.replicas[number] = await self._open(number)

    async def _open(self, number: int) -> Service:
        return await self._stacks[number].enter_async_context(replica(number, *self._places))

    async def close(self) -> None:
        await self.client.aclose()
        for stack in self._stacks:
            await stack.aclose()
        for one in self.replicas:  # pytest shows it when the test has failed
            sys.stdout.write("".join(one.log))


@asynccontextmanager
async def topology(folder: Path, run_s: float) -> AsyncIterator[Stand]:
    (folder / "script.json").write_text(json.dumps(script(run_s)), "utf-8")
    port = free_port(*ADDRESSES)
    async with redis() as store_url, nginx(port) as url:
        stand = Stand(url, port, store_url, f"scripted:{folder / 'script.json'}")
        try:
            await stand.open()
            yield stand
        finally:
            await stand.close()


async def test_a_stream_comes_through_nginx_event_by_event(tmp_path: Path) -> None:
    async with topology(tmp_path, 4) as stand:
        run_id = await start(stand.client, {"input": "Tell."}, Counter())
        async with stand.client.stream("GET", f"/runs/{run_id}/events") as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")
            chunks = [(datetime.now(UTC), chunk) async for chunk in response.aiter_raw()]
    log = laws.parse(b"".join(chunk for _, chunk in chunks))
    laws.check(log)
    said = [event for event in log if event["event"].endswith("RunContent")]
    assert len(said) == 16
    for event in said:
        frame = f"id: {event['seq']}\n".encode()
        arrived = next(at for at, chunk in chunks if frame in chunk)
        late = (arrived - datetime.fromisoformat(event["created_at"])).total_seconds()
        assert late < PACE_S, event


async def test_a_run_is_cancelled_when_its_client_leaves_nginx(tmp_path: Path) -> None:
    async with topology(tmp_path, 60) as stand:
        body = {"input": "Tell.", "stream": True, "on_disconnect": "cancel"}
        async with stand.client.stream("POST", "/runs", json=body) as response:
            run_id = response.headers["X-Run-Id"]
        run = (await stand.client.get(f"/runs/{run_id}?wait=10")).json()
    assert (run["status"], run["cancel"]["by"]) == ("cancelled", "disconnect")


class Load:
    """Keeps so many runs live, each with its readers, until it is told to let them end."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._ending = False
        self.all_live = asyncio.Event()
        self.answers: Counter[int] = Counter()
        self.connections: list[int] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            for _ in range(RUNS):
                group.create_task(self._keep_a_run_live())
            await self.all_live.wait()
            yield
            self._ending = True

    async def _keep_a_run_live(self) -> None:
        while not self._ending:
            run_id = await start(self._client, {"input": "Tell."}, self.answers)
            if self.answers[202] >= RUNS:
                self.all_live.set()
            await self._read(run_id)

    async def _read(self, run_id: str) -> None:
        readers = [Reader(self._client, run_id) for _ in range(READERS)]
        async with asyncio.TaskGroup() as group:
            for reader in readers:
                group.create_task(reader.read())
        assert len({reader.frames for reader in readers}) == 1
        check(readers[0].frames)
        self.connections += [reader.connections for reader in readers]


async def test_a_rolling_restart_loses_no_run_and_leaves_no_reader_a_gap(tmp_path: Path) -> None:
    async with topology(tmp_path, RUN_S) as stand:
        load = Load(stand.client)
        with anyio.fail_after(5 * RUN_S + 60):
            async with load.running():
                for number in range(len(ADDRESSES)):
                    await stand.replace(number)
    assert set(load.answers) <= {202, 503}
    again = sum(load.connections) - len(load.connections)
    assert again, "no reader had to come again"
    FIGURES.append(
        f"rolling restart: {load.answers[202]} runs of {RUN_S:g} s, {load.answers[503]} times 503,"
        f" {len(load.connections)} readers, {again} reconnects"
    )


async def test_what_nginx_answers_when_no_replica_does() -> None:
    async with nginx(free_port(*ADDRESSES)) as url, _client(url) as client:
        events = "/runs/00000000-0000-4000-8000-000000000000/events"
        source = await client.get(events, headers={"Accept": "text/event-stream"})
        assert (source.status_code, source.text) == (200, "retry: 5000\n: busy\n")
        assert source.headers["Content-Type"].startswith("text/event-stream")
        for reader in (
            await client.get(events, headers={"Accept": "application/x-ndjson"}),
            await client.delete("/runs/00000000-0000-4000-8000-000000000000"),
        ):
            assert (reader.status_code, reader.json()["code"]) == (503, "overloaded")
            assert reader.headers["Content-Type"] == "application/problem+json"
            assert reader.headers["Retry-After"] == "1"
        posted = await client.post("/runs", json={"input": "Tell."})
        assert (posted.status_code, posted.json()["code"]) == (502, "unknown")


async def test_nginx_serves_no_foreign_name_and_no_figures_of_either_replica() -> None:
    async with nginx(free_port(*ADDRESSES)) as url, _client(url) as client:
        foreign = await client.get("/teams", headers={"Host": "rebound.example"})
        assert foreign.status_code == 403
        assert (await client.get("/metrics")).status_code == 404


async def test_a_post_that_got_no_answer_is_not_sent_again_and_a_get_is() -> None:
    asked: Counter[bytes] = Counter()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked[head.split()[0]] += 1
        writer.close()

    port = free_port(*ADDRESSES)
    async with AsyncExitStack() as stack:
        for address in ADDRESSES:
            await stack.enter_async_context(await asyncio.start_server(hang_up, address, port))
        client = _client(await stack.enter_async_context(nginx(port)))
        await stack.enter_async_context(client)
        assert (await client.post("/runs", json={"input": "Tell."})).status_code == 502
        assert (await client.get("/teams")).status_code == 503
    assert asked == {b"POST": 1, b"GET": 2}


def _client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=20, trust_env=False)
