"""More than the service takes: slow heads, long bodies, ten times the runs it has room for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Final

import anyio
import httpx
import pytest

from tests.durability.amounts import amount
from tests.exposure.test_frozen_readers import memory_of
from tests.figures import FIGURES
from tests.service import Service, service

pytestmark = pytest.mark.anyio

SLOW: Final = amount(100, 500, 500)
BODIES: Final = amount(3, 10, 20)
STOP_PAUSE_S: Final = 0.25
"""Each stop makes room for a run, and the replica is to stay full."""
BODY_BYTES: Final = 100_000_000
OVERLOAD_S: Final = amount(2, 10, 30)
ROOM: Final = 20
PAUSE_S: Final = 1.0
"""Between two requests of one client, so that it is the service that is measured."""
HEALTH: Final = ("/livez", "/readyz", "/runs?limit=1")


def milliseconds(times: list[float]) -> str:
    ordered = sorted(times)
    middle, late = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return f"{middle * 1000:.0f} ms (p99 {late * 1000:.0f})"


async def timed(client: httpx.AsyncClient, method: str, path: str, times: list[float]) -> int:
    began = time.monotonic()
    body = {"input": "x"} if method == "POST" else None
    answer = await client.request(method, path, json=body)
    times.append(time.monotonic() - began)
    return answer.status_code


async def test_slow_heads_are_ended_and_nobody_waits_for_them() -> None:
    async with service(
        MODEL="scripted:", STORE_URL="memory:", DRAIN_TIMEOUT_S="0", READ_TIMEOUT_S="3"
    ) as running:
        slow = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(SLOW)]
        for _, writer in slow:
            writer.write(b"GET /runs HTTP/1.1\r\nX: ")
        async with running.client() as client, anyio.create_task_group() as group:
            group.start_soon(drip, slow)
            times: list[float] = []
            for _ in range(20):
                assert await timed(client, "GET", "/livez", times) == 200
                assert await timed(client, "POST", "/runs", times) == 202
            with anyio.fail_after(15):
                answers = [await reader.read() for reader, _ in slow]
            group.cancel_scope.cancel()
        for _, writer in slow:
            writer.close()
    assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 408 Request Timeout"}
    FIGURES.append(f"beside {SLOW} slow connections an answer takes {milliseconds(times)}")


async def drip(slow: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    while True:
        for _, writer in slow:
            if not writer.is_closing():
                writer.write(b"X")
        await anyio.sleep(0.2)


async def send_long_body(running: Service, told: bool) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    length = f"Content-Length: {BODY_BYTES}" if told else "Transfer-Encoding: chunked"
    fields = f"Host: localhost\r\nContent-Type: application/json\r\n{length}"
    writer.write(f"POST /runs HTTP/1.1\r\n{fields}\r\n\r\n".encode())
    piece = b"x" * 1_000_000 if told else b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n"
    try:
        for _ in range(BODY_BYTES // 1_000_000):
            writer.write(piece)
            await writer.drain()
        return await reader.readuntil(b"\r\n")
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("told", [True, False], ids=["told", "in chunks"])
async def test_long_bodies_are_refused_and_take_no_memory(told: bool) -> None:
    async with service(MODEL="scripted:", STORE_URL="memory:", DRAIN_TIMEOUT_S="0") as running:
        before, began = memory_of(running), time.monotonic()
        lines: list[bytes] = []

        async def send() -> None:
            lines.append(await send_long_body(running, told))

        with anyio.fail_after(120):
            async with anyio.create_task_group() as group:
                for _ in range(BODIES):
                    group.start_soon(send)
        took, cost = time.monotonic() - began, memory_of(running) - before
        assert {line.split()[1] for line in lines} == {b"413"}
        assert cost < 64 * 1024 * 1024 + 30_000_000
        async with running.client() as client:
            assert (await client.get("/livez")).status_code == 200
    how = "told" if told else "in chunks"
    FIGURES.append(
        f"{BODIES} bodies of 100 MB, {how}: refused in {took:.1f} s, {cost / 1e6:.0f} MB more held"
    )


async def test_ten_times_the_load_is_refused_at_once_and_the_rest_is_served() -> None:
    settings = {"MAX_RUNNING_RUNS": str(ROOM // 2), "MAX_PENDING_RUNS": str(ROOM // 2)}
    async with service(
        MODEL="scripted:", STORE_URL="memory:", DRAIN_TIMEOUT_S="0", **settings
    ) as running:
        async with running.client() as client:
            seen: Counter[int] = Counter()
            refusals: list[float] = []
            others: list[float] = []
            until = time.monotonic() + OVERLOAD_S

            async def flood(number: int) -> None:
                await anyio.sleep(PAUSE_S * number / (10 * ROOM))
                while time.monotonic() < until:
                    times: list[float] = []
                    status = await timed(client, "POST", "/runs", times)
                    seen[status] += 1
                    if status == 503:
                        refusals.extend(times)
                    await anyio.sleep(PAUSE_S)

            async with anyio.create_task_group() as group:
                for number in range(10 * ROOM):
                    group.start_soon(flood, number)
                while time.monotonic() < until:
                    for path in HEALTH:
                        assert await timed(client, "GET", path, others) == 200
                    (run,) = (await client.get("/runs?limit=1")).json()["runs"] or [None]
                    if run is not None:
                        stopped = await timed(client, "DELETE", f"/runs/{run['run_id']}", others)
                        assert stopped in (200, 202, 409)
                    await anyio.sleep(STOP_PAUSE_S)
        assert set(seen) <= {202, 503}
        assert seen[503] > seen[202]
    FIGURES.append(
        f"overload for {OVERLOAD_S} s: {seen[202]} runs taken, {seen[503]} refused in"
        f" {milliseconds(refusals)} (100 ms); GET, DELETE, health in {milliseconds(others)}"
    )
