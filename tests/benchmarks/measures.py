"""The two ways to load a server: streams at a talking model's pace, and streams flat out.

At a pace, a window of time is looked at that begins when every stream has begun and ends before
any does, so neither the starts of runs nor their ends are in it. Flat out the whole is looked at,
or, where the runs are so many that their starts would be most of it, what is between these. The
client looks at its own core too: where that has no room left, a figure is the client's rather than
the server's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Final

from tests.benchmarks.client import Reader, Tally, percentile, read, request
from tests.benchmarks.servers import CLIENT_CORE, Server
from tests.benchmarks.upstream import FLAT_OUT, Plan, Upstream

BEGIN_S = 20.0
END_S = 10.0
FLOOD_S = 60.0
SETTLE_S = 0.5
LONG_S: Final = 15.0
"""For how long the most streams are looked at, so that a queue that grows is seen to."""
MEMBER: Final = b"event: RunContent\n"
"""Begins the event of a member's delta."""
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

    `lost` is how many streams did not come to their end, `events_s` deltas delivered a second,
    `client` how busy the client's core was, of 1. `p99_early_ms` and `p99_late_ms` are of the first
    and the last third of what came: where queues grow, the last is later. `unevenness` is the p99
    of the worst stream beside that of the middle one.
    """

    cpu_us: float
    events_s: float
    client: float
    lost: int
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    p99_early_ms: float = 0.0
    p99_late_ms: float = 0.0
    unevenness: float = 0.0
    first_ms: float = 0.0
    event_bytes: float = 0.0


class Meter:
    """What a server, and the client's core, did since there is one of it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._begun, self._idle, self._cpu = self._now()

    def read(self) -> tuple[float, float, float]:
        """Return seconds of the server's CPU and of the clock, and how busy the client's core was.

        That is of 1, and of whoever keeps it busy: Redis is on it too.
        """
        now, idle, cpu = self._now()
        passed = now - self._begun
        return cpu - self._cpu, passed, min(1.0, max(0.0, 1 - (idle - self._idle) / passed))

    def _now(self) -> tuple[float, float, float]:
        return asyncio.get_running_loop().time(), _idle_s(CLIENT_CORE), self._server.cpu


def _idle_s(core: int) -> float:
    """Return for how long a core has had nothing to do, waiting for a disk included."""
    lines = Path("/proc/stat").read_text("ascii").splitlines()
    ticks = next(line.split() for line in lines if line.startswith(f"cpu{core} "))
    return (int(ticks[4]) + int(ticks[5])) / os.sysconf("SC_CLK_TCK")


def marked(text: str = "A story, please.") -> tuple[int, str]:
    """Return an input by which a model call can be told from all others, and its number."""
    mark = next(_MARKS)
    return mark, f"{text} [run {mark}]"


async def paced(server: Server, upstream: Upstream, load: Load) -> Sample:
    """Look at a server while models talk at their pace."""
    upstream.plan = Plan(rate=load.rate, delegates=load.delegates)
    tally = _tally(server, load)
    async with streams(server, upstream, tally, load) as readers:
        await asyncio.sleep(SETTLE_S)
        meter, tally.counts = Meter(server), True
        await asyncio.sleep(load.seconds)
        (cpu, passed, client), tally.counts = meter.read(), False
    events = max(1, len(tally.latencies_us))
    none_came = [int(load.seconds * 1e6)]  # later than that
    latencies_us, third = tally.latencies_us or none_came, max(1, events // 3)
    by_stream = [percentile(reader.latencies_us or none_came, 0.99) for reader in readers]
    return Sample(
        cpu_us=cpu / events * load.readers * 1e6,
        events_s=events / passed,
        client=client,
        lost=_lost(readers),
        p50_ms=percentile(latencies_us, 0.5) / 1e3,
        p99_ms=percentile(latencies_us, 0.99) / 1e3,
        p99_early_ms=percentile(latencies_us[:third], 0.99) / 1e3,
        p99_late_ms=percentile(latencies_us[-third:], 0.99) / 1e3,
        unevenness=max(by_stream) / max(1, median(by_stream)),
        first_ms=percentile(_begun(readers), 0.5) / 1e3,
        event_bytes=tally.bytes / events,
    )


async def flat_out(server: Server, upstream: Upstream, runs: int, block: int = 1) -> Sample:
    """Look at a server while models say what they have to say as fast as it is taken.

    Starts and ends of runs are in the figures.
    """
    upstream.plan = Plan(rate=FLAT_OUT, count=_enough(server, runs), block=block)
    tally, meter = Tally(server.target.marker, server.target.final), Meter(server)
    readers = [await _start(server, tally) for _ in range(runs)]
    whole = await _ends(readers, FLOOD_S)
    cpu, passed, client = meter.read()
    events = max(1, tally.events)
    return Sample(cpu / events * 1e6, events / passed, client, lost=runs - whole)


async def in_full_flow(server: Server, upstream: Upstream, load: Load) -> Sample:
    """Look at a server while models go flat out, from when every reader came to before any end."""
    deltas = _enough(server, load.runs)
    upstream.plan = Plan(rate=FLAT_OUT, count=deltas + 2, delegates=load.delegates)
    upstream.allow(1)
    tally = _tally(server, load)
    async with streams(server, upstream, tally, load) as readers:
        early, meter = tally.events, Meter(server)
        upstream.allow(1 + deltas)
        with suppress(TimeoutError):  # then what came by now is what it can do
            async with asyncio.timeout(FLOOD_S):
                await tally.reach(early + deltas * len(_begun(readers)))
        cpu, passed, client = meter.read()
    events = max(1, tally.events - early)
    each_us = cpu / events * load.readers * 1e6
    return Sample(each_us, events / passed, client, lost=_lost(readers))


def _enough(server: Server, runs: int) -> int:
    """Return how many deltas of each run keep a server busy for about a second."""
    return max(20, server.target.flood * 10 // runs)


def _tally(server: Server, load: Load) -> Tally:
    return Tally(MEMBER if load.delegates else server.target.marker, server.target.final)


@asynccontextmanager
async def streams(
    server: Server, upstream: Upstream, tally: Tally, load: Load
) -> AsyncIterator[Sequence[Reader]]:
    """Yield streams that have begun, all if they can; at the end the models end theirs."""
    readers = [await _start(server, tally) for _ in range(load.runs)]
    try:
        await asyncio.wait([reader.begun for reader in readers], timeout=BEGIN_S)
        others = [
            await read(server.port, request("GET", f"/runs/{reader.run_id}/events"), tally)
            for reader in readers
            for _ in range(load.readers - 1)
        ]
        if others:
            await asyncio.wait([reader.begun for reader in others], timeout=BEGIN_S)
        readers += others
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
    return len(readers) - _lost(readers)


def _lost(readers: Sequence[Reader]) -> int:
    return sum(not (reader.ended.done() and reader.ended.result()) for reader in readers)


def _begun(readers: Sequence[Reader]) -> list[int]:
    begun = (reader.begun for reader in readers)
    return [one.result() for one in begun if one.done() and not one.cancelled()]
