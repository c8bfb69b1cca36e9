"""That the benchmark measures: small loads, on the pipe and on the service."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.benchmarks.measures import Load, flat_out, in_full_flow, paced
from tests.benchmarks.servers import MEMORY, PASSTHROUGH, Server, serving
from tests.benchmarks.upstream import Upstream

pytestmark = pytest.mark.anyio

BRIEF_S = 0.2


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
async def pipe(upstream: Upstream) -> AsyncIterator[Server]:
    async with serving(PASSTHROUGH, upstream.port) as server:
        yield server


@pytest.fixture
async def service(upstream: Upstream) -> AsyncIterator[Server]:
    async with serving(MEMORY, upstream.port) as server:
        yield server


async def test_a_pipe_is_measured_at_a_pace_and_flat_out(pipe: Server, upstream: Upstream) -> None:
    sample = await paced(pipe, upstream, Load(3, seconds=BRIEF_S, rate=100))
    assert sample.lost == 0
    assert sample.cpu_us > 0
    assert 0 < sample.p50_ms <= sample.p99_ms
    assert min(sample.p99_early_ms, sample.p99_late_ms) > 0
    assert sample.unevenness >= 1
    assert 0 <= sample.client <= 1
    sample = await flat_out(pipe, upstream, runs=2, block=16)
    assert (sample.lost, sample.cpu_us > 0, sample.events_s > 0) == (0, True, True)


async def test_the_service_is_measured_with_members_and_several_readers(
    service: Server, upstream: Upstream
) -> None:
    load = Load(2, seconds=BRIEF_S, rate=100, readers=3, delegates=True)
    sample = await paced(service, upstream, load)
    assert (sample.lost, sample.p50_ms > 0, sample.event_bytes > 0) == (0, True, True)
    sample = await in_full_flow(service, upstream, load)
    assert (sample.lost, sample.cpu_us > 0, sample.events_s > 0) == (0, True, True)
