"""Clients read a whole run through broken connections and a long silence.

Three connections of each client end in the middle of the run: by a reset right behind an event's
id, so that a client which takes an id before its event would lose one; by a clean end in the
silence; and by a close in the middle of an event's data. The silence is 2 s with a heartbeat of
0.2 s; 20 s with one of 2 s by

    SILENCE_S=20 pytest tests/clients
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path

import anyio
import pytest

from tests import laws
from tests.cancellation.bench import Bench, bench
from tests.clients.proxy import Cut, How, Proxy, proxy
from tests.upstream import CallTool, Hold, Say, in_turn

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SILENCE_S = float(os.environ.get("SILENCE_S", "2"))
PINGS = 10
HEARTBEAT_S = SILENCE_S / PINGS
PING = b"7\r\n: ping\n\r\n"  # as a chunk
RECONNECTING_S = 40

HTTPX_SSE = (
    "import sys\n"
    "from tests.clients.follow import follow\n"
    "for event in follow(sys.argv[1]): print(event.data)"
)
CURL = ["bash", str(HERE / "follow.sh")]
HTTPX = [sys.executable, "-c", HTTPX_SSE]
NPM = [
    ["node", str(HERE / "run.mjs"), name]
    for name in ("eventsource", "eventsource_client", "fetch_event_source")
]
TROUBLE = [
    Cut(How.RESET, b"\nid: 5\n"),
    Cut(How.WELL, PING),
    Cut(How.CLOSE, b"\nid: 14\n", further=100),
]
CURSORS = [b"4", b"12", b"13", b"16"]
"""Where each connection but the first is to begin: events 5 and 14 were cut off; 16 is the last."""

DELEGATES = [CallTool("delegate_task_to_member", '{"member_id":"storyteller","task":"Write."}')]
WRITES = [Say("Once\n\n", "id: 99\n", "\U0001f600\r", "\u2028data: there was\0")]
BEGINS = [Say(*"abc")]
GOES_ON = [Say(*"def")]


async def test_curl_and_httpx_sse_miss_nothing() -> None:
    await read_through_trouble([CURL, HTTPX])


@pytest.mark.system
async def test_the_clients_from_npm_miss_nothing() -> None:
    await read_through_trouble(NPM)


async def read_through_trouble(clients: Sequence[Sequence[str]]) -> None:
    """Have all clients read one run, each on a way of its own, and hold them against its log."""
    hold = Hold()
    async with AsyncExitStack() as stack:
        stand = await stack.enter_async_context(bench(HEARTBEAT_S=str(HEARTBEAT_S)))
        stand.upstream.script = in_turn(DELEGATES, WRITES, [*BEGINS, hold, *GOES_ON])
        run_id = await stand.start()
        ways = [
            await stack.enter_async_context(proxy(stand.running.port, TROUBLE)) for _ in clients
        ]
        readers = [
            await stack.enter_async_context(
                running(*client, f"http://127.0.0.1:{way.port}/runs/{run_id}/events")
            )
            for client, way in zip(clients, ways, strict=True)
        ]
        with anyio.fail_after(SILENCE_S + RECONNECTING_S):
            for way in ways:
                await way.passed(PING * PINGS)
            hold.release()
            told = [await reader.communicate() for reader in readers]
        log = await lines_of(stand, run_id)
    for client, way, reader, (out, err) in zip(clients, ways, readers, told, strict=True):
        assert (reader.returncode, err) == (0, b""), client
        assert out == log, client
        check_way(way, client)


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def lines_of(stand: Bench, run_id: str) -> bytes:
    """Return the data of the run's events, one a line; the silence must have been one."""
    url = f"/runs/{run_id}/events"
    log = laws.parse((await stand.client.get(url)).content)
    laws.check(log)
    before, after = (datetime.fromisoformat(event["created_at"]) for event in log[11:13])
    assert (after - before).total_seconds() > 0.9 * SILENCE_S
    return (await stand.client.get(url, headers={"Accept": "application/x-ndjson"})).content


def check_way(way: Proxy, client: Sequence[str]) -> None:
    """The trouble was had, and the client heard that there is no more."""
    assert way.cursors == CURSORS, client
    assert way.answered.count(b"HTTP/1.1 204 ") == 1, client
