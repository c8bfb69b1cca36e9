"""How soon a model's stream is closed after a DELETE was sent, under load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from tests.benchmarks.bench import Bench
from tests.benchmarks.client import Reader, Tally, ask, percentile, read, request
from tests.benchmarks.measures import marked
from tests.benchmarks.servers import Server, Target, serving
from tests.benchmarks.upstream import Plan, Upstream, stamp

_PAUSE_S = 0.02
_STOPPED = 100
_AT_MOST_S = 20.0

Running = dict[int, Reader]
"""Readers by the marks of their runs."""

Requests = Callable[[Running], Iterable[bytes]]


async def under_load(bench: Bench, target: Target, runs: int) -> None:
    """Stop runs one by one, while the others talk; `runs` are there halfway."""
    middle: list[float] = []
    slowest: list[float] = []
    for _ in range(bench.rounds):
        async with serving(target, bench.upstream.port) as server:
            running = await _start(server, bench.upstream, runs + _STOPPED // 2)
            sent: dict[int, int] = {}
            for mark in list(running)[:_STOPPED]:
                sent[mark] = stamp()
                await ask(server.port, _delete(server.target, running[mark]))
                await asyncio.sleep(_PAUSE_S)
            waits_ms = await _waits_ms(bench.upstream, sent)
            middle.append(percentile(waits_ms, 0.5))
            slowest.append(percentile(waits_ms, 0.99))
            bench.upstream.release()
    name = f"DELETE to upstream closed, {runs} running"
    bench.report.add(f"{name}, p50", target.name, "ms", middle)
    bench.report.add(
        f"{name}, p99", target.name, "ms", slowest, aim="< 50" if runs == 200 else "< 150"
    )


async def at_once(bench: Bench, target: Target, runs: int = 500) -> None:
    """Stop all runs in one moment, with a request for each."""
    what, delete = f"{runs} DELETEs at once: all upstreams closed", partial(_delete, target)
    await _all(bench, target, runs, what, lambda running: map(delete, running.values()))


async def by_one_request(bench: Bench, target: Target, runs: int = 500) -> None:
    """Stop all runs with one request."""
    what = f"one DELETE of all {runs} runs: all upstreams closed"
    await _all(bench, target, runs, what, lambda _: [request("DELETE", "/runs?all=true")])


async def _all(bench: Bench, target: Target, runs: int, what: str, requests: Requests) -> None:
    slowest: list[float] = []
    for _ in range(bench.rounds):
        async with serving(target, bench.upstream.port) as server:
            running = await _start(server, bench.upstream, runs)
            tally = Tally(b"\r\n")
            begun = stamp()
            deletes = [await read(server.port, each, tally) for each in requests(running)]
            slowest.append(max(await _waits_ms(bench.upstream, dict.fromkeys(running, begun))))
            for one in deletes:
                one.leave()
    bench.report.add(what, target.name, "ms", slowest, "≤ 1000 (further 250)")


async def _start(server: Server, upstream: Upstream, runs: int) -> Running:
    upstream.plan, tally = Plan(), Tally(server.target.marker, server.target.final)
    running: Running = {}
    for _ in range(runs):
        mark, text = marked()
        running[mark] = await read(server.port, server.target.post(text), tally)
    async with asyncio.timeout(60):
        await asyncio.gather(*(reader.begun for reader in running.values()))
    return running


def _delete(target: Target, reader: Reader) -> bytes:
    return request("DELETE", f"/runs/{reader.run_id}", key=target.key)


async def _waits_ms(upstream: Upstream, sent: dict[int, int]) -> list[float]:
    async with asyncio.timeout(_AT_MOST_S):
        while not upstream.closed_at.keys() >= sent.keys():  # noqa: ASYNC110 - told to nobody
            await asyncio.sleep(0.01)
    return [(upstream.closed_at[mark] - at) / 1e3 for mark, at in sent.items()]
