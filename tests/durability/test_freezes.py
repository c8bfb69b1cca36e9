"""An owner that is frozen past its lease, and wakes up: its runs have ended, once, without it."""

from __future__ import annotations

import anyio
import pytest

from tests.cancellation.cases import delegate, has_results, is_leader, slow_words
from tests.durability.amounts import amount
from tests.durability.returning import Returning
from tests.durability.server import TcpValkey
from tests.durability.stand import Stand, stand
from tests.durability.verdict import ended_once, log_at
from tests.figures import FIGURES
from tests.upstream import Hold, Json, Plan, Say

pytestmark = pytest.mark.anyio

FREEZES = amount(1, 2, 20)
LEASE_TTL_S = 2.0
SLACK_S = 5.0
"""How long after its lease's end a run may be without its end."""
LEAVING_S = 5.0
"""How long an owner that wakes up may need to leave its models; bounds the wait for a defect."""
KINDS = 3
"""Per freeze: a run whose member speaks, one whose model is silent, and one that was stopped."""


def endless(body: Json, number: int) -> Plan:
    if not is_leader(body):
        return slow_words(0.02)
    if number % KINDS and not has_results(body):
        return delegate("editor")
    return [Say("Once"), Hold()]


async def test_an_owner_that_wakes_up_after_its_lease_changes_nothing(valkey: TcpValkey) -> None:
    ends: list[float] = []
    left: list[float] = []
    async with stand(valkey.url, 2, LEASE_TTL_S=str(LEASE_TTL_S)) as made:
        made.upstream.script = endless
        for _ in range(FREEZES):
            took = await freeze_once(made)
            ends.append(took[0])
            left.append(took[1])
            made.replicas.reverse()
    FIGURES.append(
        f"SIGSTOP past the lease, {FREEZES} times: runs ended after at most {max(ends):.1f} s,"
        f" models left {max(left):.2f} s after SIGCONT"
    )
    assert max(ends) < LEASE_TTL_S + SLACK_S


async def freeze_once(made: Stand) -> tuple[float, float]:
    """Freeze the first replica; return how long until its runs ended, and until it let them go."""
    owner, other = made.replicas
    run_ids = await start_at(made, owner.url)
    readers = [Returning(made, run_id) for run_id in run_ids]
    async with anyio.create_task_group() as group:
        for reader in readers:
            group.start_soon(reader.read)
        with anyio.fail_after(10):
            while not all(each.has_begun for each in readers):  # noqa: ASYNC110 - many tasks' doing
                await anyio.sleep(0.01)
        owner.freeze()
        begin = anyio.current_time()
        answer = await made.client.delete(f"{other.url}/runs/{run_ids[0]}")
        assert answer.status_code == 202, answer.text  # nobody can have ended it yet
        logs = [await ended_elsewhere(made, other.url, run_id) for run_id in run_ids]
        ended = anyio.current_time() - begin
        owner.wake()
        left = await all_left(made)
    for run_id, reader, log in zip(run_ids, readers, logs, strict=True):
        assert reader.frames == log
        for replica in made.replicas:
            assert (await ended_once(made, run_id, replica.url))["status"] != "completed"
            assert await log_at(made, replica.url, run_id) == log, "somebody wrote after the end"
    return ended, left


async def start_at(made: Stand, url: str) -> list[str]:
    """Start runs that do not end, and return when all of them are at their models."""
    before = len(made.upstream.exchanges)
    run_ids = [await made.start(url) for _ in range(KINDS)]
    with anyio.fail_after(10):
        await made.upstream.arrived(before + KINDS)
    return run_ids


async def ended_elsewhere(made: Stand, url: str, run_id: str) -> bytes:
    run = await made.settled(url, run_id)
    assert run["finished_at"], run
    return await log_at(made, url, run_id)


async def all_left(made: Stand) -> float:
    """Return how long it took until no model's stream was open any more."""
    begin = anyio.current_time()
    with anyio.fail_after(LEAVING_S):
        await made.upstream.idle()
    return anyio.current_time() - begin
