"""The aims once more, where a key is asked for and all that a tenant may have is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from tests.benchmarks import stopping
from tests.benchmarks.bench import Bench
from tests.benchmarks.comparing import Samples, in_turn
from tests.benchmarks.measures import Load, Sample, paced
from tests.benchmarks.servers import PASSTHROUGH, Target

SECTION: Final = "100 runs x 20 tokens a second, with keys and limits on"
_KEY: Final = "a-key-of-the-benchmark"


async def aims(bench: Bench, memory: Target, sqlite: Target) -> None:
    """Measure what an event costs, how late it is, and how soon a run is stopped."""
    keyed, stored = _keyed(memory), _keyed(sqlite)
    measure = partial(paced, upstream=bench.upstream, load=Load())
    samples = await in_turn(bench, [PASSTHROUGH, memory, keyed, stored], measure)
    bench.report.section(SECTION)
    for name, taken in samples.items():
        bench.report.add("CPU per event", name, "µs", [sample.cpu_us for sample in taken])
    for above, below, aim in (
        (keyed, memory, "≤ 1.05"),
        (keyed, PASSTHROUGH, "≤ 3.5 (further 2.5)"),
        (stored, keyed, "≤ 1.6 (1.3)"),
    ):
        name = f"{above.name} / {below.name}"
        bench.report.add("CPU, ratio", name, "x", _ratios(samples, above, below), aim)
    late = samples[stored.name]
    bench.report.add("added latency p50", stored.name, "ms", [each.p50_ms for each in late], "≤ 5")
    bench.report.add("added latency p99", stored.name, "ms", [each.p99_ms for each in late], "≤ 30")
    await _many(bench, [keyed, stored])
    await stopping.under_load(bench, stored, 200)
    await stopping.at_once(bench, stored)


async def _many(bench: Bench, targets: Sequence[Target], runs: int = 350) -> None:
    measure = partial(paced, upstream=bench.upstream, load=Load(runs))
    for name, taken in (await in_turn(bench, targets, measure)).items():
        waits_ms = [sample.p99_ms for sample in taken]
        bench.report.add(f"added latency p99, {runs} streams", name, "ms", waits_ms, "< 100")


def _keyed(target: Target) -> Target:
    limits = {"MAX_RUNS_PER_TENANT": "1000", "MAX_READERS": "1000"}
    named = target.with_settings(f"{target.name}, keys", API_KEYS=f"tenant:{_KEY}", **limits)
    return replace(named, key=_KEY)


def _ratios(samples: Samples, above: Target, below: Target) -> list[float]:
    pairs: Sequence[tuple[Sample, Sample]] = list(
        zip(samples[above.name], samples[below.name], strict=True)
    )
    return [a.cpu_us / b.cpu_us for a, b in pairs]
