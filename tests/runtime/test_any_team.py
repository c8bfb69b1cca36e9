"""Whatever a team does and is told, its log obeys the laws; wherever it is cut, it ends once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from itertools import count
from types import coroutine
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.errors import ModelFailed, StoreUnavailable
from app.domain.events import Entry
from app.domain.run import Cancel, Run, RunRequest
from app.domain.team import Mode
from app.models.scripted import Call, Fail, Pause, RetrySoon, Say, Script, Step, Think
from app.ports import AssistantTurn, Filter, ModelRequest, Retry, ToolCall, ToolResult, ToolSpec
from app.runtime.orders import Order
from app.runtime.run_log import Limits
from app.stores.memory import MemoryStore
from tests import laws
from tests.runtime.playing import Cast, Stage, delegating_to, has_result, playing, saying

EXAMPLES = 2000
MEMBERS = ("a", "b", "c")
MODES: Sequence[Mode] = ("coordinate", "route", "broadcast")

# --- any team -------------------------------------------------------------------------------------

WORDS = st.builds(Say, st.sampled_from(["x", "one ", "é\u2028", "\n\nid: 9\n"]))
REST = st.sampled_from(
    [
        Think("hm"),
        Pause(0),
        RetrySoon(Retry(1, 0.0, "server_error", 503)),
        Fail(ModelFailed("model_error", "It failed.")),
    ]
)
DELEGATIONS = st.builds(
    Call,
    st.sampled_from(["delegate_task_to_member"] * 4 + ["delegate_task_to_members", "tool", "none"]),
    st.one_of(
        st.fixed_dictionaries({"member_id": st.sampled_from(MEMBERS), "task": st.just("Go.")}),
        st.sampled_from(["{", "[]", '{"member_id": "nobody", "task": "Go."}', ""]),
    ),
    st.sampled_from(["", "same"]),
)
TOOL_CALLS = st.builds(Call, st.sampled_from(["tool", "raising", "none"]))


def turns(calls: st.SearchStrategy[Step]) -> st.SearchStrategy[list[list[Step]]]:
    return st.lists(st.lists(st.one_of(WORDS, WORDS, REST, calls, calls), max_size=5), max_size=4)


class Tool:
    """Answers, or raises."""

    def __init__(self, name: str) -> None:
        self.spec = ToolSpec(name, "", {"type": "object", "properties": {}})

    async def __call__(self, call: ToolCall) -> ToolResult:
        await anyio.lowlevel.checkpoint()
        if call.name == "raising":
            raise RuntimeError
        return ToolResult(call.call_id, "fine")


TOOLS = {name: Tool(name) for name in ("tool", "raising")}


def playing_turns(played: list[list[Step]]) -> Script:
    """Play one list of steps a turn, and nothing when they are used up."""

    def script(request: ModelRequest) -> list[Step]:
        turn = sum(isinstance(item, AssistantTurn) for item in request.conversation)
        return played[turn] if turn < len(played) else []

    return script


class Interfering(MemoryStore):
    """Has somebody press Stop at given places of the log: the team's, or some member's."""

    def __init__(self, cancels: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self._cancels = list(cancels)

    def append(self, run_id: str, entries: Sequence[Entry]) -> None:
        super().append(run_id, entries)
        for cancel in [each for each in self._cancels if each[0] <= entries[-1].seq]:
            self._cancels.remove(cancel)
            run = self._kept[run_id].run
            whom = [run_id, *run.members][cancel[1] % (1 + len(run.members))]
            with suppress(StopIteration):
                self.request_cancel(whom, Cancel("2026-11-22T09:57:12.123Z", "why")).send(None)


async def play(cast: Cast, store: MemoryStore, order: Order, limits: Limits) -> None:
    async with playing(cast, limits, store=store) as stage:
        run = await stage.start(order)
        events = await stage.log(run)
        await _check_ended(stage, run, events)


async def _check_ended(stage: Stage, run: Run, events: list[laws.LogEvent]) -> None:
    """Status, log and answers agree, and nothing is left over."""
    assert events[-1]["event"] == f"TeamRun{run.status.value.title()}"
    for member in run.members.values():
        own = [event for event in events if event["run_id"] == member.run_id]
        assert own[-1]["event"] == f"Run{member.status.value.title()}"
        if member.cancel is not None:
            assert member.status == "cancelled"
    assert (run.cancel is not None) == (run.status == "cancelled")
    assert stage.open_streams == 0
    with anyio.fail_after(5):
        while stage.runner.load.pending or stage.runner.load.running:
            await anyio.lowlevel.checkpoint()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    mode=st.sampled_from(MODES),
    must_delegate=st.booleans(),
    leader=turns(DELEGATIONS),
    members=st.tuples(*[turns(TOOL_CALLS) for _ in MEMBERS]),
    cancels=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=3),
    budget=st.sampled_from([None, None, 16, 40]),
    log_bytes=st.sampled_from([50_000_000, 50_000_000, 4000]),
)
def test_any_team_leaves_a_log_that_obeys_the_laws(
    *,
    mode: Mode,
    must_delegate: bool,
    leader: list[list[Step]],
    members: tuple[list[list[Step]], ...],
    cancels: list[tuple[int, int]],
    budget: int | None,
    log_bytes: int,
) -> None:
    scripts = {id_: playing_turns(played) for id_, played in zip(MEMBERS, members, strict=True)}
    cast = Cast(
        playing_turns(leader),
        scripts,
        mode,
        must_delegate,
        tools=TOOLS,
        leader_tools=TOOLS,
    )
    limits = Limits(max_turns=6, max_tool_calls=8, max_log_bytes=log_bytes)
    order = Order("Hello.", max_output_tokens=budget)
    anyio.run(play, cast, Interfering(cancels), order, limits)


# --- a fault at every await -----------------------------------------------------------------------


def some_cast(mode: Mode = "coordinate") -> Cast:
    """A run with all that a run can have, so that every kind of await is in it."""
    retry = RetrySoon(Retry(1, 0.0, "server_error", 503))
    members: dict[str, Script] = {
        "a": lambda request: (
            saying("x", "y")(request)
            if has_result(request)
            else [Think("hm"), Call("tool"), Call("raising")]
        ),
        "b": lambda _: [retry, Say("z"), Pause(0)],
    }
    to_all: list[list[Step]] = [
        [Call("delegate_task_to_members", {"task": "Go."})],
        [Say("All said.")],
    ]
    leader = playing_turns(to_all) if mode == "broadcast" else delegating_to("a", "b")
    return Cast(leader, members, mode, tools=TOOLS)


class Suspensions:
    """Counts the suspensions of all tasks made while it is the task factory, and acts at one."""

    def __init__(self, at: int, act: Callable[[], object]) -> None:
        self.seen = 0
        self._at = at
        self._act = act

    def factory(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(self._whole(coro), loop=loop, **options)

    async def _whole(self, coro: Coroutine[Any, Any, Any]) -> Any:
        return await self._counted(coro)  # anyio looks at tasks: they must run a coroutine

    @coroutine
    def _counted(self, coro: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        resume: Callable[[], Any] = lambda: coro.send(None)  # noqa: E731 - replaced at each step
        while True:
            try:
                suspended = resume()
            except StopIteration as done:
                return done.value
            self.seen += 1
            if self.seen == self._at:
                asyncio.get_running_loop().call_soon(self._act)
            try:
                sent = yield suspended
            except BaseException as error:
                resume = lambda error=error: coro.throw(error)  # type: ignore[misc] # noqa: E731 - bound now
            else:
                resume = lambda sent=sent: coro.send(sent)  # type: ignore[misc] # noqa: E731 - bound now


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["the flag", "the run's task"])
def test_a_cancel_at_every_suspension_leaves_one_final_event(how: str, mode: Mode) -> None:
    outcomes: set[str] = set()

    async def play_until(at: int) -> bool:
        before = asyncio.all_tasks()
        async with playing(some_cast(mode)) as stage:
            suspensions = Suspensions(at, lambda: _cancel(stage, run, how))
            asyncio.get_running_loop().set_task_factory(suspensions.factory)  # type: ignore[arg-type] # of any task
            run = await stage.start()
            events = await stage.log(run)
            asyncio.get_running_loop().set_task_factory(None)
            outcomes.add(events[-1]["event"])
            await _check_ended(stage, run, events)
        assert asyncio.all_tasks() == before
        return suspensions.seen < at

    for at in count(1):
        if anyio.run(play_until, at):
            break
    assert at > 10
    assert outcomes >= {"TeamRunCompleted"}
    assert outcomes & {"TeamRunCancelled", "TeamRunError"}


def _cancel(stage: Stage, run: Run, how: str) -> None:
    if how == "the flag":
        with suppress(StopIteration):
            stage.store.request_cancel(run.run_id, Cancel("2026-11-22T09:57:12.123Z", "why")).send(
                None
            )
        return
    for task in asyncio.all_tasks():
        if task.get_name() == f"run {run.run_id}":
            task.cancel()


class Failing(MemoryStore):
    """Does not answer its k-th operation."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.seen = 0
        self._at = at

    def _count(self) -> None:
        self.seen += 1
        if self.seen == self._at:
            raise StoreUnavailable("it was unplugged")

    async def create(self, request: RunRequest) -> Run:
        self._count()
        return await super().create(request)

    def append(self, run_id: str, entries: Sequence[Entry]) -> None:
        self._count()
        super().append(run_id, entries)

    async def list(self, which: Filter) -> Sequence[Run]:
        self._count()
        return await super().list(which)


@pytest.mark.parametrize("patience_s", [0.0, 5.0])
def test_a_store_that_fails_at_any_operation_leaves_one_final_event(patience_s: float) -> None:
    ends = []
    limits = Limits(store_patience_s=patience_s)

    async def play_until(at: int) -> bool:
        store = Failing(at)
        async with playing(some_cast(), limits, store=store) as stage:
            try:
                run = await stage.start(Order("Hello.", session_id="s"))
            except StoreUnavailable:
                assert stage.runner.load.pending == 0
                return False
            events = await stage.log(run)
            await _check_ended(stage, run, events)
            ends.append(events[-1].get("error", {}).get("code", "none"))
        return store.seen < at

    for at in count(1):
        if anyio.run(play_until, at):
            break
    assert at > 10
    assert set(ends) == ({"none"} if patience_s else {"store_unavailable", "none"})
