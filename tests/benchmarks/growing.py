"""What the service costs as it holds more: long logs, finished runs, idle readers, itself."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import replace
from functools import partial

from tests.benchmarks.bench import Bench
from tests.benchmarks.client import Reader, Tally, ask, percentile, read, request
from tests.benchmarks.comparing import in_turn
from tests.benchmarks.measures import Load, flat_out, marked, paced
from tests.benchmarks.servers import MEMORY, Server, Target, serving
from tests.benchmarks.upstream import FLAT_OUT, SILENT, Plan, Upstream

_LOG = 100_000
_STRETCH = 30_000
_IDLE_S = 20.0
_UNUSED = 5
_FIRSTS = 100
"""Runs one after the other, so that a p99 is not merely the slowest."""
_FRAME = re.compile(rb"id: \d+\nevent: (?:Team)?RunContent\n.*?\n\n")


async def long_log(bench: Bench, target: Target) -> None:
    """One run of 100,000 events: what 30,000 behind these cost, against those behind the first."""
    ratios: list[float] = []
    overheads: list[float] = []
    for _ in range(bench.rounds):
        async with serving(target, bench.upstream.port) as server:
            await flat_out(server, bench.upstream, 2)
            bench.upstream.plan = Plan(rate=FLAT_OUT, count=_LOG + 2 * _STRETCH)
            bench.upstream.allow(0)
            tally, rss = Tally(target.marker, target.final), server.rss
            tally.counts = True
            reader = await read(server.port, target.post(marked()[1]), tally)
            first = await _stretch(server, bench.upstream, tally, _STRETCH // 10)
            last = await _stretch(server, bench.upstream, tally, _LOG)
            bench.upstream.allow(FLAT_OUT)
            async with asyncio.timeout(60):
                await reader.ended
            ratios.append(last / first)
            overheads.append((server.rss - rss) / tally.bytes)
    bench.report.add(f"CPU at place {_LOG} / at the first", target.name, "x", ratios, "≤ 1.1")
    if target is MEMORY:
        bench.report.add("memory of a long log / its bytes", target.name, "x", overheads, "≤ 1.3")


async def _stretch(server: Server, upstream: Upstream, tally: Tally, begin: int) -> float:
    """Return the CPU seconds of some events that follow one another, from rest to rest."""
    cpu = await _reach(server, upstream, tally, begin)
    return await _reach(server, upstream, tally, begin + _STRETCH) - cpu


async def _reach(server: Server, upstream: Upstream, tally: Tally, events: int) -> float:
    """Have the model say so many words, and return the CPU spent when all were read."""
    upstream.allow(events)
    async with asyncio.timeout(60):
        await tally.reach(events)
    await server.rest()
    return server.cpu


async def stored_runs(bench: Bench, target: Target, count: int) -> None:
    """What an event costs beside so many finished runs, against none."""
    filled = ("-m", "tests.benchmarks.filled", str(count))
    full = replace(target, name=f"{target.name}, full", command=filled)
    samples = await in_turn(
        bench, [target, full], partial(paced, upstream=bench.upstream, load=Load())
    )
    pairs = zip(samples[full.name], samples[target.name], strict=True)
    ratios = [beside.cpu_us / alone.cpu_us for beside, alone in pairs]
    bench.report.add(
        f"CPU beside {count} finished runs / beside none", target.name, "x", ratios, "≤ 1.1"
    )


async def idle_readers(bench: Bench, target: Target, runs: int = 10, readers: int = 1000) -> None:
    """Runs that say nothing for long, and many who read them."""
    total = runs * readers
    rounds = [await _idle(bench, target, runs, readers) for _ in range(bench.rounds)]
    sizes, shares, whole = zip(*rounds, strict=True)
    name, report = target.name, bench.report
    report.add(f"an idle reader of {total}", name, "KB", sizes, "≤ 48 (further 30)")
    report.add(f"CPU of {total} idle readers", name, "% of a core", shares, "≤ 5")
    report.add("idle readers that got the end", name, "readers", whole, f"{total}")


async def _idle(
    bench: Bench, target: Target, runs: int, readers: int
) -> tuple[float, float, float]:
    """Return the KB of each reader, the percentage of a core of all, and how many got the end."""
    async with serving(target, bench.upstream.port) as server:
        await flat_out(server, bench.upstream, 2)
        bench.upstream.plan = Plan(rate=SILENT)
        paths = [await _run_path(server) for _ in range(runs)]
        rss, tally = server.rss, Tally(target.marker, target.final)
        waiting = [
            await read(server.port, request("GET", f"{path}/events"), tally)
            for path in paths
            for _ in range(readers)
        ]
        await _begun(waiting)
        size = (server.rss - rss) / len(waiting) / 1e3
        cpu = server.cpu
        await asyncio.sleep(_IDLE_S)
        share = (server.cpu - cpu) / _IDLE_S * 100
        bench.upstream.release()
        await asyncio.wait([reader.ended for reader in waiting], timeout=30)
        whole = sum(reader.ended.done() and reader.ended.result() for reader in waiting)
        return size, share, whole


async def runs_held(bench: Bench, target: Target, runs: int = 1000) -> None:
    """What a run takes in memory while its model thinks, with a reader and without."""
    for what, stream in (("with its reader", True), ("without a reader", False)):
        sizes = [await _held(bench, target, runs, stream=stream) for _ in range(bench.rounds)]
        bench.report.add(f"a run of {runs}, {what}", target.name, "KB", sizes, "≤ 100")


async def _held(bench: Bench, target: Target, runs: int, *, stream: bool) -> float:
    async with serving(target, bench.upstream.port) as server:
        await flat_out(server, bench.upstream, 2)
        bench.upstream.plan = Plan(rate=SILENT)
        rss, tally = server.rss, Tally(target.marker, target.final)
        if stream:
            posts = [target.post(marked()[1]) for _ in range(runs)]
            await _begun([await read(server.port, post, tally) for post in posts])
        else:
            for _ in range(runs):
                await _run_path(server)
            async with asyncio.timeout(60):
                await bench.upstream.speaks_in(runs)
            await server.rest()
        size = (server.rss - rss) / runs / 1e3
        bench.upstream.release()
        return size


async def start(bench: Bench, target: Target) -> None:
    """From the command to the first `200` of `readyz`, and the memory then."""
    seconds: list[float] = []
    sizes: list[float] = []
    for _ in range(bench.rounds):
        begun = time.monotonic()
        async with serving(target, bench.upstream.port) as server:
            seconds.append(time.monotonic() - begun)
            sizes.append(server.rss / 1e6)
    bench.report.add("cold start to readyz", target.name, "s", seconds, "≤ 1.5 (further 1.0)")
    bench.report.add("memory at readyz", target.name, "MB", sizes, "≤ 110 (further 90)")


async def first_event(bench: Bench, target: Target) -> None:
    """How long one run's first word takes, with nothing else to do; then what a word weighs."""
    report, name = bench.report, target.name
    async with serving(target, bench.upstream.port) as server:
        await _first_waits_ms(bench, server, _UNUSED)
        rounds = [await _first_waits_ms(bench, server, _FIRSTS) for _ in range(bench.rounds)]
        for share in (50, 99):
            waits_ms = [percentile(each, share / 100) for each in rounds]
            report.add(f"time to first event, idle, p{share}", name, "ms", waits_ms)
        for who, delegates, aim in (("leader", False, "≤ 260"), ("member", True, "≤ 320")):
            bench.upstream.plan = Plan(rate=FLAT_OUT, count=20, delegates=delegates)
            size = await _word_bytes(server)
            report.add(f"bytes of a one-token event, {who}", name, "B", [size], aim)


async def _first_waits_ms(bench: Bench, server: Server, times: int) -> list[float]:
    bench.upstream.plan, waits_ms, target = Plan(rate=20, count=1), list[float](), server.target
    for _ in range(times):
        tally = Tally(target.marker, target.final)
        reader = await read(server.port, target.post(marked()[1]), tally)
        waits_ms.append(await reader.begun / 1e3)
        await reader.ended
    return waits_ms


async def _word_bytes(server: Server) -> int:
    posted = request("POST", "/runs?wait=20", {"input": marked()[1]})
    run_id = _body(await ask(server.port, posted))["run_id"]
    log = await _replay(server, str(run_id))
    return max(map(len, _FRAME.findall(log)))


async def _replay(server: Server, run_id: str) -> bytes:
    connection, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request("GET", f"/runs/{run_id}/events"))
    log = b""
    while not log.endswith(b"\r\n0\r\n\r\n"):
        log += await connection.read(65_536)
    writer.close()
    return log


async def _run_path(server: Server) -> str:
    answer = _body(await ask(server.port, request("POST", "/runs", {"input": marked()[1]})))
    return f"/runs/{answer['run_id']}"


def _body(answer: bytes) -> dict[str, object]:
    fields: dict[str, object] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return fields


async def _begun(readers: list[Reader]) -> None:
    async with asyncio.timeout(120):
        await asyncio.gather(*(reader.begun for reader in readers))
