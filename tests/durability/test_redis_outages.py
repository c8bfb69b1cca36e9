"""Redis restarts, freezes and forgets everything, under load on two replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import anyio
import pytest
from anyio.to_thread import run_sync

from tests.cancellation.cases import slow_words
from tests.durability.amounts import amount
from tests.durability.load import driving
from tests.durability.mix import Mix
from tests.durability.probes import all_back, fails_closed
from tests.durability.server import TcpValkey, tcp_valkey
from tests.durability.stand import SEED, Stand, stand
from tests.durability.verdict import nothing_is_lost, stop_all
from tests.figures import FIGURES
from tests.upstream import Exchange, in_turn

pytestmark = pytest.mark.anyio

RESTARTS = amount(2, 2, 20)
FREEZES_S = amount(3, 5, 30), *((1, 5) if amount(0, 0, 1) else ())
PATIENCE_S = 5.0
"""For how long a run holds back what its store does not take."""
FORGETTING_S = 10.0
RUNS = 15
"""How many runs are started between two faults."""


@pytest.fixture(scope="module")
def shaken() -> Iterator[TcpValkey]:
    with tcp_valkey() as server:
        yield server


@pytest.fixture(scope="module")
async def made(shaken: TcpValkey) -> AsyncIterator[Stand]:
    async with stand(shaken.url, 2) as opened:
        yield opened


async def test_a_restart_costs_a_pause_and_no_run(made: Stand, shaken: TcpValkey) -> None:
    made.upstream.script = Mix(SEED).script
    pauses: list[float] = []
    async with driving(made) as load:
        for _ in range(RESTARTS):
            await load.started(RUNS)
            await run_sync(shaken.kill)
            await run_sync(shaken.start)
            pauses.append(await all_back(made))
        await load.started(RUNS)
        load.stop()
        await stop_all(made)
        ended = await nothing_is_lost(made, load)
    FIGURES.append(
        f"{RESTARTS} restarts of Redis: back after at most {max(pauses):.2f} s;"
        f" {dict(ended)}; asked: {dict(sorted(load.seen.items()))}"
    )
    assert set(ended) <= {"completed", "cancelled"}


@pytest.mark.parametrize("seconds", FREEZES_S)
async def test_a_freeze_is_told_in_time_and_gone_when_it_is_over(
    made: Stand, shaken: TcpValkey, seconds: float
) -> None:
    async with driving(made) as load:
        run_id, talker = await start_talker(made)
        made.upstream.script = Mix(SEED).script
        await load.started(RUNS)
        with shaken.frozen():
            thaw = anyio.current_time() + seconds
            refused = await fails_closed(made, run_id) if seconds > 2 else 0
            if seconds > 2 * PATIENCE_S:
                with anyio.fail_after(seconds - PATIENCE_S):
                    await talker.closed()
            await anyio.sleep_until(thaw)
        back = await all_back(made)
        await load.started(RUNS)
        load.stop()
        await stop_all(made)
        ended = await nothing_is_lost(made, load)
    if seconds < PATIENCE_S:
        assert set(ended) <= {"completed", "cancelled"}, "a short freeze costs no run"
    FIGURES.append(
        f"{seconds} s freeze of Redis: refused after {refused:.2f} s, back after {back:.2f} s;"
        f" {dict(ended)}; asked: {dict(sorted(load.seen.items()))}"
    )


async def start_talker(made: Stand) -> tuple[str, Exchange]:
    """Start a run that speaks on and on; return its id, and the call of its model."""
    made.upstream.script = in_turn(slow_words(0.02))
    before = len(made.upstream.exchanges)
    run_id = await made.start(made.url)
    call = await made.upstream.arrived(before + 1)
    await call.wrote(1)
    return run_id, call


async def test_what_redis_has_forgotten_is_gone_and_waited_for_by_nobody(
    made: Stand, shaken: TcpValkey
) -> None:
    made.upstream.script = Mix(SEED).script
    async with driving(made) as load:
        await load.started(RUNS)
        lost = list(load.acknowledged)
        calls = made.upstream.busy
        shaken.do("FLUSHALL")
        flushed = anyio.current_time()
        await all_back(made)
        await load.started(RUNS)
        with anyio.fail_after(FORGETTING_S):
            for call in calls:
                await call.over()
        load.stop()
        await stop_all(made)
        with anyio.fail_after(FORGETTING_S):
            await load.idle()
        for run_id in lost:
            for replica in made.replicas:
                answer = await made.client.get(f"{replica.url}/runs/{run_id}")
                assert answer.status_code == 404, answer.text
        load.forget(before=flushed)
        await nothing_is_lost(made, load)
