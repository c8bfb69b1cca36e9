"""How the server starts and ends: in this process, and as a real one that gets signals."""

from __future__ import annotations

import json
import logging
import signal
from typing import Any

import anyio
import pytest

from app.api.uploads import Uploads
from app.domain.errors import Draining
from app.stores.memory import MemoryStore
from tests import laws
from tests.api.serving import Connection, services_for, serving
from tests.api.test_leaving import NO_RUN, long_log
from tests.api.test_problems import assert_problem
from tests.api.test_runs import stuck
from tests.runtime.playing import Cast, saying
from tests.service import service

pytestmark = pytest.mark.anyio

LAST_CHUNK = b"\r\n0\r\n\r\n"
JSON_TYPE = "Content-Type: application/json"


async def last_event(connection: Connection) -> Any:
    """Read to the end of a stream, which must be a clean one; return its last event."""
    rest = await connection.rest()
    assert rest.endswith(b"\n\n" + LAST_CHUNK)
    return json.loads(rest.rpartition(b"\ndata: ")[2].partition(b"\n\n")[0])


# --- the end --------------------------------------------------------------------------------------


async def test_a_run_may_end_before_the_server_does() -> None:
    held = anyio.Event()
    async with serving(stuck(held), drain_timeout_s=10) as served:
        run_id = await served.start()
        async with served.open(f"/runs/{run_id}/events") as connection:
            await connection.until(b"TeamRunContent")
            served.server.should_exit = True
            with anyio.fail_after(5):
                while (await served.client.get("/readyz")).status_code == 200:
                    pass
            assert_problem(await served.client.post("/runs", json={"input": "x"}), 503, "draining")
            assert (await served.client.get(f"/runs/{run_id}")).json()["status"] == "running"
            held.set()
            last = await last_event(connection)
    assert last["event"] == "TeamRunCompleted"


async def test_a_run_can_be_stopped_while_the_server_drains() -> None:
    async with serving(stuck(), drain_timeout_s=10) as served:
        run_id = await served.start()
        async with served.open(f"/runs/{run_id}/events") as connection:
            await connection.until(b"TeamRunContent")
            served.server.should_exit = True
            answer = await served.client.delete(f"/runs/{run_id}?wait=10")
            assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
            assert (await last_event(connection))["event"] == "TeamRunCancelled"


async def test_a_run_that_outlasts_the_grace_is_interrupted_and_its_readers_are_told() -> None:
    async with serving(stuck()) as served:
        headers = (JSON_TYPE, "Accept: text/event-stream")
        body = b'{"input": "x", "on_disconnect": "cancel"}'
        async with served.open("/runs", *headers, method="POST", body=body) as connection:
            await connection.until(b"TeamRunContent")
            served.server.should_exit = True
            last = await last_event(connection)
        run = await served.run(last["run_id"])
    assert (last["event"], last["error"]["code"]) == ("TeamRunError", "interrupted")
    assert (run.status, run.cancel) == ("error", None)  # the client had not left


async def test_streams_of_runs_that_go_on_elsewhere_end_cleanly_and_without_a_final_event() -> None:
    store = MemoryStore()
    await long_log(store, NO_RUN.removeprefix("/runs/"), 3)
    services = services_for(Cast(saying("x")), store=store)
    async with (
        serving(services=services) as served,
        served.open(f"{NO_RUN}/events") as connection,
        served.open(f"{NO_RUN}?wait=50") as waiting,
    ):
        await connection.until(b"id: 3\n")
        with anyio.fail_after(5):
            while services.readers.count < 2:
                await served.client.get("/livez")
        served.server.should_exit = True
        assert (await connection.rest()).endswith(LAST_CHUNK)
        assert b'"status":"running"' in await waiting.rest()


async def test_a_stopped_process_interrupts_its_runs_at_the_second_signal_and_ends_with_0() -> None:
    settings = {"MODEL": "scripted:", "DRAIN_TIMEOUT_S": "60"}
    async with service(**settings) as running, running.client() as client:
        posted = await client.post("/runs", json={"input": "x"})
        path = posted.json()["links"]["events"]
        async with client.stream("GET", path) as answer:
            chunks = answer.aiter_bytes()
            stream = await anext(chunks)
            running.stop()
            while (await client.get("/readyz")).status_code == 200:
                pass
            running.stop()
            async for chunk in chunks:
                stream += chunk
        assert await running.ended() == 0
    events = laws.parse(stream)
    laws.check(events)
    assert events[-1]["error"]["code"] == "interrupted"


async def test_two_signals_at_once_are_two() -> None:
    settings = {"MODEL": "scripted:", "DRAIN_TIMEOUT_S": "60"}
    async with service(**settings) as running, running.client() as client:
        posted = await client.post("/runs", json={"input": "x"})
        async with client.stream("GET", posted.json()["links"]["events"]) as answer:
            chunks = answer.aiter_bytes()
            stream = await anext(chunks)
            running.stop(signal.SIGINT)
            running.stop(signal.SIGTERM)
            async for chunk in chunks:
                stream += chunk
        with anyio.fail_after(10):
            assert await running.ended() == 0
    assert laws.parse(stream)[-1]["error"]["code"] == "interrupted"


async def test_half_a_body_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        headers = (JSON_TYPE, "Content-Length: 100", "Expect: 100-continue")
        async with served.open("/runs", *headers, method="POST") as connection:
            connection.writer.write(b"{")
            await connection.until(b"100 Continue\r\n\r\n")
            served.server.should_exit = True
            with anyio.fail_after(3):  # uvicorn would cancel it after 5 s
                answer = await connection.rest()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"draining"' in answer
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_body_that_comes_when_the_server_closes_is_not_waited_for() -> None:
    uploads = Uploads()
    uploads.close()
    with pytest.raises(Draining), uploads.join():
        await anyio.sleep_forever()
