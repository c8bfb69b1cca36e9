"""What comes ahead of a body: how long it may be, and how long it may take."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import anyio
import pytest

from app.api.access import MAX_HEAD_BYTES
from app.api.services import ApiLimits
from app.models.scripted import Say, Until
from tests.api.serving import Connection, Served, services_for, serving
from tests.runtime.playing import Cast

pytestmark = pytest.mark.anyio

TARGET = "/livez"
EXTRA = 4
"""The bytes of a field besides name and value."""


def problem_in(answer: bytes) -> tuple[str, dict[str, Any]]:
    """Return the status line and the problem of an answer that is all there is."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert b"application/problem+json" in head
    return head.partition(b"\r\n")[0].decode(), json.loads(body)


def padding(served: Served, length: int) -> str:
    """Return a header that makes head and target so many bytes long."""
    host = len("host") + len(f"localhost:{served.port}") + EXTRA
    return "X: " + "x" * (length - len(TARGET) - host - len("x") - EXTRA)


async def test_a_head_may_be_so_long_and_no_longer() -> None:
    async with serving() as served:
        async with served.open(TARGET, padding(served, MAX_HEAD_BYTES)) as connection:
            assert (await connection.until(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
        async with served.open(TARGET, padding(served, MAX_HEAD_BYTES + 1)) as connection:
            line, problem = problem_in(await connection.rest())
    assert line.startswith("HTTP/1.1 431 ")
    assert (problem["code"], problem["status"]) == ("headers_too_large", 431)


@pytest.mark.parametrize("what", ["target", "query", "one header", "many headers", "a key"])
async def test_a_hundred_times_as_much_is_refused_before_it_is_all_there(what: str) -> None:
    long = "x" * (100 * MAX_HEAD_BYTES)
    heads = {
        "target": f"GET /{long}",
        "query": f"GET /runs?{long}",
        "one header": f"GET /livez HTTP/1.1\r\nX: {long}",
        "many headers": "GET /livez HTTP/1.1\r\n" + "X: x\r\n" * MAX_HEAD_BYTES,
        "a key": f"GET /runs HTTP/1.1\r\nAuthorization: Bearer {long}",
    }
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(heads[what].encode())  # it has no end
        line, problem = problem_in(await Connection(reader, writer).rest())
        writer.close()
        assert line.startswith("HTTP/1.1 431 ")
        assert problem["code"] == "headers_too_large"
        assert (await served.client.get("/livez")).status_code == 200


async def opened(served: Served, start: bytes) -> Connection:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(start)
    return Connection(reader, writer)


def impatient(read_timeout_s: float = 0.1) -> Any:
    limits = ApiLimits(read_timeout_s=read_timeout_s)
    return serving(services=services_for(Cast(lambda _: [Say("x")]), limits=limits))


@pytest.mark.parametrize(
    "start",
    [b"G", b"GET /livez HTTP/1.1\r\nHost: localhost", b"GET /livez HTTP/1.1\r\nHost: x\r\n"],
)
async def test_a_head_that_does_not_end_in_time_is_refused(start: bytes) -> None:
    async with impatient() as served:
        connection = await opened(served, start)
        line, problem = problem_in(await connection.rest())
        connection.leave()
    assert line.startswith("HTTP/1.1 408 ")
    assert problem["code"] == "request_timeout"


async def test_a_byte_now_and_then_wins_no_time() -> None:
    async with impatient(0.3) as served:
        connection = await opened(served, b"GET /livez HTTP/1.1\r\n")
        began = time.monotonic()

        async def drip() -> None:
            while True:
                connection.writer.write(b"X: x\r\n")
                await asyncio.sleep(0.01)

        async with anyio.create_task_group() as group:
            group.start_soon(drip)
            answer = await connection.rest()
            group.cancel_scope.cancel()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 5
        connection.leave()


@pytest.mark.parametrize("start", [b"", b"\r\n\r\n"])
async def test_a_connection_on_which_nothing_begins_is_closed(start: bytes) -> None:
    async with impatient() as served:
        connection = await opened(served, start)
        answer = await connection.rest()
        connection.leave()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")


async def test_the_second_request_of_a_connection_has_to_arrive_in_time_too() -> None:
    async with impatient() as served:
        whole = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection = await opened(served, whole)
        await connection.until(b"alive\n")
        connection.writer.write(whole[:10])
        assert (await connection.rest()).startswith(b"HTTP/1.1 408 ")
        connection.leave()


async def test_a_body_that_nobody_waits_for_has_to_arrive_in_time_too() -> None:
    async with impatient() as served:
        start = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nx"
        connection = await opened(served, start)
        assert b"alive\n" in await connection.rest()
        connection.leave()


async def test_a_stream_is_not_cut_by_what_its_client_sends_behind_the_request() -> None:
    end = anyio.Event()
    services = services_for(
        Cast(lambda _: [Say("Once "), Until(end), Say("upon.")]),
        limits=ApiLimits(read_timeout_s=0.05),
    )
    async with serving(services=services) as served:
        run_id = await served.start()
        async with served.open(f"/runs/{run_id}/events") as connection:
            await connection.until(b"Once ")
            connection.writer.write(b"GET /livez HT")
            waiting = await opened(served, b"GET /livez HT")
            await waiting.rest()  # the other one's time is over
            waiting.leave()
            end.set()
            await connection.until(b"TeamRunCompleted")


async def test_five_hundred_slow_connections_keep_nobody_from_being_served() -> None:
    async with impatient(2) as served:
        slow = [await opened(served, b"GET /runs HTTP/1.1\r\nX: ") for _ in range(500)]
        began = time.monotonic()
        assert (await served.client.get("/livez")).status_code == 200
        assert (await served.finish())["status"] == "completed"
        assert time.monotonic() - began < 1
        with anyio.fail_after(10):
            answers = [await connection.rest() for connection in slow]
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
        for connection in slow:
            connection.leave()


@pytest.mark.parametrize("how", ["told", "in chunks"])
async def test_an_answer_is_read_by_a_client_that_still_sends_though_the_connection_closes(
    how: str,
) -> None:
    fields = "Connection: close", "Content-Type: application/json"
    length = "Content-Length: 100000000" if how == "told" else "Transfer-Encoding: chunked"
    piece = b"x" * 65_536
    async with serving() as served, served.open("/runs", *fields, length, method="POST") as sending:
        with anyio.fail_after(10):
            for _ in range(200):  # more than the limit, and than any buffer holds
                sending.writer.write(piece if how == "told" else b"10000\r\n%b\r\n" % piece)
                await sending.writer.drain()
        line, problem = problem_in(await sending.rest())
    assert line.startswith("HTTP/1.1 413 ")
    assert problem["code"] == "body_too_large"
