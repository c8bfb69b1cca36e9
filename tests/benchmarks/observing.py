"""What figures, log lines and traces that are off cost: the service beside itself without them."""

from __future__ import annotations

from functools import partial
from typing import Final

from tests.benchmarks.bench import Bench
from tests.benchmarks.comparing import add, in_turn
from tests.benchmarks.measures import Load, flat_out, paced
from tests.benchmarks.servers import Target

_AIM: Final = "≤ 1.05"


async def cost(bench: Bench, target: Target) -> None:
    """Compare at a model's pace, and flat out, with the log as it is by default."""
    target = target.with_settings(target.name, LOG_LEVEL="info")
    bare = Target(
        "unobserved",
        target.marker,
        target.flood,
        ("-m", "tests.benchmarks.unobserved"),
        settings=target.settings,
        path=target.path,
    )
    for name, measure in {
        "100 runs x 20 tokens a second": partial(paced, upstream=bench.upstream, load=Load()),
        "10 runs flat out": partial(flat_out, upstream=bench.upstream, runs=10, block=1),
    }.items():
        samples = await in_turn(bench, (target, bare), measure)
        bench.report.section(f"observed (figures, log; traces off) or not, {name}")
        for each, taken in samples.items():
            add(bench.report, "CPU per event", each, taken, "cpu_us")
        observed, without = (samples[each.name] for each in (target, bare))
        ratios = [a.cpu_us / b.cpu_us for a, b in zip(observed, without, strict=True)]
        bench.report.add("CPU per event, observed ÷ unobserved", target.name, "x", ratios, _AIM)
