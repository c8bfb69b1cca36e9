"""The command: which parts are measured, in which order, and where the result goes."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvloop

from tests.benchmarks import (
    comparing,
    growing,
    keyed,
    observing,
    profiling,
    replicas,
    stopping,
    ways,
)
from tests.benchmarks.bench import Bench
from tests.benchmarks.origin import origin
from tests.benchmarks.report import Report
from tests.benchmarks.servers import (
    AGENTOS,
    CLIENT_CORE,
    MEMORY,
    NAIVE,
    PASSTHROUGH,
    SQLITE,
    Target,
    has_agentos,
    redis,
)
from tests.benchmarks.upstream import FLAT_OUT, Upstream
from tests.durability.server import tcp_valkey

MOST_S = 900.0
MOST_FULL_S = 5400.0
_STORED = 100_000
_ROUNDS = 5
_FEW = 3
"""Rounds of what takes minutes."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something to measure; `is_short` parts belong to the default form."""

    name: str
    measure: Callable[[], Awaitable[None]]
    is_short: bool = False


def main() -> None:
    """Measure what is asked for."""
    options = _options()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.sched_setaffinity(0, {CLIENT_CORE})
    uvloop.run(_measure(Report(origin()), options))


async def _measure(report: Report, options: argparse.Namespace) -> None:
    """Measure part by part; what was measured is saved though a later one takes too long."""
    most = MOST_FULL_S if options.full or options.only else MOST_S
    with tcp_valkey() as valkey:
        async with asyncio.timeout(most * max(1, options.rounds / _ROUNDS)), Upstream() as upstream:
            everything = _parts(report, upstream, options.rounds, redis(valkey.url))
            wanted = [part for part in everything if _is_wanted(part, options)]
            if not wanted:
                report.note(f"nothing to measure: --only one of {_names(everything)}")
            for part in wanted:
                report.section(part.name)
                upstream.allow(FLAT_OUT)
                await _carry_out(part, report)
                if options.json:
                    report.save(options.json)


def _is_wanted(part: Part, options: argparse.Namespace) -> bool:
    if options.only:
        return part.name.startswith(options.only)
    return part.is_short or options.full


async def _carry_out(part: Part, report: Report) -> None:
    """Measure a part; one that cannot be measured is said to be, and leaves the others alone."""
    try:
        await part.measure()
    except (TimeoutError, OSError) as error:
        report.note(f"{part.name}: could not be measured to its end: {error!r}")


def _names(parts: Sequence[Part]) -> str:
    return ", ".join(dict.fromkeys(part.name for part in parts))


def _parts(report: Report, upstream: Upstream, rounds: int, over_redis: Target) -> Sequence[Part]:
    bench = Bench(report, upstream, rounds or _ROUNDS)
    few = Bench(report, upstream, rounds or _FEW)
    ours = [MEMORY, SQLITE, over_redis]
    peers = [AGENTOS] if has_agentos() else []
    if not peers:
        report.note("AgentOS: not installed, see tests/benchmarks/__init__.py")
    everything = [PASSTHROUGH, NAIVE, *peers, *ours]
    return [
        Part("paced", partial(comparing.at_a_pace, bench, everything), is_short=True),
        Part("unpaced", partial(comparing.unpaced, bench, everything), is_short=True),
        Part("start", partial(growing.start, bench, SQLITE), is_short=True),
        Part("first event", partial(growing.first_event, bench, SQLITE), is_short=True),
        Part("cancels 200", partial(stopping.under_load, bench, SQLITE, 200), is_short=True),
        Part("cancels 350", partial(stopping.under_load, few, SQLITE, 350)),
        *(Part("cancels 500 at once", partial(stopping.at_once, few, each)) for each in ours),
        *(Part("cancels of all 500", partial(stopping.by_one_request, few, t)) for t in ours),
        Part("spread", partial(ways.spread, bench, [PASSTHROUGH, NAIVE, MEMORY])),
        Part("observed", partial(observing.cost, bench, MEMORY)),
        Part("delegation", partial(ways.delegated, few, [*peers, *ours])),
        Part("ten readers", partial(ways.crowded, few, ours)),
        Part("keys", partial(keyed.aims, few, ours, peers)),
        Part("profile", partial(profiling.shares, bench, MEMORY)),
        Part("profile of many", partial(profiling.shares, bench, MEMORY, 1000)),
        Part("runs held", partial(growing.runs_held, few, MEMORY)),
        Part("idle readers", partial(growing.idle_readers, few, SQLITE)),
        *(Part("long log", partial(growing.long_log, few, target)) for target in ours),
        *(Part("stored runs", partial(growing.stored_runs, few, each, _STORED)) for each in ours),
        Part("ladder paced", partial(comparing.ladder, few, everything)),
        Part("ladder unpaced", partial(comparing.ladder_unpaced, few, everything)),
        Part("replicas", partial(replicas.side_by_side, few, over_redis, 1000, 1)),
        Part("replicas", partial(replicas.side_by_side, few, over_redis, 1000, 2)),
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="everything, in about an hour")
    parser.add_argument("--only", default="", metavar="WORD", help="parts whose names begin so")
    rounds = f"medians of so many ({_ROUNDS}, or {_FEW} of what takes minutes)"
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help=rounds)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
