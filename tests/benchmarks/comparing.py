"""Side by side: every server under the same load, in turn, round after round.

What else the machine does then hits all of them alike, and ratios are taken within a round.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from operator import attrgetter
from typing import Final

from tests.benchmarks.bench import Bench
from tests.benchmarks.measures import Load, Sample, flat_out, paced
from tests.benchmarks.report import LATENCY, Report
from tests.benchmarks.servers import PASSTHROUGH, Server, Target, serving

Measure = Callable[[Server], Awaitable[Sample]]
Samples = Mapping[str, list[Sample]]

EARLIER_PACED: Final[Mapping[str, tuple[float, str]]] = {
    "passthrough": (
        34.0,
        "a pipe sleeps between paced events, and what it costs to wake a core is the machine's",
    ),
    "naive": (
        344.0,
        (
            "an outlier, of another load or of a core that was full: its parts, measured alone,"
            " were 138 µs for reading typed events and 48 for pydantic and dicts, together 186"
        ),
    ),
}
"""Microseconds of CPU per event at 100 x 20 a second, as measured before there was a service.

With each, what to think of it where it is far from what is measured now. That the naive service was
to take 2.8 times ours follows from its 344 beside 122.
"""

_HOPELESS_MS: Final = 2000

COUNTS: Final = (1, 10, 100, 350, 500, 1000)
TEN: Final = ((10, 1), (10, 16))
"""Ten runs flat out, one delta a write, as providers send them, and sixteen; see `upstream.py`."""

_LADDER_DELTAS: Final = 20_000
"""How many all streams of a ladder's step have together: as many of ours as of anybody's."""


async def in_turn(bench: Bench, targets: Sequence[Target], measure: Measure) -> Samples:
    """Measure each in each round, each first once; all run all the while, and one is asked."""
    samples: dict[str, list[Sample]] = {target.name: [] for target in targets}
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(serving(target, bench.upstream.port))
            for target in targets
        ]
        for server in servers:  # what is imported or connected only once
            await flat_out(server, bench.upstream, 2)
        for nth in range(bench.rounds):
            first = nth % len(servers)
            for server in servers[first:] + servers[:first]:
                samples[server.target.name].append(await measure(server))
                await server.rest()
    return samples


async def at_a_pace(bench: Bench, targets: Sequence[Target]) -> None:
    """100 runs at 20 tokens a second."""
    load = Load()
    samples = await in_turn(bench, targets, partial(paced, upstream=bench.upstream, load=load))
    bench.report.section("100 runs x 20 tokens a second, leader only, one reader a run")
    for name, taken in samples.items():
        earlier, why_off = EARLIER_PACED.get(name, (None, ""))
        spent = _of(taken, "cpu_us")
        bench.report.add("CPU per event", name, "µs", spent, earlier=earlier, why_off=why_off)
    _ratios(
        bench.report, samples, ("≤ 3.5 (further 2.5)", "≥ 2.8", "≥ 3", "≤ 1.6 (1.3)", "≤ 1.8 (1.3)")
    )
    for name, taken in samples.items():
        ours = name in ("SQLite", "Redis")
        aims = ("≤ 5", "≤ 30") if ours else ("", "")
        bench.report.add("added latency p50", name, "ms", _of(taken, "p50_ms"), aims[0])
        bench.report.add("added latency p99", name, "ms", _of(taken, "p99_ms"), aims[1])
        bench.report.add("time to first event, under load", name, "ms", _of(taken, "first_ms"))
        bench.report.add(
            "bytes of an event, stamp and chunk included", name, "B", _of(taken, "event_bytes")
        )
        _tell_lost(bench.report, name, taken)


async def unpaced(
    bench: Bench,
    targets: Sequence[Target],
    loads: Sequence[tuple[int, int]],
) -> None:
    """So many runs flat out, with so many deltas a write; starts and ends are in the figures."""
    for runs, block in loads:
        deltas = None if (runs, block) in TEN else max(20, _LADDER_DELTAS // runs)
        flat = partial(flat_out, upstream=bench.upstream, runs=runs, block=block, deltas=deltas)
        samples = await in_turn(bench, targets, flat)
        bench.report.section(
            f"{runs} runs flat out, {block} a write (starts and ends of runs included)"
        )
        for name, taken in samples.items():
            bench.report.add("CPU per event", name, "µs", _of(taken, "cpu_us"))
            bench.report.add("events a second", name, "/s", _of(taken, "events_s"))
            _tell_lost(bench.report, name, taken)
        _ratios(
            bench.report,
            samples,
            ("≤ 8 (further 5)", "≥ 20", "", "", "") if (runs, block) in TEN else ("",) * 5,
        )


async def ladder(
    bench: Bench,
    targets: Sequence[Target],
    counts: Sequence[int] = COUNTS,
) -> None:
    """Ever more streams at 20 tokens a second, until only this service is asked for more."""
    for runs in counts:
        load = Load(runs, seconds=3.0)
        samples = await in_turn(bench, targets, partial(paced, upstream=bench.upstream, load=load))
        bench.report.section(f"{runs} runs x 20 tokens a second")
        aim = "< 100" if runs == 350 else "further < 100" if runs == 1000 else ""
        for name, taken in samples.items():
            of_ours = aim if name not in ("passthrough", "naive", "AgentOS") else ""
            bench.report.add("CPU per event", name, "µs", _of(taken, "cpu_us"))
            bench.report.add(f"added latency p50, {runs} streams", name, "ms", _of(taken, "p50_ms"))
            bench.report.add(LATENCY.format(runs), name, "ms", _of(taken, "p99_ms"), of_ours)
            bench.report.add("events a second", name, "/s", _of(taken, "events_s"))
            _tell_lost(bench.report, name, taken)
        targets = [each for each in targets if each.is_ours or _carried(samples[each.name])]


async def ways(bench: Bench, targets: Sequence[Target]) -> None:
    """With delegation, and with ten readers a run."""
    delegating, crowded = Load(delegates=True), Load(runs=20, readers=10)
    samples = await in_turn(
        bench, targets, partial(paced, upstream=bench.upstream, load=delegating)
    )
    bench.report.section("100 runs x 20 tokens a second of a member's")
    for name, taken in samples.items():
        bench.report.add("CPU per event, delegated", name, "µs", _of(taken, "cpu_us"))
        bench.report.add("bytes of an event, delegated", name, "B", _of(taken, "event_bytes"))
        _tell_lost(bench.report, name, taken)
    ours = [target for target in targets if target.is_ours]
    samples = await in_turn(bench, ours, partial(paced, upstream=bench.upstream, load=crowded))
    bench.report.section("20 runs x 20 tokens a second, ten readers a run")
    for name, taken in samples.items():
        bench.report.add("CPU per event, ten readers", name, "µs", _of(taken, "cpu_us"))
        each = [sample.cpu_us / crowded.readers for sample in taken]
        bench.report.add("CPU per event delivered", name, "µs", each)
        bench.report.add("added latency p99, ten readers", name, "ms", _of(taken, "p99_ms"))
        _tell_lost(bench.report, name, taken)


def _carried(samples: Sequence[Sample]) -> bool:
    """Whether a server came along; one that did not takes minutes to recover."""
    return not any(sample.lost for sample in samples) and max(_of(samples, "p99_ms")) < _HOPELESS_MS


def _ratios(report: Report, samples: Samples, aims: Sequence[str]) -> None:
    """Say what stands in the aims: above the pipe, and below the others, within each round."""
    limit, naive, agentos, sqlite, redis = aims
    asked = (
        ("memory", PASSTHROUGH.name, limit),
        ("naive", "memory", naive),
        ("AgentOS", "memory", agentos),
        ("SQLite", "memory", sqlite),
        ("Redis", "memory", redis),
    )
    for above, below, aim in asked:
        if samples.get(above) and samples.get(below):
            pairs = zip(samples[above], samples[below], strict=True)
            report.add(
                "CPU, ratio",
                f"{above} / {below}",
                "x",
                [a.cpu_us / b.cpu_us for a, b in pairs],
                aim,
            )


def _of(samples: Sequence[Sample], name: str) -> list[float]:
    return list(map(attrgetter(name), samples))


def _tell_lost(report: Report, name: str, samples: Sequence[Sample]) -> None:
    lost = [sample.lost for sample in samples]
    if any(lost):
        report.note(f"{name}: streams without an end, round by round: {lost}")
