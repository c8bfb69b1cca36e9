"""Clients that leave, and what becomes of their runs and of everybody else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import anyio
import pytest

from app.api.services import ApiLimits
from app.domain.events import Event, Origin, RunContent, RunStarted, encode
from app.domain.run import RunRequest
from app.models.scripted import Say, Step
from app.ports import Page
from app.stores.memory import MemoryStore
from tests.api.serving import JSON, Served, services_for, serving
from tests.api.test_runs import stuck
from tests.runtime.playing import Cast, saying

pytestmark = pytest.mark.anyio

NO_RUN = "/runs/00000000-0000-4000-8000-000000000000"


async def stopped_by_leaving(served: Served, how: str) -> None:
    body = json.dumps({"input": "x", "on_disconnect": "cancel", "stream": True}).encode()
    headers = [f"{name}: {value}" for name, value in JSON.items()]
    async with served.open("/runs", *headers, method="POST", body=body) as connection:
        head = await connection.until(b"\r\n\r\n")
        (found,) = re.findall(rb"x-run-id: (\S+)", head)
        run_id = found.decode()
        await connection.until(b"TeamRunContent")
        getattr(connection, how)()
        run = await served.ended(run_id)
    assert run.status == "cancelled"
    assert run.cancel is not None
    assert (run.cancel.reason, run.cancel.by) == ("client disconnected", "disconnect")


@pytest.mark.parametrize("how", ["leave", "reset"])
async def test_a_run_ends_with_its_client_where_that_was_asked_for(how: str) -> None:
    async with serving(stuck()) as served:
        await stopped_by_leaving(served, how)
        assert served.services.readers.count == 0


async def test_a_client_that_takes_nothing_any_more_has_left() -> None:
    def endless(_: object) -> Iterable[Step]:
        while True:
            yield Say("x" * 10_000)

    limits = ApiLimits(send_timeout_s=0.2)
    async with serving(services=services_for(Cast(endless), limits=limits)) as served:
        await stopped_by_leaving(served, "stop_reading")


async def test_a_readers_leaving_does_not_end_a_run() -> None:
    held = anyio.Event()
    async with serving(stuck(held)) as served:
        body = b'{"input": "x", "stream": true}'
        headers = ("Content-Type: application/json",)
        async with served.open("/runs", *headers, method="POST", body=body) as connection:
            await connection.until(b"TeamRunContent")
            (listed,) = (await served.client.get("/runs")).json()["runs"]
            async with served.open(listed["links"]["events"]) as other:
                await other.until(b"TeamRunContent")
        with anyio.fail_after(10):
            while served.services.readers.count:
                await served.client.get("/livez")
        held.set()
        assert (await served.ended(listed["run_id"])).status == "completed"


# --- a long log -----------------------------------------------------------------------------------


async def long_log(store: MemoryStore, run_id: str, events: int) -> None:
    """Store a run with many small events and no end."""
    time = "2026-11-22T09:57:12.123Z"
    run = await store.create(RunRequest(run_id, "team", "Team", "x", time, 900))

    def said(seq: int) -> Event:
        return RunStarted("scripted:", "coordinate") if seq == 1 else RunContent("word ", 1)

    origin: Origin = run.origin
    store.append(run_id, [encode(seq, time, origin, said(seq)) for seq in range(1, events + 1)])


async def read_some(served: Served, wanted: int) -> None:
    async with served.open(f"{NO_RUN}/events") as connection:
        while wanted > 0:
            wanted -= len(await connection.reader.read(65_536))


async def test_a_reader_that_leaves_in_mid_replay_costs_nobody_else_anything() -> None:
    store, run_id = MemoryStore(), NO_RUN.removeprefix("/runs/")
    await long_log(store, run_id, 200_000)
    async with serving(services=services_for(Cast(saying("x")), store=store)) as served:
        slowest = 0.0
        for leave_after in (1, 1_000_000, 20_000_000):
            async with anyio.create_task_group() as group:
                group.start_soon(read_some, served, leave_after)
                for _ in range(20):
                    began = anyio.current_time()
                    assert (await served.client.get("/livez")).status_code == 200
                    slowest = max(slowest, anyio.current_time() - began)
        assert slowest < 0.5, "another request waited for a replay"
        with anyio.fail_after(5):
            while served.services.readers.count:
                await served.client.get("/livez")


class BottomlessStore(MemoryStore):
    """Has more and more to read, from memory, without ever a reason to wait."""

    pages = 0

    async def read(self, run_id: str, after: int, limit_bytes: int) -> Page:
        """Return a page, 20,000 times at most."""
        self.pages += 1
        frame = b"id: 1\nevent: TeamRunContent\ndata: {}\n\n"
        return Page(frame * 800, after + 800, is_end=self.pages == 20_000)


async def test_a_replay_ends_with_its_reader() -> None:
    store = BottomlessStore()
    await long_log(store, NO_RUN.removeprefix("/runs/"), 1)
    async with serving(services=services_for(Cast(saying("x")), store=store)) as served:
        await read_some(served, 1_000_000)
        with anyio.fail_after(5):
            while served.services.readers.count:
                await served.client.get("/livez")
    assert store.pages < 2000
