"""kill -9 at any moment, under load: what was acknowledged is there, and has ended once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

import anyio
import pytest

from tests.durability.amounts import amount
from tests.durability.load import Load, driving
from tests.durability.mix import Mix
from tests.durability.server import tcp_valkey
from tests.durability.stand import SEED, stand
from tests.durability.verdict import nothing_is_lost
from tests.figures import FIGURES
from tests.service import START_S

pytestmark = pytest.mark.anyio

SQLITE_KILLS = amount(2, 10, 100)
REDIS_KILLS = amount(1, 5, 50)
RUNS_A_ROUND = 30
ASKED_AT_ONCE = 20
LEASE_TTL_S = 2.0
SLACK_S = 5.0
"""How long after the end of a lease, or after a start, runs may still be without their end."""


async def test_runs_in_a_file_outlive_the_kill_of_their_process(tmp_path: Path) -> None:
    took: list[float] = []
    async with stand(f"sqlite:{tmp_path}/runs.db") as made, driving(made) as load:
        made.upstream.script = Mix(SEED).script
        (replica,) = made.replicas
        for _ in range(SQLITE_KILLS):
            await a_random_moment(load)
            its_own = load.unfinished_at(replica.url)
            await replica.kill()
            since = time.time()
            await replica.start()
            took.append(await until_ended(load, its_own, since))
        load.stop()
        await replica.kill()
        await replica.start()
        ended = await nothing_is_lost(made, load)
    assert max(took) < START_S + SLACK_S
    tell("SQLite, from the new process on", load, took, ended)


async def test_runs_in_redis_outlive_the_kill_of_a_replica() -> None:
    took: list[float] = []
    ttl_s = str(LEASE_TTL_S)
    with tcp_valkey() as valkey:
        async with stand(valkey.url, 2, LEASE_TTL_S=ttl_s) as made, driving(made) as load:
            made.upstream.script = Mix(SEED).script
            for _ in range(REDIS_KILLS):
                await a_random_moment(load)
                killed = made.chance.choice(made.replicas)
                its_own = load.unfinished_at(killed.url)
                since = time.time()
                await killed.kill()
                took.append(await until_ended(load, its_own, since))
                await killed.start()
            load.stop()
            for replica in made.replicas:
                await replica.kill()
            await made.replicas[0].start()
            ended = await nothing_is_lost(made, load)
    assert max(took) < LEASE_TTL_S + SLACK_S
    tell("Redis, two replicas, from the kill on", load, took, ended)


async def a_random_moment(load: Load) -> None:
    await load.started(load.stand.chance.randrange(5, RUNS_A_ROUND))
    await anyio.sleep(load.stand.chance.uniform(0, 0.05))  # between two starts, too


async def until_ended(load: Load, run_ids: Sequence[str], since: float) -> float:
    """Return how many seconds after a moment, in Unix time, the last of these runs has ended.

    Whoever waits for a run is to be told soon after its end.
    """
    places = anyio.CapacityLimiter(ASKED_AT_ONCE)
    ends = [since]

    async def one(run_id: str) -> None:
        async with places:
            asked = time.time()
            run = await load.stand.settled(load.stand.url, run_id)
            assert run["finished_at"] is not None, run
            ends.append(datetime.fromisoformat(run["finished_at"]).timestamp())
            assert time.time() < max(asked, ends[-1]) + SLACK_S, "nobody was told"
            load.seen_to_end.add(run_id)

    async with anyio.create_task_group() as group:
        for run_id in run_ids:
            group.start_soon(one, run_id)
    return max(ends) - since


def tell(what: str, load: Load, took: Sequence[float], ended: Counter[str]) -> None:
    assert ended["interrupted"], "no kill met a run"
    assert ended["cancelled"], "nothing was promised"
    FIGURES.append(
        f"kill -9, {what}: {len(took)} kills, all runs ended after p50 {median(took):.2f}"
        f" max {max(took):.2f} s; {dict(ended)}; asked: {dict(sorted(load.seen.items()))}"
    )
