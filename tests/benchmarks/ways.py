"""Other ways to use a run than one reader of a leader's words: a member's, and ten readers.

And other ways to have the same words: few streams that talk fast, or many at a model's pace. Each
stream's data is out of the core's caches when its turn comes again, so the more there are, the more
of an event's cost is waiting for memory, for whoever serves them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from tests.benchmarks.bench import Bench
from tests.benchmarks.comparing import (
    Samples,
    add,
    add_flat_out,
    in_turn,
    still_asked,
    tell_lost,
)
from tests.benchmarks.measures import Load, Sample, in_full_flow, paced
from tests.benchmarks.servers import Server, Target

_DELEGATED: Final = (10, 100, 350)
_CROWDED: Final = (10, 100, 350)
_READERS: Final = 10
_A_SECOND: Final = 2000
_STREAMS: Final = (1, 10, 100)


async def delegated(bench: Bench, targets: Sequence[Target]) -> None:
    """A member's words, at a model's pace and flat out."""
    figures = {
        "CPU per event, delegated": "cpu_us",
        "added latency p99, delegated": "p99_ms",
        "bytes of an event, delegated": "event_bytes",
    }
    asked = targets
    for runs in _DELEGATED:
        samples = await _paced(bench, asked, Load(runs, delegates=True), " of a member's", figures)
        asked = still_asked(bench.report, asked, samples, runs)
    await _flat_out(bench, targets, Load(10, delegates=True), "a member's words")


async def crowded(bench: Bench, targets: Sequence[Target]) -> None:
    """Ten readers of each run, at a model's pace and flat out."""
    figures = {
        "CPU per event, ten readers": "cpu_us",
        "added latency p99, ten readers": "p99_ms",
        "events a second, ten readers": "events_s",
    }
    for runs in _CROWDED:
        load = Load(runs, readers=_READERS)
        samples = await _paced(bench, targets, load, ", ten readers a run", figures)
        for name, taken in samples.items():
            each = [replace(sample, cpu_us=sample.cpu_us / _READERS) for sample in taken]
            add(bench.report, "CPU per event delivered", name, each, "cpu_us")
    await _flat_out(bench, targets, Load(10, readers=_READERS), "ten readers a run")


async def spread(bench: Bench, targets: Sequence[Target]) -> None:
    """As many events a second, of ever more streams, one number after the other in each round."""

    async def look(server: Server) -> Sequence[Sample]:
        loads = [Load(runs, rate=_A_SECOND / runs) for runs in _STREAMS]
        return [await paced(server, bench.upstream, load) for load in loads]

    samples = await in_turn(bench, targets, look)
    bench.report.section(f"{_A_SECOND} events a second, of few streams and of many")
    for name, rounds in samples.items():
        for runs, taken in zip(_STREAMS, zip(*rounds, strict=True), strict=True):
            add(bench.report, f"CPU per event, streams: {runs}", name, taken, "cpu_us")
            tell_lost(bench.report, name, taken)
        ratios = [looks[-1].cpu_us / looks[0].cpu_us for looks in rounds]
        bench.report.add(f"CPU of {_STREAMS[-1]} streams / of one", name, "x", ratios)


async def _paced(
    bench: Bench, targets: Sequence[Target], load: Load, what: str, figures: Mapping[str, str]
) -> Samples:
    """Look at a model's pace; `figures` are the rows' words, each with the name in a sample."""
    samples = await in_turn(bench, targets, partial(paced, upstream=bench.upstream, load=load))
    bench.report.section(f"{load.runs} runs x 20 tokens a second{what}")
    for name, taken in samples.items():
        for says, attribute in figures.items():
            add(bench.report, says, name, taken, attribute)
        tell_lost(bench.report, name, taken)
    return samples


async def _flat_out(bench: Bench, targets: Sequence[Target], load: Load, what: str) -> None:
    flow = partial(in_full_flow, upstream=bench.upstream, load=load)
    samples = await in_turn(bench, targets, flow)
    bench.report.section(f"{load.runs} runs flat out, {what}")
    add_flat_out(bench.report, samples)
