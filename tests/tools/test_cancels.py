"""Functions in real runs: what they answer, and that none of them holds a run that is stopped."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio import CapacityLimiter

from app.domain.run import Run
from app.models.scripted import Call, Say, Script
from app.ports import Tool, ToolResult
from app.runtime.orders import Order
from app.runtime.run_log import Limits
from app.tools.functions import function_tool
from tests import laws
from tests.runtime.playing import Cast, Stage, delegating_to, has_result, names, playing

pytestmark = pytest.mark.anyio

FOREVER = 3600.0
BOUND_S = 1.0
CLOSING = [
    "TeamRunCancelRequested",
    "ToolCallCompleted",
    "RunCancelled",
    "TeamToolCallCompleted",
    "TeamRunCancelled",
]


class Machine:
    """Tools that do not end, until the test does."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.started = 0
        self.ended = 0
        self.cancels = 0

    def blocks(self) -> str:
        """Never return."""
        self.started += 1
        self.go_on.wait()
        self.ended += 1
        return "too late"

    async def waits(self) -> None:
        """Wait, and clean up at once when cancelled."""
        self.started += 1
        try:
            await asyncio.sleep(FOREVER)
        finally:
            self.ended += 1

    async def tidies(self) -> None:
        """Wait, and clean up in a moment when cancelled."""
        try:
            await self.waits()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            self.cancels += 1
            raise

    async def swallows(self) -> str:
        """Wait, whatever anybody says."""
        self.started += 1
        while not self.go_on.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                self.cancels += 1
        self.ended += 1
        return "too late"

    async def lingers(self) -> None:
        """Never be done with cleaning up."""
        try:
            await self.waits()
        finally:
            await self.swallows()


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.go_on.set()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.lowlevel.checkpoint()


def using(tool: str, arguments: str = "{}") -> Script:
    return lambda request: [Say("used")] if has_result(request) else [Call(tool, arguments)]


def cast_with(
    function: Callable[..., Any], *members: str, places: CapacityLimiter | None = None
) -> Cast:
    """Members, one unless named, who use a function as their tool."""
    members = members or ("a",)
    tool = function_tool("tool", function, places or CapacityLimiter(32))
    scripts = dict.fromkeys(members, using("tool"))
    return Cast(delegating_to(*members), scripts, tools={"tool": tool})


@asynccontextmanager
async def started(machine: Machine, cast: Cast, limits: Limits | None = None) -> AsyncIterator[Any]:
    """A run whose tool has begun."""
    async with playing(cast, limits) as stage:
        run = await stage.start()
        await until(lambda: machine.started > 0)
        yield stage, run


async def cancelled_at_once(stage: Stage, run: Run) -> list[laws.LogEvent]:
    """Stop a run, and return its log, whose end must come within the bound."""
    before = monotonic()
    await stage.runner.cancel(run.run_id, None, "request")
    events = await stage.log(run)
    assert monotonic() - before < BOUND_S
    return events


def result_of(stage: Stage, who: str) -> ToolResult:
    conversation = stage.cast.models[who].requests[-1].conversation
    return next(item for item in conversation if isinstance(item, ToolResult))


# --- without a cancel -----------------------------------------------------------------------------


def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


async def add_later(a: int, b: int = 1) -> int:
    """Add, later."""
    await asyncio.sleep(0)
    return a + b


def fails(a: int) -> None:
    """Fail."""
    raise RuntimeError("a secret")


TABLE = [
    (add, '{"a": 2}', "3", "completed"),
    (add_later, '{"a": 2, "b": 3}', "5", "completed"),
    (fails, '{"a": 2}', '{"error": "The tool failed."}', "error"),
    (add, '{"b": 2}', '{"error": "The arguments don\'t fit. a: Field required."}', "error"),
]


@pytest.mark.parametrize(("function", "arguments", "output", "status"), TABLE)
async def test_a_member_reads_what_its_tool_answers_and_goes_on(
    function: Callable[..., Any], arguments: str, output: str, status: str
) -> None:
    tool = function_tool("tool", function, CapacityLimiter(1))
    cast = Cast(delegating_to("a"), {"a": using("tool", arguments)}, tools={"tool": tool})
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
        assert result_of(stage, "a").output == output
    (closed,) = [event for event in events if event["event"] == "ToolCallCompleted"]
    assert (closed["result"], closed["status"]) == (output, status)
    assert events[-1]["event"] == "TeamRunCompleted"


async def test_a_leader_uses_its_own_tool_beside_delegation() -> None:
    tool: Tool = function_tool("add", add, CapacityLimiter(1))
    calls = [
        Call("add", {"a": 1}),
        Call("delegate_task_to_member", {"member_id": "a", "task": "x"}),
    ]
    cast = Cast(
        lambda request: [Say("both")] if has_result(request) else calls,
        {"a": lambda _: [Say("mine")]},
        leader_tools={"add": tool},
    )
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
        results = [
            item
            for item in stage.cast.models["leader"].requests[-1].conversation
            if isinstance(item, ToolResult)
        ]
    assert results[0].output == "2"
    assert json.loads(results[1].output)["content"] == "mine"
    assert events[-1]["content"] == "both"


# --- stopped --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["blocks", "waits", "tidies", "swallows", "lingers"])
async def test_a_tool_of_any_kind_lets_its_run_end_at_once(machine: Machine, kind: str) -> None:
    async with started(machine, cast_with(getattr(machine, kind))) as (stage, run):
        events = await cancelled_at_once(stage, run)
    assert names(events)[-5:] == CLOSING
    (closed,) = [event for event in events if event["event"] == "ToolCallCompleted"]
    assert (closed["status"], closed["result"]) == ("cancelled", None)


@pytest.mark.parametrize("kind", ["blocks", "swallows"])
async def test_what_a_tool_returns_after_its_run_was_stopped_is_written_nowhere(
    machine: Machine, kind: str
) -> None:
    async with started(machine, cast_with(getattr(machine, kind))) as (stage, run):
        events = await cancelled_at_once(stage, run)
        machine.go_on.set()
        await until(lambda: machine.ended == 1)
        assert await stage.log(run) == events


async def test_a_member_stopped_alone_leaves_its_tool_and_the_leader_goes_on(
    machine: Machine,
) -> None:
    async with started(machine, cast_with(machine.blocks)) as (stage, run):
        (member,) = run.members.values()
        await stage.runner.cancel(member.run_id, None, "request")
        events = await stage.log(run)
    assert events[-1]["event"] == "TeamRunCompleted"
    assert json.loads(result_of(stage, "leader").output)["status"] == "cancelled"


@pytest.mark.parametrize("kind", ["blocks", "swallows"])
async def test_the_deadline_too_comes_in_time(machine: Machine, kind: str) -> None:
    async with playing(cast_with(getattr(machine, kind))) as stage:
        run = await stage.start(Order("Hello.", timeout_s=0.05))
        before = monotonic()
        events = await stage.log(run)
        assert monotonic() - before < BOUND_S
    assert events[-1]["error"]["code"] == "deadline_exceeded"


async def test_an_async_tool_is_cancelled_once_and_may_clean_up(machine: Machine) -> None:
    async with started(machine, cast_with(machine.tidies)) as (stage, run):
        await cancelled_at_once(stage, run)
    assert (machine.ended, machine.cancels) == (1, 1)


async def test_an_async_tool_that_stays_is_left_behind_and_its_end_is_logged(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "app.tools")
    async with started(machine, cast_with(machine.swallows)) as (stage, run):
        await cancelled_at_once(stage, run)
        assert "tool tool goes on although it was cancelled" in caplog.messages
        assert (machine.cancels, machine.ended) == (1, 0)
        machine.go_on.set()
        await until(lambda: "tool tool, which had been left behind, ended" in caplog.messages)


# --- places ---------------------------------------------------------------------------------------


async def test_a_thread_that_was_left_keeps_its_place_until_it_ends(machine: Machine) -> None:
    places = CapacityLimiter(1)
    async with started(machine, cast_with(machine.blocks, places=places)) as (stage, run):
        await cancelled_at_once(stage, run)
        assert places.borrowed_tokens == 1
        waiting = await stage.start()
        await until(lambda: places.statistics().tasks_waiting == 1)
        machine.go_on.set()
        events = await stage.log(waiting)
        await until(lambda: places.borrowed_tokens == 0)
    assert machine.started == 2
    assert events[-1]["event"] == "TeamRunCompleted"


async def test_waiting_for_a_place_can_be_stopped(machine: Machine) -> None:
    places = CapacityLimiter(2)
    async with started(machine, cast_with(machine.blocks, "a", "b", places=places)) as (stage, run):
        await until(lambda: machine.started == 2)
        await cancelled_at_once(stage, run)
        waiting = await stage.start()
        await until(lambda: places.statistics().tasks_waiting == 2)
        await cancelled_at_once(stage, waiting)
        assert places.statistics().tasks_waiting == 0
    assert machine.started == 2


async def test_no_more_functions_run_at_once_than_there_are_places() -> None:
    places, at_once, most = CapacityLimiter(3), 0, 0
    lock, full = threading.Lock(), threading.Event()

    def counts() -> None:
        """Count."""
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            if at_once == 3:
                full.set()
        assert full.wait(10)
        with lock:
            at_once -= 1

    members = [f"m{number}" for number in range(8)]
    async with playing(cast_with(counts, *members, places=places)) as stage:
        events = await stage.log(await stage.start())
    assert most == 3
    statuses = [event["status"] for event in events if event["event"] == "ToolCallCompleted"]
    assert statuses == ["completed"] * 8


async def test_arguments_that_do_not_fit_need_no_place() -> None:
    places = CapacityLimiter(1)
    places.acquire_on_behalf_of_nowait("somebody")
    cast = cast_with(add, places=places)  # its member leaves `a` out
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
    assert events[-1]["event"] == "TeamRunCompleted"


# --- the process ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["blocks", "swallows", "lingers"])
async def test_a_tool_that_never_ends_does_not_hold_the_process(kind: str) -> None:
    with anyio.fail_after(20):
        done = await anyio.run_process([sys.executable, "-m", "tests.tools.leaving", kind])
    cancel, final, left = map(float, done.stdout.split())
    assert final - cancel < BOUND_S
    assert monotonic() - left < 2 * BOUND_S
