"""The aims that a key could touch, once more: with one asked for, and a tenant's things counted.

Memory, logs, starts and sizes are the same with keys and without, and not measured again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from tests.benchmarks import stopping
from tests.benchmarks.bench import Bench
from tests.benchmarks.comparing import add, add_ratio, in_turn
from tests.benchmarks.measures import Load, flat_out, paced
from tests.benchmarks.report import LATENCY
from tests.benchmarks.servers import MEMORY, NAIVE, PASSTHROUGH, Target

PACED: Final = "100 runs x 20 tokens a second, with keys and limits on"
FLAT_OUT: Final = "10 runs flat out, 1 a write, with keys and limits on"
_KEY: Final = "a-key-of-the-benchmark"


async def aims(bench: Bench, stores: Sequence[Target], peers: Sequence[Target]) -> None:
    """Measure what an event costs, how late it is, and how soon runs are stopped."""
    keyed = [_keyed(store) for store in stores]
    memory, sqlite, redis = keyed
    measure = partial(paced, upstream=bench.upstream, load=Load())
    samples = await in_turn(bench, [PASSTHROUGH, NAIVE, *peers, MEMORY, *keyed], measure)
    bench.report.section(PACED)
    add_ratio(bench.report, samples, memory.name, MEMORY.name, "≤ 1.05")
    add_ratio(bench.report, samples, memory.name, PASSTHROUGH.name, "≤ 3.5 (further 2.5)")
    add_ratio(bench.report, samples, NAIVE.name, memory.name, "≥ 2.8")
    for peer in peers:
        add_ratio(bench.report, samples, peer.name, memory.name, "≥ 3")
    add_ratio(bench.report, samples, sqlite.name, memory.name, "≤ 1.6 (1.3)")
    add_ratio(bench.report, samples, redis.name, memory.name, "≤ 1.8 (1.3)")
    for each in (sqlite, redis):
        for what, name, aim in (("p50", "p50_ms", "≤ 5"), ("p99", "p99_ms", "≤ 30")):
            taken = samples[each.name]
            add(bench.report, f"added latency {what}", each.name, taken, name, aim=aim)
    await _many(bench, keyed)
    await stopping.under_load(bench, sqlite, 200)
    await stopping.under_load(bench, sqlite, 350)
    for each in keyed:
        await stopping.at_once(bench, each)
    await _flat_out(bench, memory)


async def _many(bench: Bench, targets: Sequence[Target], runs: int = 350) -> None:
    measure = partial(paced, upstream=bench.upstream, load=Load(runs))
    for name, taken in (await in_turn(bench, targets, measure)).items():
        add(bench.report, LATENCY.format(runs), name, taken, "p99_ms", aim="< 100")


async def _flat_out(bench: Bench, memory: Target) -> None:
    measure = partial(flat_out, upstream=bench.upstream, runs=10, block=1)
    samples = await in_turn(bench, [PASSTHROUGH, NAIVE, memory], measure)
    bench.report.section(FLAT_OUT)
    add_ratio(bench.report, samples, memory.name, PASSTHROUGH.name, "≤ 8 (further 5)")
    add_ratio(bench.report, samples, NAIVE.name, memory.name, "≥ 20")


def _keyed(target: Target) -> Target:
    limits = {"MAX_RUNS_PER_TENANT": "1000", "MAX_READERS": "1000"}
    named = target.with_settings(f"{target.name}, keys", API_KEYS=f"tenant:{_KEY}", **limits)
    return replace(named, key=_KEY)
