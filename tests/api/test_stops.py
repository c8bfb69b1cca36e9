"""Stopping many runs, and removing one; one at a time is `test_runs.py`'s."""

from __future__ import annotations

import anyio
import httpx
import pytest
from anyio.lowlevel import checkpoint

from app.api.stops import SIDE_BY_SIDE
from app.domain.run import Cancel, MemberRun, Run
from app.models.scripted import Say, Until
from app.runtime.runner import Capacity
from app.stores.memory import MemoryStore
from tests.api.serving import Served, services_for, serving
from tests.contract.test_store import request_for
from tests.runtime.playing import Cast, delegating_to, saying

pytestmark = pytest.mark.anyio


def stuck() -> Cast:
    return Cast(delegating_to("writer"), {"writer": lambda _: [Say("Once "), Until(anyio.Event())]})


class Together(MemoryStore):
    """Raises the flags of so many runs when it has been asked for all of them."""

    def __init__(self, runs: int) -> None:
        super().__init__()
        self._missing = runs
        self._has_all = anyio.Event()

    async def request_cancel(self, run_id: str, cancel: Cancel) -> Run | MemberRun | None:
        self._missing -= 1
        if not self._missing:
            self._has_all.set()
        await self._has_all.wait()
        return await super().request_cancel(run_id, cancel)


class Asked(MemoryStore):
    """Knows how many flags it was asked to raise at most while it raised one."""

    now = most = total = 0

    async def request_cancel(self, run_id: str, cancel: Cancel) -> Run | MemberRun | None:
        self.total += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await checkpoint()
        self.now -= 1
        return await super().request_cancel(run_id, cancel)


async def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def member_of(served: Served, run_id: str) -> str:
    run = await served.run(run_id)
    with anyio.fail_after(10), served.services.store.watch(run_id) as hint:
        while not run.members:
            await hint.wait()
    return next(iter(run.members))


# --- many -----------------------------------------------------------------------------------------


async def test_all_runs_that_have_not_ended_are_stopped_those_that_wait_too() -> None:
    services = services_for(stuck(), capacity=Capacity(running=2))
    async with serving(services=services) as served:
        started = [await served.start() for _ in range(4)]
        answer = await served.client.delete("/runs?all=true&reason=enough")
        assert answer.status_code == 202
        assert answer.json() == {"runs": started[::-1]}
        for run_id in started:
            run = await served.ended(run_id)
            assert (run.status, run.cancel and run.cancel.reason) == ("cancelled", "enough")
        assert (await served.client.delete("/runs?all=true")).json() == {"runs": []}


async def test_they_are_asked_side_by_side_so_that_a_store_may_take_them_together() -> None:
    services = services_for(stuck(), store=Together(3))
    async with serving(services=services) as served:
        started = [await served.start() for _ in range(3)]
        with anyio.fail_after(5):
            answer = await served.client.delete("/runs?all=true")
        assert answer.json() == {"runs": started[::-1]}


async def test_of_very_many_only_so_many_are_asked_together_that_a_store_can_answer_in_time() -> (
    None
):
    store = Asked()
    requests = [request_for() for _ in range(2 * SIDE_BY_SIDE + 1)]
    for request in requests:
        await store.create(request)
    async with serving(services=services_for(stuck(), store=store)) as served:
        answer = await served.client.delete("/runs?all=true")
    assert answer.json() == {"runs": [request.run_id for request in reversed(requests)]}
    assert (store.total, store.most) == (len(requests), SIDE_BY_SIDE)


async def test_only_the_sessions_runs_are_stopped() -> None:
    async with serving(stuck()) as served:
        mine, other, none = (
            await served.start(session_id="mine"),
            await served.start(session_id="other"),
            await served.start(),
        )
        answer = await served.client.delete("/runs?session_id=mine")
        assert answer.json() == {"runs": [mine]}
        await served.ended(mine)
        assert [(await served.run(run_id)).cancel for run_id in (other, none)] == [None, None]
        assert (await served.client.delete("/runs?session_id=unknown")).json() == {"runs": []}


async def test_a_run_that_is_being_stopped_is_told_again_and_keeps_its_reason() -> None:
    async with serving(stuck()) as served:
        run_id = await served.start()
        await served.client.delete(f"/runs/{run_id}?reason=first")
        stopped = (await served.client.delete("/runs?all=true&reason=second")).json()["runs"]
        assert stopped in ([run_id], [])  # it may have ended in between
        cancel = (await served.ended(run_id)).cancel
        assert cancel is not None
        assert cancel.reason == "first"


@pytest.mark.parametrize(
    "query",
    [
        *("", "?all=false", "?session_id=s&all=true", "?all=yes", "?all=1", "?reason=x"),
        f"?all=true&reason={'x' * 201}",
    ],
)
async def test_what_is_to_be_stopped_must_be_said_in_one_way(query: str) -> None:
    async with serving(stuck()) as served:
        run_id = await served.start()
        await refused(await served.client.delete(f"/runs{query}"), 422, "invalid_request")
        assert (await served.run(run_id)).cancel is None


# --- removing -------------------------------------------------------------------------------------


async def test_a_purged_run_is_gone_from_everywhere() -> None:
    async with serving(Cast(saying("A secret."))) as served:
        headers = {"Idempotency-Key": "k"}
        body = {"input": "Mine.", "session_id": "s"}
        first = await served.client.post("/runs?wait=10", json=body, headers=headers)
        path = first.json()["links"]["self"]
        answer = await served.client.delete(f"{path}?purge=true")
        assert (answer.status_code, answer.content) == (204, b"")
        for url in (path, f"{path}/events"):
            await refused(await served.client.get(url), 404, "run_not_found")
        for query in ("", "?purge=true"):
            await refused(await served.client.delete(f"{path}{query}"), 404, "run_not_found")
        for query in ("", "?session_id=s", "?status=completed"):
            assert (await served.client.get(f"/runs{query}")).json()["runs"] == []
        again = await served.client.post("/runs?wait=10", json=body, headers=headers)
        assert again.json()["run_id"] != first.json()["run_id"]
        assert "idempotency-replayed" not in again.headers


async def test_a_session_forgets_what_was_purged() -> None:
    cast = Cast(saying("Noted."))
    async with serving(cast) as served:
        first = await served.finish(input="My number is 7.", session_id="s")
        await served.client.delete(f"/runs/{first['run_id']}?purge=true")
        await served.finish(input="What is it?", session_id="s")
    assert "7" not in str(cast.models["leader"].requests[-1].conversation)


async def test_an_active_run_is_neither_purged_nor_stopped_by_it() -> None:
    async with serving(stuck()) as served:
        run_id = await served.start()
        answer = await served.client.delete(f"/runs/{run_id}?purge=true")
        await refused(answer, 409, "run_active")
        assert answer.json()["run"]["run_id"] == run_id
        assert (await served.run(run_id)).cancel is None
        await served.client.delete(f"/runs/{run_id}?wait=10")
        assert (await served.client.delete(f"/runs/{run_id}?purge=true")).status_code == 204


async def test_a_members_run_is_not_purged_alone() -> None:
    async with serving(stuck()) as served:
        run_id = await served.start()
        member_id = await member_of(served, run_id)
        await served.client.delete(f"/runs/{run_id}?wait=10")
        answer = await served.client.delete(f"/runs/{member_id}?purge=true")
        await refused(answer, 422, "not_supported")
        assert (await served.client.get(f"/runs/{member_id}")).status_code == 200


async def test_a_stream_of_a_run_that_is_purged_ends() -> None:
    async with serving() as served:
        run_id = (await served.finish())["run_id"]
        async with served.client.stream("GET", f"/runs/{run_id}/events") as stream:
            await served.client.delete(f"/runs/{run_id}?purge=true")
            with anyio.fail_after(10):
                await stream.aread()


@pytest.mark.parametrize("purge", ["yes", "1", "True", ""])
async def test_purge_is_true_or_false(purge: str) -> None:
    async with serving() as served:
        run_id = (await served.finish())["run_id"]
        answer = await served.client.delete(f"/runs/{run_id}?purge={purge}")
        await refused(answer, 422, "invalid_request")
