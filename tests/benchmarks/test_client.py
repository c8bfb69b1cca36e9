"""That the benchmark's reader counts and times what it reads, wherever the network cuts it."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from tests.benchmarks.client import Reader, Tally, percentile
from tests.benchmarks.upstream import stamp

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nx-run-id: 12345678-1234-4123-8123-123456789abc\r\n\r\n"
END = b"event: Final\n\n\r\n0\r\n\r\n"


class Wire(asyncio.Transport):
    """Takes what is sent, and nothing else happens."""

    def write(self, data: object) -> None:
        pass

    def close(self) -> None:
        pass


def said(*waits_us: int) -> bytes:
    """Return deltas that were written so long ago."""
    now = stamp()
    return b"".join(b"event: Delta\ndata: @%015d#\n\n" % (now - wait) for wait in waits_us)


async def read(chunks: list[bytes]) -> tuple[Reader, Tally]:
    tally = Tally(b"event: Delta\n", b"event: Final")
    tally.counts = True
    reader = Reader(b"", tally)
    reader.connection_made(cast(asyncio.BaseTransport, Wire()))
    for chunk in chunks:
        reader.data_received(chunk)
    reader.connection_lost(None)
    return reader, tally


async def test_each_delta_is_counted_and_timed_once_wherever_a_stream_is_cut() -> None:
    for place in range(1, len(HEAD + said(0, 0, 0) + END)):
        stream = HEAD + said(5_000_000, 7_000_000, 9_000_000) + END
        reader, tally = await read([stream[:place], stream[place:]])
        assert tally.events == 3, place
        assert [wait // 1_000_000 for wait in tally.latencies_us] == [5, 7, 9], place
        assert reader.latencies_us == tally.latencies_us
        assert reader.ended.result() is True
        assert reader.run_id == "12345678-1234-4123-8123-123456789abc"


async def test_a_stream_that_comes_byte_by_byte_is_the_same_stream() -> None:
    stream = HEAD + said(5_000_000, 7_000_000) + END
    reader, tally = await read([stream[at : at + 1] for at in range(len(stream))])
    assert (tally.events, len(tally.latencies_us), tally.bytes) == (2, 2, len(stream))
    assert reader.begun.done()


@pytest.mark.parametrize(
    "stream", [HEAD + said(1), HEAD + said(1) + b"0\r\n\r\n", HEAD + said(1) + END[:-2]]
)
async def test_a_stream_without_its_final_event_and_end_is_lost(stream: bytes) -> None:
    reader, _ = await read([stream])
    assert reader.ended.result() is False


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 3), (0.99, 5), (1.0, 5)])
def test_a_percentile_is_one_of_the_values(share: float, value: int) -> None:
    assert percentile([5, 1, 4, 2, 3], share) == value
    assert percentile([], share) == 0
