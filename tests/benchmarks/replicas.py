"""Two processes over one Redis, on all cores, against one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import cycle

from tests.benchmarks.bench import Bench
from tests.benchmarks.client import Tally, percentile, read
from tests.benchmarks.measures import LONG_S, marked
from tests.benchmarks.servers import Target, serving
from tests.benchmarks.upstream import Plan


async def side_by_side(bench: Bench, target: Target, runs: int, processes: int) -> None:
    """Share streams at 20 tokens a second among some processes."""
    rounds = [await _shared(bench, target, runs, processes) for _ in range(bench.rounds)]
    waits_ms, whole = zip(*rounds, strict=True)
    who, aim = f"{processes} x Redis", "further < 100" if processes > 1 else ""
    bench.report.add(f"added p99, {runs} streams shared", who, "ms", waits_ms, aim)
    bench.report.add(f"streams of {runs} that came to their end", who, "streams", whole, f"{runs}")


async def _shared(bench: Bench, target: Target, runs: int, processes: int) -> tuple[float, float]:
    """Return the p99 of the latency in milliseconds, and how many streams came to their end."""
    bench.upstream.plan, tally = Plan(), Tally(target.marker, target.final)
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(serving(target, bench.upstream.port, core=None))
            for _ in range(processes)
        ]
        posts = zip(cycle(servers), (target.post(marked()[1]) for _ in range(runs)), strict=False)
        readers = [await read(server.port, post, tally) for server, post in posts]
        async with asyncio.timeout(120):
            await asyncio.gather(*(reader.begun for reader in readers))
        tally.counts = True
        await asyncio.sleep(LONG_S)
        tally.counts = False
        bench.upstream.release()
        await asyncio.wait([reader.ended for reader in readers], timeout=30)
        whole = sum(reader.ended.done() and reader.ended.result() for reader in readers)
    return percentile(tally.latencies_us, 0.99) / 1e3, whole
