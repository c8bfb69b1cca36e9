"""How many runs there may be: on a replica, and of one tenant; and who comes first."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from app.domain.errors import Overloaded, TooManyRuns
from app.domain.run import Run
from app.domain.status import Status
from app.models.scripted import Until
from app.runtime.admission import Unfinished
from app.runtime.orders import Order
from app.runtime.runner import Capacity
from tests.runtime.playing import Cast, playing

pytestmark = pytest.mark.anyio


def admitted(unfinished: Unfinished, tenant: str, count: int) -> int:
    """Try so many times; return how many were taken in."""
    taken = 0
    for number in range(count):
        try:
            unfinished.admit(f"{tenant}{number}", tenant)
        except TooManyRuns:
            continue
        taken += 1
    return taken


@pytest.mark.parametrize("tries", [3, 4, 300])
def test_a_tenant_gets_as_many_runs_as_it_may_have_and_no_more(tries: int) -> None:
    unfinished = Unfinished(total=1000, per_tenant=3)
    assert admitted(unfinished, "a", tries) == 3
    assert admitted(unfinished, "b", tries) == 3
    unfinished.discard("a0")
    assert admitted(unfinished, "a", 1) == 1


def test_without_a_limit_per_tenant_there_is_the_replicas() -> None:
    unfinished = Unfinished(total=3)
    assert admitted(unfinished, "a", 3) == 3
    with pytest.raises(Overloaded):
        unfinished.admit("b0", "b")


async def test_when_all_have_ended_whoever_waits_for_it_is_told() -> None:
    unfinished = Unfinished(total=3)
    for run_id in ("1", "2"):
        unfinished.admit(run_id, "a")
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(unfinished.none_left)
            await checkpoint()
            for run_id in list(unfinished):
                unfinished.discard(run_id)


async def test_one_tenants_flood_never_starves_another() -> None:
    gate = anyio.Event()
    cast = Cast(lambda request: [Until(gate)] if "wait" in str(request.conversation) else [])
    async with playing(cast, capacity=Capacity(running=1, pending=1000)) as stage:
        first = await stage.start(Order("wait", tenant="flood"))
        flood = [await stage.start(Order("Go.", tenant="flood")) for _ in range(50)]
        other = await stage.start(Order("Go.", tenant="other"))
        await stage.until(first, lambda: first.status is Status.RUNNING)
        gate.set()
        await stage.until(other, lambda: other.status.is_final)
        assert sum(run.status.is_final for run in flood) <= 2
        for run in flood:
            await stage.log(run)
    assert_all_completed([first, other, *flood])


def assert_all_completed(runs: list[Run]) -> None:
    assert {run.status for run in runs} == {Status.COMPLETED}
