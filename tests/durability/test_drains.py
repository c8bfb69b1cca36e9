"""SIGTERM under load: the runs get their time, the readers their last event, the process goes."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    closing,
    contextmanager,
)
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest

from tests.cancellation.bench import reading
from tests.cancellation.cases import slow_words
from tests.durability.amounts import amount
from tests.durability.load import driving
from tests.durability.mix import Mix
from tests.durability.server import tcp_valkey
from tests.durability.stand import SEED, Replica, Stand, stand
from tests.durability.verdict import ended_once, nothing_is_lost
from tests.figures import FIGURES
from tests.service import Watcher
from tests.stores.scene import locked
from tests.upstream import Hold, Json, Open, Plan, Say

pytestmark = pytest.mark.anyio

DRAINS = amount(1, 2, 20)
DRAIN_S = 2.0
LEASE_TTL_S = 2.0
CLOSING_S = 5.0
SLACK_S = 5.0
"""What a busy machine may add: as long again."""
AT_ONCE_S = 1.0


def loud() -> Plan:
    """A megabyte, which is more than the buffers on the way to a reader hold."""
    return [Say(*("x" * 16_000 for _ in range(60)), every_s=0.01), Hold()]


Fault = Callable[[], AbstractContextManager[None]]
OnStore = Callable[[Path], AbstractContextManager[tuple[str, Fault]]]


class Play:
    """What runs do that are told to by their input; all others are a mix."""

    def __init__(self) -> None:
        self.ending = Hold()
        self._mix = Mix(SEED)

    def script(self, body: Json, number: int) -> Plan:
        said = json.dumps(body["input"])
        plans: dict[str, Plan] = {
            "ends in time": [Say("Once"), self.ending, Say(" upon a time.")],
            "speaks": slow_words(0.02),
            "is silent": [Open(), Hold()],
            "is stopped": [Open(), Hold()],
            "is loud": loud(),
        }
        for told, plan in plans.items():
            if told in said:
                return plan
        return self._mix.script(body, number)


ENDS = {
    "ends in time": "completed",
    "speaks": "interrupted",
    "is silent": "interrupted",
    "is stopped": "cancelled",
    "is loud": "interrupted",
}


@contextmanager
def on_sqlite(folder: Path) -> Iterator[tuple[str, Fault]]:
    """Yield the URL of a file, and what has another program lock it."""
    path = folder / "runs.db"
    yield f"sqlite:{path}", partial(locked, path)


@contextmanager
def on_redis(_: Path) -> Iterator[tuple[str, Fault]]:
    """Yield the URL of a server, and what freezes it."""
    with tcp_valkey() as server:
        yield server.url, server.frozen


@pytest.mark.parametrize("on_store", [on_sqlite, on_redis][: amount(1, 2, 2)])
async def test_a_drain_loses_nothing_and_nobody(on_store: OnStore, tmp_path: Path) -> None:
    with on_store(tmp_path) as (url, _):
        figures = await drain_often(url)
    FIGURES.append(f"SIGTERM under load, {url.partition(':')[0]}, {DRAINS} times: {figures}")


async def drain_often(url: str) -> str:
    told: list[float] = []
    gone: list[float] = []
    drain_s, ttl_s = str(DRAIN_S), str(LEASE_TTL_S)
    async with (
        stand(url, DRAIN_TIMEOUT_S=drain_s, LEASE_TTL_S=ttl_s) as made,
        driving(made) as load,
    ):
        (replica,) = made.replicas
        for _ in range(DRAINS):
            await load.started(made.chance.randrange(1, 15))
            took = await drain_once(made, replica)
            told.append(took[0])
            gone.append(took[1])
            await replica.start()
        load.stop()
        await replica.kill()
        await replica.start()
        ended = await nothing_is_lost(made, load)
    return (
        f"readyz says so after at most {max(told):.2f} s, gone after at most {max(gone):.2f} s"
        f" (drain time {DRAIN_S:g} s); {dict(ended)}; asked: {dict(sorted(load.seen.items()))}"
    )


async def drain_once(made: Stand, replica: Replica) -> tuple[float, float]:
    """Let a replica drain with all kinds of runs and readers; return when it said so, and went."""
    play = Play()
    made.upstream.script = play.script
    async with AsyncExitStack() as stack:
        runs = {kind: await made.start(replica.url, input=f"One that {kind}.") for kind in ENDS}
        client = await stack.enter_async_context(replica.running.client())
        watchers = {
            kind: await stack.enter_async_context(reading(client, run_id))
            for kind, run_id in runs.items()
        }
        for watcher in watchers.values():
            await watcher.until("TeamRunStarted")
        await stack.enter_async_context(stuck_at(replica, runs["is loud"], watchers["is loud"]))
        begin = anyio.current_time()
        replica.running.stop()
        told = await says_so(made, replica)
        await goes_on_serving(made, replica, runs)
        play.ending.release()
        assert await replica.gone() == 0
        gone = anyio.current_time() - begin
        for watcher in watchers.values():
            await watcher.over()
    assert {kind: end_of(watcher) for kind, watcher in watchers.items()} == ENDS
    assert gone < DRAIN_S + CLOSING_S + SLACK_S
    return told, gone


def end_of(watcher: Watcher) -> str:
    """How a run ended, as its reader was told."""
    final = watcher.events[-1]
    ends = {"TeamRunCompleted": "completed", "TeamRunCancelled": "cancelled"}
    return ends.get(final["event"]) or str(final["error"]["code"])


@asynccontextmanager
async def stuck_at(replica: Replica, run_id: str, watcher: Watcher) -> AsyncIterator[None]:
    """Hold a connection open that reads nothing of a megabyte."""
    with closing(socket.socket()) as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", replica.running.port))
        stuck.sendall(f"GET /runs/{run_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await watcher.until("event: TeamRunContent", times=60)
        yield


async def says_so(made: Stand, replica: Replica) -> float:
    """Return how long it took until the replica said that it drains, with how many runs left."""
    begin = anyio.current_time()
    with anyio.fail_after(5 * AT_ONCE_S):
        ready = await made.client.get(f"{replica.url}/readyz")
        while ready.status_code == 200:
            ready = await made.client.get(f"{replica.url}/readyz")
    assert ready.status_code == 503
    left = ready.text.partition("runs: draining, ")[2].removesuffix(" left\n")
    assert int(left) >= len(ENDS), ready.text
    return anyio.current_time() - begin


async def goes_on_serving(made: Stand, replica: Replica, runs: dict[str, str]) -> None:
    """Start no run, but read one, hear of its events, and stop one."""
    refused = await made.client.post(f"{replica.url}/runs", json={"input": "Go."})
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert int(refused.headers["Retry-After"]) > 0
    run = await made.client.get(f"{replica.url}/runs/{runs['is silent']}")
    assert run.json()["status"] == "running"
    async with made.client.stream("GET", f"{replica.url}/runs/{runs['speaks']}/events") as late:
        assert b"TeamRunStarted" in await anext(aiter_frames(late))
    stopped = await made.client.delete(
        f"{replica.url}/runs/{runs['is stopped']}", params={"wait": 1}
    )
    assert stopped.json()["status"] == "cancelled"


async def aiter_frames(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield what comes, from the first frame on."""
    assert response.status_code == 200
    async for chunk in response.aiter_raw():
        if b"event: " in chunk:
            yield chunk


async def test_a_second_signal_hurries_the_drain(tmp_path: Path) -> None:
    async with stand(f"sqlite:{tmp_path}/runs.db", DRAIN_TIMEOUT_S="60") as made:
        (replica,) = made.replicas
        made.upstream.script = Play().script
        run_ids = [await made.start(replica.url, input="One that is silent.") for _ in ENDS]
        async with replica.running.client() as client, reading(client, run_ids[0]) as watcher:
            await watcher.until("TeamRunStarted")
            replica.running.stop()
            await says_so(made, replica)
            begin = anyio.current_time()
            replica.running.stop()
            assert await replica.gone() == 0
            assert anyio.current_time() - begin < CLOSING_S + SLACK_S
            await watcher.over()
        assert end_of(watcher) == "interrupted"


@pytest.mark.parametrize("on_store", [on_redis, on_sqlite][: amount(1, 2, 2)])
async def test_a_drain_whose_store_is_away_is_over_in_time(
    on_store: OnStore, tmp_path: Path
) -> None:
    with on_store(tmp_path) as (url, fault):
        async with stand(url) as made:
            made.upstream.script = Play().script
            (replica,) = made.replicas
            runs = {kind: await made.start(replica.url, input=f"One that {kind}.") for kind in ENDS}
            await made.upstream.arrived(len(runs))
            with fault():
                begin = anyio.current_time()
                replica.running.stop()
                assert await replica.gone() == 0
                gone = anyio.current_time() - begin
            await replica.start()
            for run_id in runs.values():
                assert (await ended_once(made, run_id))["error"]["code"] == "interrupted"
        assert made.upstream.busy == []
    FIGURES.append(f"SIGTERM while {url.partition(':')[0]} is away: gone after {gone:.2f} s")
    assert gone < CLOSING_S + SLACK_S
