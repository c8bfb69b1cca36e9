"""DELETE at every moment of a run's life, at its owner and at another replica.

The answer never contradicts the log, and what a 202 promised is kept. How long it takes until the
model's connection is closed, when somebody else than the owner is asked, is told.
"""

from __future__ import annotations

from collections import Counter
from statistics import median, quantiles
from time import perf_counter

import anyio
import httpx
import pytest

from tests.cancellation.cases import delegate, has_results, is_leader
from tests.durability.amounts import amount
from tests.durability.server import TcpValkey
from tests.durability.stand import Stand
from tests.durability.verdict import ended_once
from tests.figures import FIGURES
from tests.upstream import Hold, Json, Plan, Say, in_turn

pytestmark = pytest.mark.anyio

SWEPT = amount(60, 200, 2000)
"""DELETEs in all, half of them at the owner."""
STEP_S = 0.001
FEWEST_STEPS = 20
MEASURED = amount(20, 50, 300)
DEAF = amount(3, 10, 50)
PROMISED_S, DEAF_PROMISED_S = 0.05, 2.0
"""Aims; of the first, five times as much is asserted of the median."""


def short_life(body: Json, _: int) -> Plan:
    """A member, then an answer: some 50 ms."""
    if is_leader(body) and not has_results(body):
        return delegate("editor")
    return [Say(*"abcdefgh", every_s=STEP_S)]


@pytest.mark.parametrize("other", [0, 1], ids=["at the owner", "at the other replica"])
async def test_a_cancel_at_any_moment_is_answered_truly(pair: Stand, other: int) -> None:
    pair.upstream.script = short_life
    answered: Counter[int] = Counter()
    steps = max(FEWEST_STEPS, round(await life_s(pair) * 1.2 / STEP_S))
    for number in range(SWEPT // 2):
        place = number if steps <= SWEPT // 2 else number * steps // (SWEPT // 2)
        owner, asked = pair.replicas[0].url, pair.replicas[other].url
        run_id = await pair.start(owner)
        await anyio.sleep(place % steps * STEP_S)  # the instant is the case
        if number == SWEPT // 2 - 1:  # one is too late, however long lives are on a busy machine
            await pair.settled(owner, run_id)
        answer = await pair.client.delete(f"{asked}/runs/{run_id}")
        answered[answer.status_code] += 1
        await is_true(pair, answer, run_id)
    where = "other replica" if other else "owner"
    FIGURES.append(f"DELETE sweep of {steps} ms at the {where}: {dict(sorted(answered.items()))}")
    assert answered[202]
    assert answered[409]
    assert set(answered) <= {200, 202, 409}


async def life_s(made: Stand) -> float:
    """How long a run lives that nobody stops, from the answer to its start."""
    run_id = await made.start(made.replicas[0].url)
    begin = anyio.current_time()
    await made.settled(made.replicas[0].url, run_id)
    return anyio.current_time() - begin


async def is_true(made: Stand, answer: httpx.Response, run_id: str) -> None:
    """Hold an answer to DELETE against what became of the run, at both replicas."""
    for replica in made.replicas:
        run = await ended_once(made, run_id, replica.url)
        if answer.status_code == 409:
            told = answer.json()["run"]
            assert {key: told[key] for key in ("status", "content", "last_event_id")} == {
                key: run[key] for key in ("status", "content", "last_event_id")
            }
            assert run["status"] != "cancelled"
        else:
            expected = "cancelling" if answer.status_code == 202 else "cancelled"
            assert answer.json()["status"] == expected
            assert run["status"] == "cancelled", "the promise was broken"


async def test_a_cancel_elsewhere_closes_the_models_stream(pair: Stand) -> None:
    took = sorted([await stop_elsewhere(pair) for _ in range(MEASURED)])
    tell("DELETE at the other replica", took)
    assert median(took) < 5 * PROMISED_S


async def test_a_cancel_elsewhere_needs_no_pubsub(pair: Stand, valkey: TcpValkey) -> None:
    with valkey.mute():
        took = sorted([await stop_elsewhere(pair) for _ in range(DEAF)])
    tell("the same without pub/sub", took)
    assert took[-1] < 2 * DEAF_PROMISED_S  # a busy machine may take as long again


async def stop_elsewhere(made: Stand) -> float:
    """Return how long it took, from a DELETE at a replica, until the owner's model was left.

    The model is silent, so the run has no append of its own from which it could learn of the flag.
    """
    made.upstream.script = in_turn([Say("Once"), Hold()])
    owner, other = made.replicas
    before = len(made.upstream.exchanges)
    run_id = await made.start(owner.url)
    with anyio.fail_after(10):
        call = await made.upstream.arrived(before + 1)
        await call.wrote(1)
        pressed = perf_counter()
        answer = await made.client.delete(f"{other.url}/runs/{run_id}")
        assert answer.status_code in (200, 202), answer.text  # 200: it has ended meanwhile
        closed_at = await call.closed()
    assert (await ended_once(made, run_id, other.url))["status"] == "cancelled"
    return closed_at - pressed


def tell(what: str, took: list[float]) -> None:
    p99 = quantiles(took, n=100, method="inclusive")[98]
    FIGURES.append(
        f"{what}: model's stream closed after p50 {median(took) * 1000:.1f}"
        f" p99 {p99 * 1000:.1f} max {took[-1] * 1000:.1f} ms (n={len(took)})"
    )
