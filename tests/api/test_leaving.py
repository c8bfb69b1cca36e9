"""Clients that leave, and what becomes of their runs and of everybody else."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable

import anyio
import pytest
from sse_starlette.sse import EventSourceResponse
from starlette.types import Message

from app.api.readers import Readers
from app.api.streams import FORMATS, EventStream, Reading
from app.domain.events import Event, Origin, RunContent, RunStarted, encode
from app.domain.run import Run, RunRequest
from app.models.scripted import Pause, Say, Step
from app.ports import Page
from app.stores.memory import MemoryStore
from tests.api.serving import JSON, Connection, Served, services_for, serving
from tests.api.test_runs import stuck
from tests.figures import FIGURES
from tests.runtime.playing import Cast, saying

pytestmark = pytest.mark.anyio

NO_RUN = "/runs/00000000-0000-4000-8000-000000000000"


HEADERS = [f"{name}: {value}" for name, value in JSON.items()]
ORDER = json.dumps({"input": "x", "on_disconnect": "cancel", "stream": True}).encode()
AHEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"

Leaving = Callable[[Connection], None]
WAYS = [Connection.leave, Connection.reset, Connection.half_close]


def assert_stopped_by_leaving(run: Run) -> None:
    assert run.status == "cancelled"
    assert run.cancel is not None
    assert (run.cancel.reason, run.cancel.by) == ("client disconnected", "disconnect")


async def stopped_by_leaving(served: Served, leave: Leaving, ahead: bytes = b"") -> None:
    async with served.open("/runs", *HEADERS, method="POST", body=ORDER) as connection:
        connection.writer.write(ahead)
        head = await connection.until(b"\r\n\r\n")
        (found,) = re.findall(rb"x-run-id: (\S+)", head)
        await connection.until(b"TeamRunContent")
        leave(connection)
        run = await served.ended(found.decode())
    assert_stopped_by_leaving(run)


async def nobody_reads(served: Served) -> None:
    with anyio.fail_after(5):
        while served.services.readers.count:
            await served.client.get("/livez")


@pytest.mark.parametrize("leave", WAYS)
async def test_a_run_ends_with_its_client_where_that_was_asked_for(leave: Leaving) -> None:
    async with serving(stuck()) as served:
        await stopped_by_leaving(served, leave)
        await nobody_reads(served)


def endless(_: object) -> Iterable[Step]:
    while True:
        yield Say("x" * 10_000)
        yield Pause(0.001)  # or the loop would have no time for anything else


@pytest.mark.parametrize("make_cast", [stuck, lambda: Cast(endless)], ids=["silent", "talking"])
@pytest.mark.parametrize("leave", [Connection.leave, Connection.reset])
async def test_a_request_sent_ahead_does_not_hide_that_the_client_leaves(
    make_cast: Callable[[], Cast], leave: Leaving, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(make_cast()) as served:
        await stopped_by_leaving(served, leave, AHEAD)
        await nobody_reads(served)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


class SlowStore(MemoryStore):
    """Takes its time to store a new run."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked = anyio.Event()
        self.may_answer = anyio.Event()

    async def create(self, request: RunRequest) -> Run:
        """Store a run when it is time."""
        self.is_asked.set()
        await self.may_answer.wait()
        return await super().create(request)


async def test_a_client_that_leaves_before_the_answer_begins_has_left() -> None:
    store = SlowStore()
    async with serving(services=services_for(stuck(), store=store)) as served:
        connections = served.server.server_state.connections
        async with served.open("/runs", *HEADERS, method="POST", body=ORDER):
            with anyio.fail_after(5):
                await store.is_asked.wait()
        with anyio.fail_after(5):
            while connections:
                await anyio.lowlevel.checkpoint()
        store.may_answer.set()
        with anyio.fail_after(5):
            while not (runs := (await served.client.get("/runs")).json()["runs"]):
                pass
        assert_stopped_by_leaving(await served.ended(runs[0]["run_id"]))


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("the handler is closed")])
@pytest.mark.parametrize("after", [0, 1, 2])
async def test_a_send_that_fails_means_that_the_client_has_left(
    error: Exception, after: int, caplog: pytest.LogCaptureFixture
) -> None:
    store, run_id = MemoryStore(), NO_RUN.removeprefix("/runs/")
    await long_log(store, run_id, 3)
    services = services_for(Cast(saying("x")), store=store)
    sent: list[Message] = []
    left = anyio.Event()

    async def send(message: Message) -> None:
        if len(sent) == after:
            raise error
        sent.append(message)

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def on_leave() -> None:
        left.set()

    reading = Reading(run_id, 0, FORMATS["text/event-stream"])
    stream = EventStream(services, reading, on_leave=on_leave)
    with anyio.fail_after(5):
        await stream({"type": "http", "method": "POST"}, receive, send)
    assert left.is_set()
    assert services.readers.count == 0
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_what_is_replaced_in_sse_starlette_is_still_there_and_in_use() -> None:
    name = "_send_with_timeout"
    assert name in vars(EventSourceResponse)
    assert name in vars(EventSourceResponse)["_stream_response"].__code__.co_names


async def test_a_client_that_takes_nothing_any_more_has_left() -> None:
    services = services_for(Cast(endless), readers=Readers(send_timeout_s=0.2))
    async with serving(services=services) as served:
        await stopped_by_leaving(served, Connection.stop_reading)


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
        await nobody_reads(served)
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
        FIGURES.append(f"slowest other request during replays: {slowest * 1000:.1f} ms (100 ms)")
        assert slowest < 0.5, "another request waited for a replay"
        await nobody_reads(served)


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
        await nobody_reads(served)
    assert store.pages < 2000
