"""Our histogram beside the library's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from app.telemetry.distributions import Distribution

BOUNDS = (0.5, 1.0, 25.0)
VALUES = st.one_of(st.sampled_from([0.0, *BOUNDS]), st.floats(0, 1e6))


@given(st.lists(VALUES, max_size=20))
def test_it_reads_like_the_library_s(values: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    distribution = Distribution("a_seconds", "A sentence.", BOUNDS)
    ours.register(distribution)
    histogram = Histogram("a_seconds", "A sentence.", registry=theirs, buckets=BOUNDS)
    for value in values:
        distribution.observe(value)
        histogram.observe(value)
    lines = generate_latest(theirs).splitlines()
    assert generate_latest(ours).splitlines() == [line for line in lines if b"_created" not in line]
