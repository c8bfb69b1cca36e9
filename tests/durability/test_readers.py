"""Readers that lose their connection at any byte and come back anywhere see the log, byte by byte.

Two replicas over one Valkey; every connection of every reader goes to either of them, so most of
what is read is written elsewhere.
"""

from __future__ import annotations

import anyio
import pytest

from tests.cancellation.cases import delegate, has_results, is_leader
from tests.durability.amounts import amount
from tests.durability.mix import words
from tests.durability.returning import Returning
from tests.durability.stand import Stand
from tests.durability.verdict import ended_once, log_at
from tests.figures import FIGURES
from tests.upstream import Json, Plan

pytestmark = pytest.mark.anyio

RUNS = amount(10, 20, 200)
READERS = 10
RUNS_AT_ONCE = 10
LONGEST_BYTES = 6000
"""How much of a connection is read at most: a third of a log, or so."""


def two_members(body: Json, _: int) -> Plan:
    return (
        delegate("storyteller", "editor") if is_leader(body) and not has_results(body) else words()
    )


async def test_readers_that_are_cut_at_any_byte_see_the_log(pair: Stand) -> None:
    pair.upstream.script = two_members
    places = anyio.CapacityLimiter(RUNS_AT_ONCE)
    connections: list[int] = []

    async def one() -> None:
        async with places:
            connections.extend(await read_one_run(pair))

    with anyio.fail_after(60 + 2 * RUNS):
        async with anyio.create_task_group() as group:
            for _ in range(RUNS):
                group.start_soon(one)
    FIGURES.append(
        f"cut readers: {RUNS} runs x {READERS} readers, {sum(connections)} connections,"
        " every reader's bytes the log's"
    )
    assert sum(connections) > 2 * RUNS * READERS, "hardly a connection was cut"


async def read_one_run(made: Stand) -> list[int]:
    """Read a run with all readers to its end; return how often each had to connect."""

    def cut() -> int:
        return made.chance.randrange(LONGEST_BYTES)

    run_id = await made.start(made.url)
    readers = [Returning(made, run_id, cut) for _ in range(READERS)]
    async with anyio.create_task_group() as group:
        for reader in readers:
            group.start_soon(reader.read)
    await ended_once(made, run_id)
    logs = [await log_at(made, replica.url, run_id) for replica in made.replicas]
    assert logs[0] == logs[1]
    for reader in readers:
        assert bytes(reader.frames) == logs[0]
    return [reader.connections for reader in readers]
