"""Side by side: every server under the same load, in turn, round after round.

What else the machine does then hits all of them alike, and ratios are taken within a round.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from operator import attrgetter
from typing import Final, TypeVar

from tests.benchmarks.bench import Bench
from tests.benchmarks.measures import LONG_S, Load, Sample, flat_out, in_full_flow, paced
from tests.benchmarks.report import LATENCY, Report
from tests.benchmarks.servers import PASSTHROUGH, Server, Target, serving

Item = TypeVar("Item")
Looked = TypeVar("Looked")
Samples = Mapping[str, Sequence[Sample]]
"""By a server's name, one a round."""

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

_UNITS: Final = {"_us": "µs", "_ms": "ms", "_s": "/s", "_bytes": "B", "unevenness": "x"}
"""By the end of a sample's name."""
_HOPELESS_MS: Final = 2000
COUNTS: Final = (1, 10, 100, 350, 500, 1000)


async def in_turn(
    bench: Bench, targets: Sequence[Target], measure: Callable[[Server], Awaitable[Looked]]
) -> Mapping[str, list[Looked]]:
    """Measure each in each round; all run all the while, and one is asked."""
    samples: dict[str, list[Looked]] = {target.name: [] for target in targets}
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(serving(target, bench.upstream.port))
            for target in targets
        ]
        for server in servers:  # what is imported or connected only once
            await flat_out(server, bench.upstream, 2)
        for nth in range(bench.rounds):
            for server in turns(servers, nth):
                samples[server.target.name].append(await measure(server))
                await server.rest()
    return samples


def turns(items: Sequence[Item], nth: int) -> Sequence[Item]:
    """Return the order of a round: each is the first in its turn, and who is before it changes."""
    first, *others = (*items[nth % len(items) :], *items[: nth % len(items)])
    return [first, *(others if nth % 2 == 0 else reversed(others))]


async def at_a_pace(bench: Bench, targets: Sequence[Target]) -> None:
    """100 runs at 20 tokens a second."""
    report, measure = bench.report, partial(paced, upstream=bench.upstream, load=Load())
    samples = await in_turn(bench, targets, measure)
    report.section("100 runs x 20 tokens a second, leader only, one reader a run")
    for name, taken in samples.items():
        earlier, why_off = EARLIER_PACED.get(name, (None, ""))
        spent = values(taken, "cpu_us")
        report.add("CPU per event", name, "µs", spent, earlier=earlier, why_off=why_off)
    _ratios(report, samples, ("≤ 3.5 (further 2.5)", "≥ 2.8", "≥ 3", "≤ 1.6 (1.3)", "≤ 1.8 (1.3)"))
    for name, taken in samples.items():
        ours = name in ("SQLite", "Redis")
        aims = ("≤ 5", "≤ 30") if ours else ("", "")
        add(report, "added latency p50", name, taken, "p50_ms", aim=aims[0])
        add(report, "added latency p99", name, taken, "p99_ms", aim=aims[1])
        add(report, "time to first event, under load", name, taken, "first_ms")
        add(report, "bytes of an event, stamp and chunk included", name, taken, "event_bytes")
        tell_lost(report, name, taken)


async def unpaced(bench: Bench, targets: Sequence[Target]) -> None:
    """Ten runs flat out, one delta a write, as providers send them, and sixteen."""
    for block in (1, 16):
        flat = partial(flat_out, upstream=bench.upstream, runs=10, block=block)
        samples = await in_turn(bench, targets, flat)
        bench.report.section(
            f"10 runs flat out, {block} a write (starts and ends of runs included)"
        )
        add_flat_out(bench.report, samples)
        _ratios(bench.report, samples, ("≤ 8 (further 5)", "≥ 20", "", "", ""))


async def ladder_unpaced(
    bench: Bench, targets: Sequence[Target], counts: Sequence[int] = COUNTS
) -> None:
    """Ever more streams flat out; who loses some is not asked for more."""
    for runs in counts:
        flow = partial(in_full_flow, upstream=bench.upstream, load=Load(runs))
        samples = await in_turn(bench, targets, flow)
        bench.report.section(f"{runs} runs flat out (starts and ends of runs left out)")
        add_flat_out(bench.report, samples)
        _ratios(bench.report, samples, ("",) * 5)
        targets = still_asked(bench.report, targets, samples, runs)


def add_flat_out(report: Report, samples: Samples) -> None:
    """Take in what is told of streams flat out."""
    for name, taken in samples.items():
        add(report, "CPU per event", name, taken, "cpu_us")
        add(report, "events a second", name, taken, "events_s")
        tell_lost(report, name, taken)


async def ladder(
    bench: Bench,
    targets: Sequence[Target],
    counts: Sequence[int] = COUNTS,
) -> None:
    """Ever more streams at 20 tokens a second, until only this service is asked for more."""
    for runs in counts:
        is_last = runs == counts[-1]
        load = Load(runs, seconds=LONG_S) if is_last else Load(runs)
        samples = await in_turn(bench, targets, partial(paced, upstream=bench.upstream, load=load))
        bench.report.section(f"{runs} runs x 20 tokens a second")
        aim = "< 100" if runs == 350 else "further < 100" if runs == 1000 else ""
        for name, taken in samples.items():
            of_ours = aim if name not in ("passthrough", "naive", "AgentOS") else ""
            add(bench.report, "CPU per event", name, taken, "cpu_us")
            add(bench.report, f"added latency p50, {runs} streams", name, taken, "p50_ms")
            add(bench.report, LATENCY.format(runs), name, taken, "p99_ms", aim=of_ours)
            add(bench.report, "events a second", name, taken, "events_s")
            if is_last:
                _add_evenness(bench.report, name, taken)
            tell_lost(bench.report, name, taken)
        targets = still_asked(bench.report, targets, samples, runs)


def _add_evenness(report: Report, name: str, taken: Sequence[Sample]) -> None:
    """Say whether it gets later while one looks, and whether all streams share that."""
    add(report, "p99 of the first third of the time", name, taken, "p99_early_ms")
    add(report, "p99 of the last third of the time", name, taken, "p99_late_ms")
    add(report, "p99 of the worst stream / of the middle one", name, taken, "unevenness")
    add(report, "time to first event, under load", name, taken, "first_ms")


def still_asked(
    report: Report, targets: Sequence[Target], samples: Samples, runs: int
) -> Sequence[Target]:
    """Return ours, and those that came along; one that did not takes minutes to recover."""
    left = [each for each in targets if each.is_ours or _carried(samples[each.name])]
    for each in targets:
        if each not in left:
            report.note(f"{each.name}: did not carry {runs} streams, no more was asked of it")
    return left


def _carried(samples: Sequence[Sample]) -> bool:
    lost = any(sample.lost for sample in samples)
    return not lost and max(values(samples, "p99_ms")) < _HOPELESS_MS


def _ratios(report: Report, samples: Samples, aims: Sequence[str]) -> None:
    """Say what stands in the aims: above the pipe, and below the others."""
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
            add_ratio(report, samples, above, below, aim)


def add_ratio(report: Report, samples: Samples, above: str, below: str, aim: str = "") -> None:
    """Say how much more CPU one spends than another, within each round."""
    pairs = list(zip(samples[above], samples[below], strict=True))
    report.add(
        "CPU, ratio",
        f"{above} / {below}",
        "x",
        [a.cpu_us / b.cpu_us for a, b in pairs],
        aim,
        client=[max(a.client, b.client) for a, b in pairs],
    )


def add(
    report: Report, what: str, of: str, taken: Sequence[Sample], name: str, *, aim: str = ""
) -> None:
    """Take in the figure of a name, of each round."""
    unit = next(unit for end, unit in _UNITS.items() if name.endswith(end))
    report.add(what, of, unit, values(taken, name), aim, client=values(taken, "client"))


def values(taken: Sequence[Sample], name: str) -> list[float]:
    """Return the figures of a name, round by round."""
    return list(map(attrgetter(name), taken))


def tell_lost(report: Report, name: str, samples: Sequence[Sample]) -> None:
    """Say how many streams came to no end, if any."""
    lost = [sample.lost for sample in samples]
    if any(lost):
        report.note(f"{name}: streams without an end, round by round: {lost}")
