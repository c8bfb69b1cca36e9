"""Which figures the picture is drawn of."""

from __future__ import annotations

from tests.benchmarks.plot import curves
from tests.benchmarks.report import LATENCY


def test_a_curve_is_a_server_s_p99_by_streams_and_of_nothing_else() -> None:
    rows = [
        {"part": part, "what": what, "of": of, "median": median}
        for part, what, of, median in (
            ("10 runs x 20 tokens a second", LATENCY.format(10), "memory", 1.0),
            ("350 runs x 20 tokens a second", LATENCY.format(350), "memory", 9.0),
            ("10 runs x 20 tokens a second", "added latency p50, 10 streams", "memory", 0.5),
            ("100 runs x 20 tokens a second, with keys", LATENCY.format(350), "memory", 7.0),
            ("10 runs x 20 tokens a second", LATENCY.format(10), "naive", 2.0),
        )
    ]
    assert curves(rows) == {"memory": [(10, 1.0), (350, 9.0)], "naive": [(10, 2.0)]}
