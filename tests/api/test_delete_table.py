"""DELETE as a table: where a run stands, whose it is, and how often it is asked.

A tool that takes its time to clean up keeps a run `cancelling` for as long as the test wants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import anyio
import httpx
import pytest

from app.domain.errors import ModelFailed
from app.domain.run import Run
from app.models.scripted import Call, Fail, Say, Step
from app.ports import ModelRequest, ToolCall, ToolResult, ToolSpec, UserText
from app.runtime.runner import Capacity
from tests import laws
from tests.api.serving import Served, services_for, serving
from tests.api.test_problems import assert_problem
from tests.runtime.playing import Cast, has_result

pytestmark = pytest.mark.anyio


@dataclass
class Lingers:
    """A tool that goes on until it is stopped, and then until it is let go."""

    spec = ToolSpec("lingers", "", {"type": "object", "properties": {}})
    began: anyio.Event = field(default_factory=anyio.Event)
    let_go: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, call: ToolCall) -> ToolResult:
        self.began.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await self.let_go.wait()
        raise AssertionError(call)


DEEDS: Mapping[str, list[Step]] = {
    "lingers": [Say("Half"), Call("lingers")],
    "answers": [Say("Done.")],
    "fails": [Fail(ModelFailed("model_error", "No."))],
}


def lead(request: ModelRequest) -> list[Step]:
    """Do what the input says: the member's deed, `-` for none, then the leader's."""
    (said,) = [item.text for item in request.conversation if isinstance(item, UserText)]
    members, own = said.split()
    if members == "-" or has_result(request):
        return DEEDS[own]
    return [Call("delegate_task_to_member", {"member_id": "writer", "task": members})]


def follow(request: ModelRequest) -> list[Step]:
    (task,) = [item.text for item in request.conversation if isinstance(item, UserText)]
    return DEEDS[task]


@dataclass
class Scene:
    """A service with room for one run at work, and the tool in it."""

    served: Served
    tool: Lingers

    async def start(self, deeds: str) -> str:
        return await self.served.start(input=deeds)

    async def member_of(self, run_id: str) -> str:
        """Wait until the run has its member; return the member's id."""
        run = await self.until(run_id, lambda run: bool(run.members))
        return next(iter(run.members))

    async def until(self, run_id: str, holds: object) -> Run:
        assert callable(holds)
        run = await self.served.run(run_id)
        with anyio.fail_after(10), self.served.services.store.watch(run.run_id) as hint:
            while not holds(run):
                await hint.wait()
        return run

    async def stop(self, run_id: str, reason: str) -> httpx.Response:
        path = f"/runs/{run_id}"
        return await self.served.client.delete(path, params={"reason": reason})

    async def reach(self, whose: str, state: str) -> str:
        """Bring a run, or a member's run, into a state; return its id."""
        if state == "unknown":
            return str(uuid4())
        if state == "pending":
            await self.start("- lingers")
            await self.tool.began.wait()
            return await self.start("- lingers")
        if state in ("completed", "error"):
            return await self._ended(whose, "answers" if state == "completed" else "fails")
        return await self._stopped(whose, state)

    async def _ended(self, whose: str, deed: str) -> str:
        if whose == "team":
            run_id = await self.start(f"- {deed}")
            await self.served.ended(run_id)
            return run_id
        run_id = await self.start(f"{deed} {'lingers' if 'running' in whose else 'answers'}")
        if "running" in whose:
            await self.tool.began.wait()
        else:
            await self.served.ended(run_id)
        return await self.member_of(run_id)

    async def _stopped(self, whose: str, state: str) -> str:
        """`running`, `cancelling` or `cancelled`: by its own flag or by its team's."""
        run_id = team_id = await self.start("- lingers" if whose == "team" else "lingers answers")
        await self.tool.began.wait()
        if whose != "team":
            run_id = await self.member_of(run_id)
        if state != "running":
            await self.stop(team_id if "with its team" in whose else run_id, "before")
        if state == "cancelled":
            self.tool.let_go.set()
            await self.until(run_id, lambda run: run.find(run_id).status.is_final)
        return run_id


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    tool = Lingers()
    tools = {"lingers": tool}
    cast = Cast(lead, {"writer": follow}, tools=tools, leader_tools=tools)
    services = services_for(cast, capacity=Capacity(running=1))
    async with serving(services=services) as served:
        yield Scene(served, tool)
        tool.let_go.set()


MEMBER = "member"
OF_A_RUNNING_TEAM = "member of a running team"
WITH_ITS_TEAM = "member with its team"

TABLE: Sequence[tuple[str, str, set[int]]] = [
    ("team", "pending", {202, 200}),  # nothing holds it: the next answer may find it cancelled
    ("team", "running", {202}),
    ("team", "cancelling", {202}),
    ("team", "completed", {409}),
    ("team", "cancelled", {200}),
    ("team", "error", {409}),
    ("team", "unknown", {404}),
    (MEMBER, "running", {202}),
    (MEMBER, "cancelling", {202}),
    (WITH_ITS_TEAM, "cancelling", {202}),
    (MEMBER, "completed", {409}),
    (OF_A_RUNNING_TEAM, "completed", {409}),
    (MEMBER, "cancelled", {200}),
    (WITH_ITS_TEAM, "cancelled", {200}),
    (MEMBER, "error", {409}),
    (OF_A_RUNNING_TEAM, "error", {409}),
]


@pytest.mark.parametrize("at_once", [1, 50])
@pytest.mark.parametrize(("whose", "state", "answers"), TABLE)
async def test_a_delete_is_answered_by_where_the_run_stands(
    whose: str, state: str, answers: set[int], at_once: int
) -> None:
    async with scene() as on:
        run_id = await on.reach(whose, state)
        asked = [f"asked {number}" for number in range(at_once + 1)]
        given: list[httpx.Response] = []

        async def ask(reason: str) -> None:
            given.append(await on.stop(run_id, reason))

        async with anyio.create_task_group() as group:
            for reason in asked[:at_once]:
                group.start_soon(ask, reason)
        await ask(asked[-1])
        told = Counter(answer.status_code for answer in given)
        assert told.keys() <= answers
        assert (told[202] > 0) == (202 in answers), "nobody was told that it was taken"
        for answer in given:
            check_answer(answer, run_id)
        on.tool.let_go.set()
        if state != "unknown":
            before = whose != WITH_ITS_TEAM and state in ("cancelling", "cancelled")
            await check_run(on, run_id, {"before"} if before else {*asked, None})


def check_answer(answer: httpx.Response, run_id: str) -> None:
    """Hold the answer's body against its status."""
    match answer.status_code:
        case 404:
            assert_problem(answer, 404, "run_not_found")
        case 409:
            assert_problem(answer, 409, "run_finished")
            assert answer.json()["run"]["run_id"] == run_id
            assert answer.json()["run"]["status"] in ("completed", "error")
        case status:
            run = answer.json()
            assert (run["run_id"], run["status"]) == (
                run_id,
                {202: "cancelling", 200: "cancelled"}[status],
            )


async def check_run(on: Scene, run_id: str, reasons: set[str | None]) -> None:
    """The promise was kept, the first reason stayed, and it is in the log once."""
    run = await on.until(run_id, lambda run: run.find(run_id).status.is_final)
    found = run.find(run_id)
    assert found is not None
    if not run.status.is_final:
        await on.stop(run.run_id, "it is enough")
        await on.served.ended(run.run_id)
    page = await on.served.services.store.read(run.run_id, 0, 1 << 30)
    events = laws.parse(page.frames)
    laws.check(events)
    own = [event for event in events if event["run_id"] == run_id]
    requests = [event for event in own if event["event"].endswith("CancelRequested")]
    assert len(requests) == (found.cancel is not None)
    assert (found.cancel.reason if found.cancel else None) in reasons
    if found.status == "cancelled":
        assert own[-1]["event"].endswith("RunCancelled")
    else:
        assert found.cancel is None
    for reason in [event["reason"] for event in requests]:
        assert reason == found.cancel.reason  # type: ignore[union-attr] # asserted above
