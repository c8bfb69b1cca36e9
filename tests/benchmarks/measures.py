"""The two ways to load a server: streams at a talking model's pace, and streams flat out.

At a pace, a window of time is looked at that begins when every stream has begun and ends before
any does, so neither the starts of runs nor their ends are in it. Flat out the whole is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

from tests.benchmarks.client import Reader, Tally, percentile, read, request
from tests.benchmarks.servers import Server
from tests.benchmarks.upstream import FLAT_OUT, Plan, Upstream

BEGIN_S = 20.0
END_S = 10.0
FLOOD_S = 60.0
SETTLE_S = 0.5
_MARKS: Iterator[int] = count(1)


@dataclass(frozen=True, slots=True)
class Load:
    """How many runs, each with how many readers, and for how many seconds to look."""

    runs: int = 100
    seconds: float = 3.0
    rate: float = 20.0
    readers: int = 1
    delegates: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a loaded server; CPU and bytes are per delta, times in milliseconds.

    `lost` is how many streams did not come to their end, `events_s` deltas delivered a second.
    """

    cpu_us: float
    events_s: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    first_ms: float = 0.0
    event_bytes: float = 0.0
    lost: int = 0


def marked(text: str = "A story, please.") -> tuple[int, str]:
    """Return an input by which a model call can be told from all others, and its number."""
    mark = next(_MARKS)
    return mark, f"{text} [run {mark}]"


async def paced(server: Server, upstream: Upstream, load: Load) -> Sample:
    """Look at a server while models talk at their pace."""
    upstream.plan = Plan(rate=load.rate, delegates=load.delegates)
    marker = b"event: RunContent\n" if load.delegates else server.target.marker
    tally = Tally(marker, server.target.final)
    async with streams(server, upstream, tally, load) as readers:
        await asyncio.sleep(SETTLE_S)
        cpu, tally.counts = server.cpu, True
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(load.seconds)
        cpu, tally.counts = server.cpu - cpu, False
        passed = asyncio.get_running_loop().time() - begun
    events = max(1, len(tally.latencies_us))
    latencies_us = tally.latencies_us or [int(load.seconds * 1e6)]  # none came: later than that
    return Sample(
        cpu_us=cpu / events * load.readers * 1e6,
        events_s=events / passed,
        p50_ms=percentile(latencies_us, 0.5) / 1e3,
        p99_ms=percentile(latencies_us, 0.99) / 1e3,
        first_ms=percentile(_begun(readers), 0.5) / 1e3,
        event_bytes=tally.bytes / events,
        lost=sum(not (reader.ended.done() and reader.ended.result()) for reader in readers),
    )


async def flat_out(
    server: Server, upstream: Upstream, runs: int, block: int = 1, deltas: int | None = None
) -> Sample:
    """Look at a server while models say what they have to say as fast as it is taken.

    Each says so many `deltas`; without a number all say together what keeps the server busy.
    """
    deltas = deltas or max(20, server.target.flood * 10 // runs)
    upstream.plan = Plan(rate=FLAT_OUT, count=deltas, block=block)
    tally = Tally(server.target.marker, server.target.final)
    loop = asyncio.get_running_loop()
    cpu, begun = server.cpu, loop.time()
    readers = [await _start(server, tally) for _ in range(runs)]
    whole = await _ends(readers, FLOOD_S)
    cpu, passed = server.cpu - cpu, loop.time() - begun
    events = max(1, tally.events)
    return Sample(cpu / events * 1e6, events / passed, lost=runs - whole)


@asynccontextmanager
async def streams(
    server: Server, upstream: Upstream, tally: Tally, load: Load
) -> AsyncIterator[Sequence[Reader]]:
    """Yield streams that have begun, all if they can; at the end the models end theirs."""
    readers = [await _start(server, tally) for _ in range(load.runs)]
    try:
        await asyncio.wait([reader.begun for reader in readers], timeout=BEGIN_S)
        for reader in readers[:]:
            for _ in range(load.readers - 1):
                again = request("GET", f"/runs/{reader.run_id}/events")
                readers.append(await read(server.port, again, tally))
        await asyncio.wait([reader.begun for reader in readers], timeout=BEGIN_S)
        yield readers
    finally:
        upstream.release()
        await _ends(readers, END_S)
        for reader in readers:
            reader.leave()


async def _start(server: Server, tally: Tally) -> Reader:
    return await read(server.port, server.target.post(marked()[1]), tally)


async def _ends(readers: Sequence[Reader], seconds: float) -> int:
    """Wait for streams to end; return how many came to their end."""
    await asyncio.wait([reader.ended for reader in readers], timeout=seconds)
    return sum(reader.ended.done() and reader.ended.result() for reader in readers)


def _begun(readers: Sequence[Reader]) -> list[int]:
    begun = (reader.begun for reader in readers)
    return [one.result() for one in begun if one.done() and not one.cancelled()]
