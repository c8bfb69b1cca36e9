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
from tests.benchmarks.comparing import Samples, in_turn
from tests.benchmarks.measures import Load, flat_out, paced
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
    _add_ratio(bench, samples, memory, MEMORY, "≤ 1.05")
    _add_ratio(bench, samples, memory, PASSTHROUGH, "≤ 3.5 (further 2.5)")
    _add_ratio(bench, samples, NAIVE, memory, "≥ 2.8")
    for peer in peers:
        _add_ratio(bench, samples, peer, memory, "≥ 3")
    _add_ratio(bench, samples, sqlite, memory, "≤ 1.6 (1.3)")
    _add_ratio(bench, samples, redis, memory, "≤ 1.8 (1.3)")
    for each in (sqlite, redis):
        for what, name, aim in (("p50", "p50_ms", "≤ 5"), ("p99", "p99_ms", "≤ 30")):
            waits_ms = [getattr(sample, name) for sample in samples[each.name]]
            bench.report.add(f"added latency {what}", each.name, "ms", waits_ms, aim)
    await _many(bench, keyed)
    await stopping.under_load(bench, sqlite, 200)
    await stopping.under_load(bench, sqlite, 350)
    for each in keyed:
        await stopping.at_once(bench, each)
    await _flat_out(bench, memory)


async def _many(bench: Bench, targets: Sequence[Target], runs: int = 350) -> None:
    measure = partial(paced, upstream=bench.upstream, load=Load(runs))
    for name, taken in (await in_turn(bench, targets, measure)).items():
        waits_ms = [sample.p99_ms for sample in taken]
        bench.report.add(f"added latency p99, {runs} streams", name, "ms", waits_ms, "< 100")


async def _flat_out(bench: Bench, memory: Target) -> None:
    measure = partial(flat_out, upstream=bench.upstream, runs=10, block=1)
    samples = await in_turn(bench, [PASSTHROUGH, NAIVE, memory], measure)
    bench.report.section(FLAT_OUT)
    _add_ratio(bench, samples, memory, PASSTHROUGH, "≤ 8 (further 5)")
    _add_ratio(bench, samples, NAIVE, memory, "≥ 20")


def _keyed(target: Target) -> Target:
    limits = {"MAX_RUNS_PER_TENANT": "1000", "MAX_READERS": "1000"}
    named = target.with_settings(f"{target.name}, keys", API_KEYS=f"tenant:{_KEY}", **limits)
    return replace(named, key=_KEY)


def _add_ratio(bench: Bench, samples: Samples, above: Target, below: Target, aim: str) -> None:
    pairs = zip(samples[above.name], samples[below.name], strict=True)
    ratios = [a.cpu_us / b.cpu_us for a, b in pairs]
    bench.report.add("CPU, ratio", f"{above.name} / {below.name}", "x", ratios, aim)
