"""Runs that go their way: delegation, results, failures, limits, budgets."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from app.domain.errors import Draining, ModelFailed, Overloaded, RunNotFound, TeamNotFound
from app.domain.events import Entry, Usage
from app.domain.status import Status
from app.domain.team import Mode
from app.models.scripted import (
    Call,
    End,
    Fail,
    Pause,
    Report,
    RetrySoon,
    Say,
    Script,
    Step,
    Think,
    Until,
)
from app.ports import AssistantTurn, ModelRequest, Retry, ToolCall, ToolResult, ToolSpec, UserText
from app.runtime.orders import Order
from app.runtime.run_log import Limits
from app.runtime.runner import Capacity
from app.stores.memory import MemoryStore
from tests.runtime.playing import Cast, delegating_to, has_result, names, playing, saying

pytestmark = pytest.mark.anyio

FOREVER = 3600.0


async def test_a_leader_that_answers_alone() -> None:
    async with playing(Cast(saying("Once ", "upon"))) as stage:
        run = await stage.start()
        assert run.status is Status.PENDING
        events = await stage.log(run)
    assert names(events) == [
        "TeamRunStarted",
        "TeamRunContent",
        "TeamRunContent",
        "TeamRunCompleted",
    ]
    assert events[0]["mode"] == "coordinate"
    assert events[-1]["content"] == "Once upon"
    assert (run.status, run.finish_reason, run.content) == ("completed", "stop", "Once upon")


async def test_members_delegated_to_in_one_turn_work_side_by_side() -> None:
    both = [anyio.Event(), anyio.Event()]

    def meeting(mine: int) -> Script:
        def script(_: ModelRequest) -> list[Step]:
            both[mine].set()  # each waits for the other: only side by side can both go on
            return [Until(both[1 - mine]), Say(f"part {mine}")]

        return script

    cast = Cast(delegating_to("a", "b"), {"a": meeting(0), "b": meeting(1)})
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
    results = [json.loads(e["result"]) for e in events if e["event"] == "TeamToolCallCompleted"]
    assert {result["agent_id"]: result["content"] for result in results} == {
        "a": "part 0",
        "b": "part 1",
    }
    read_by_leader = cast.models["leader"].requests[1].conversation
    told = [item for item in read_by_leader if isinstance(item, ToolResult)]
    assert [json.loads(item.output)["agent_id"] for item in told] == ["a", "b"]
    assert {item.output for item in told} == {
        e["result"] for e in events if e["event"] == "TeamToolCallCompleted"
    }
    assert cast.models["a"].requests[0].conversation == (UserText("Go."),)


async def test_no_more_members_work_at_once_than_may() -> None:
    working = most = 0

    def script(_: ModelRequest) -> Any:
        nonlocal working, most
        working += 1
        most = max(most, working)
        yield Pause(0.001)
        yield Say("x")
        working -= 1

    ids = [f"m{index}" for index in range(12)]
    cast = Cast(delegating_to(*ids), dict.fromkeys(ids, script))
    async with playing(cast, Limits(max_parallel_members=3)) as stage:
        await stage.log(await stage.start())
    assert most == 3


@pytest.mark.parametrize(
    "call",
    [
        Call("delegate_task_to_member", {"member_id": "nobody", "task": "x"}),
        Call("delegate_task_to_member", {"member_id": "a"}),
        Call("delegate_task_to_member", {"member_id": "a", "task": "  "}),
        Call("delegate_task_to_member", "{"),
        Call("delegate_task_to_member", "[1]"),
        Call("delegate_task_to_member", {"member_id": 7}),
        Call("delegate_task_to_member", ""),
        Call("no_such_tool", {}),
    ],
    ids=lambda call: str(call.arguments),
)
async def test_a_mistake_in_a_call_is_a_result_the_leader_reads(call: Call) -> None:
    cast = Cast(
        lambda request: [Say("Never mind.")] if has_result(request) else [call], {"a": saying("x")}
    )
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
    (done,) = [event for event in events if event["event"] == "TeamToolCallCompleted"]
    assert done["status"] == "error"
    assert json.loads(done["result"])["error"]
    assert events[-1]["event"] == "TeamRunCompleted"


async def test_a_member_that_fails_is_a_result_with_its_partial_text() -> None:
    oops = ModelFailed("model_error", "It failed.", upstream_status=500, upstream_code="oops")
    cast = Cast(delegating_to("a"), {"a": lambda _: [Say("half"), Fail(oops)]})
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
    (done,) = [json.loads(e["result"]) for e in events if e["event"] == "TeamToolCallCompleted"]
    assert (done["status"], done["content"]) == ("error", "half")
    assert done["error"] == {
        "code": "model_error",
        "message": "It failed.",
        "upstream_status": 500,
        "upstream_code": "oops",
    }
    assert "RunError" in names(events)
    assert events[-1]["event"] == "TeamRunCompleted"


async def test_a_leader_whose_model_fails_ends_the_run() -> None:
    oops = ModelFailed("model_error", "It failed.", upstream_status=500)
    async with playing(Cast(lambda _: [Say("half"), Fail(oops)])) as stage:
        events = await stage.log(await stage.start())
    assert events[-1]["event"] == "TeamRunError"
    assert (events[-1]["error"]["code"], events[-1]["content"]) == ("model_error", "half")


async def test_a_defect_ends_the_run_as_an_internal_error() -> None:
    def script(_: ModelRequest) -> list[Step]:
        raise ZeroDivisionError

    async with playing(Cast(script)) as stage:
        events = await stage.log(await stage.start())
        assert events[-1]["error"]["code"] == "internal_error"
        assert "ZeroDivision" not in json.dumps(events)


class Raising:
    spec = ToolSpec("raising", "", {"type": "object", "properties": {}})

    async def __call__(self, call: ToolCall) -> ToolResult:
        raise ZeroDivisionError("secret")


async def test_a_tool_that_raises_is_a_result_the_member_reads() -> None:
    def member(request: ModelRequest) -> list[Step]:
        return [Say("done")] if has_result(request) else [Call("raising", {})]

    cast = Cast(delegating_to("a"), {"a": member}, tools={"raising": Raising()})
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
    (done,) = [event for event in events if event["event"] == "ToolCallCompleted"]
    assert done["status"] == "error"
    assert "secret" not in json.dumps(events)
    assert events[-1]["event"] == "TeamRunCompleted"


async def test_retries_and_reasoning_are_events() -> None:
    retry = Retry(1, 0.0, "rate_limited", 429, "slow_down")
    cast = Cast(lambda _: [RetrySoon(retry), Think("hm"), Say("yes")])
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
    assert names(events)[1:4] == ["TeamModelRetry", "TeamReasoningContentDelta", "TeamRunContent"]
    assert events[1]["upstream_code"] == "slow_down"


async def test_a_leader_that_must_delegate_is_asked_until_it_does() -> None:
    def leader(request: ModelRequest) -> list[Step]:
        if has_result(request):
            return [Say("Done.")]
        if len(request.conversation) == 1:
            return [Say("I would rather not.")]
        return [Call("delegate_task_to_member", {"member_id": "a"})]

    cast = Cast(leader, {"a": saying("x")}, must_delegate=True, pass_input=True)
    async with playing(cast) as stage:
        events = await stage.log(await stage.start(Order("The very input.")))
    requests = cast.models["leader"].requests
    assert [request.tool_choice for request in requests] == ["required", "required", "auto"]
    assert requests[0].tools[0].parameters["required"] == ["member_id"]
    assert requests[0].tools[0].parameters["properties"]["member_id"]["enum"] == ["a"]
    (started,) = [event for event in events if event["event"] == "RunStarted"]
    assert started["task"] == "The very input."
    assert events[-1]["content"] == "Done."


async def test_text_in_several_turns_keeps_its_turn() -> None:
    def leader(request: ModelRequest) -> list[Step]:
        if has_result(request):
            return [Say("Second.")]
        return [Say("First."), Call("delegate_task_to_member", {"member_id": "a", "task": "t"})]

    cast = Cast(leader, {"a": saying("x")})
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
    said = [(e["turn"], e["content"]) for e in events if e["event"] == "TeamRunContent"]
    assert said == [(1, "First."), (2, "Second.")]
    turn = cast.models["leader"].requests[1].conversation[1]
    assert isinstance(turn, AssistantTurn)
    assert turn.text == "First."


@pytest.mark.parametrize(
    ("step", "event"), [(Say, "TeamRunContent"), (Think, "TeamReasoningContentDelta")]
)
@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("é" * 40_000, 5),
        ("x" * 16_384, 1),
        ("x" * 16_385, 2),
        ("x" + "\U0001f600" * 4096, 2),
        ("\u20ac" * 10_923, 3),
    ],
)
async def test_a_long_delta_is_split_at_characters(
    step: type[Say | Think], event: str, text: str, number: int
) -> None:
    async with playing(Cast(lambda _: [step(text)])) as stage:
        events = await stage.log(await stage.start())
    pieces = [e["content"] for e in events if e["event"] == event]
    assert "".join(pieces) == text
    assert max(len(piece.encode()) for piece in pieces) <= 16 * 1024
    assert len(pieces) == number


async def test_tool_call_ids_are_unique_in_a_run() -> None:
    def leader(request: ModelRequest) -> list[Step]:
        if has_result(request):
            return [Say("Done.")]
        same = {"member_id": "a", "task": "t"}
        return [Call("delegate_task_to_member", same, "call_0") for _ in range(3)]

    async with playing(Cast(leader, {"a": saying("x")})) as stage:
        events = await stage.log(await stage.start())
    ids = [e["tool_call_id"] for e in events if e["event"] == "TeamToolCallStarted"]
    assert len(set(ids)) == 3


# --- bounds ---------------------------------------------------------------------------------------


def never_done(_: ModelRequest) -> list[Step]:
    return [Call("delegate_task_to_member", {"member_id": "a", "task": "t"})]


async def test_turns_are_bounded() -> None:
    async with playing(Cast(never_done, {"a": saying("x")}), Limits(max_turns=3)) as stage:
        events = await stage.log(await stage.start())
    assert events[-1]["error"]["code"] == "turn_limit"
    assert names(events).count("RunStarted") == 3


async def test_tool_calls_are_bounded() -> None:
    async with playing(Cast(never_done, {"a": saying("x")}), Limits(max_tool_calls=5)) as stage:
        events = await stage.log(await stage.start())
    assert events[-1]["error"]["code"] == "tool_limit"
    assert names(events).count("TeamToolCallStarted") == 5


async def test_the_log_is_bounded() -> None:
    cast = Cast(lambda _: [Say("x") for _ in range(1000)])
    async with playing(cast, Limits(max_log_bytes=10_000)) as stage:
        events = await stage.log(await stage.start())
    assert events[-1]["error"]["code"] == "log_limit"
    assert len(events) < 100


async def test_a_silent_model_times_out_for_its_member_alone() -> None:
    cast = Cast(delegating_to("a"), {"a": lambda _: [Say("x"), Pause(FOREVER)]})
    async with playing(cast, Limits(model_idle_timeout_s=0.05)) as stage:
        events = await stage.log(await stage.start())
        assert stage.open_streams == 0
    (failed,) = [event for event in events if event["event"] == "RunError"]
    assert (failed["error"]["code"], failed["content"]) == ("model_timeout", "x")
    assert events[-1]["event"] == "TeamRunCompleted"


async def test_a_talking_model_does_not_time_out() -> None:
    cast = Cast(lambda _: [step for _ in range(8) for step in (Say("x"), Pause(0.05))])
    async with playing(cast, Limits(model_idle_timeout_s=0.2)) as stage:
        events = await stage.log(await stage.start())
    assert events[-1]["event"] == "TeamRunCompleted"


async def test_a_retrys_wait_is_not_the_models_silence() -> None:
    cast = Cast(lambda _: [RetrySoon(Retry(1, 0.3, "rate_limited")), Say("x")])
    async with playing(cast, Limits(model_idle_timeout_s=0.15)) as stage:
        events = await stage.log(await stage.start())
    assert events[-1]["event"] == "TeamRunCompleted"


async def test_the_deadline_ends_a_run_with_all_that_is_open() -> None:
    cast = Cast(delegating_to("a", "b"), dict.fromkeys("ab", lambda _: [Say("x"), Pause(FOREVER)]))
    async with playing(cast) as stage:
        events = await stage.log(await stage.start(Order("x", timeout_s=0.1)))
        assert stage.open_streams == 0
    assert events[-1]["error"]["code"] == "deadline_exceeded"
    codes = [e["error"]["code"] for e in events if e["event"] == "RunError"]
    assert codes == ["deadline_exceeded"] * 2


async def test_the_deadline_counts_the_waiting() -> None:
    cast = Cast(lambda _: [Say("x"), Pause(FOREVER)])
    async with playing(cast, capacity=Capacity(running=1)) as stage:
        await stage.start()
        events = await stage.log(await stage.start(Order("x", timeout_s=0.1)))
    assert names(events) == ["TeamRunError"]
    assert events[0]["error"]["code"] == "deadline_exceeded"


async def test_the_budget_holds_for_leader_and_members_together() -> None:
    words = [Say("four") for _ in range(100)]
    cast = Cast(delegating_to("a", "b"), dict.fromkeys("ab", lambda _: words))
    async with playing(cast) as stage:
        events = await stage.log(await stage.start(Order("x", max_output_tokens=50)))
    assert events[-1]["error"]["code"] == "budget_exceeded"
    assert 50 <= events[-1]["usage"]["output_tokens"] <= 52
    asked = cast.models["a"].requests[0].max_output_tokens
    assert asked is not None
    assert asked <= 50


async def test_no_call_is_made_with_less_than_the_smallest_one_left() -> None:
    def member(_: ModelRequest) -> list[Step]:
        return [Say("x"), Report(Usage(1, 90, 91))]

    cast = Cast(delegating_to("a"), {"a": member})
    async with playing(cast) as stage:
        events = await stage.log(await stage.start(Order("x", max_output_tokens=100)))
    assert events[-1]["error"]["code"] == "budget_exceeded"
    assert len(cast.models["leader"].requests) == 1


async def test_a_cut_is_told_by_who_asked_for_it() -> None:
    cut: Script = lambda _: [Say("x"), End("length")]  # noqa: E731 - a script, said in one line
    async with playing(Cast(cut, max_output_tokens=64)) as stage:
        own = await stage.log(await stage.start())
        by_budget = await stage.log(await stage.start(Order("x", max_output_tokens=32)))
    async with playing(Cast(cut)) as stage:
        unasked = await stage.log(await stage.start())
    assert own[-1]["finish_reason"] == "length"
    assert by_budget[-1]["error"]["code"] == "budget_exceeded"
    assert unasked[-1]["error"]["code"] == "model_incomplete"


async def test_usage_is_what_was_reported_and_estimated_where_it_was_not() -> None:
    def leader(request: ModelRequest) -> list[Step]:
        usage = Report(Usage(10, 5, 15))
        return [*delegating_to("a")(request), usage]

    cast = Cast(leader, {"a": saying("12345678")})
    async with playing(cast) as stage:
        run = await stage.start()
        events = await stage.log(run)
    (member,) = run.members.values()
    assert member.usage == Usage(2, 2, 4, estimated=True)  # "Work." and "Go." went in
    assert events[-1]["usage"] == {
        "input_tokens": 22,
        "output_tokens": 12,
        "total_tokens": 34,
        "estimated": True,
    }


# --- the runner -----------------------------------------------------------------------------------


async def test_runs_beyond_the_places_wait_and_beyond_that_are_refused() -> None:
    release = anyio.Event()
    cast = Cast(lambda _: [Until(release), Say("x")])
    async with playing(cast, capacity=Capacity(running=2, pending=1)) as stage:
        runs = [await stage.start() for _ in range(3)]
        await stage.until(runs[1], lambda: runs[1].status is Status.RUNNING)
        assert [run.status.value for run in runs] == ["running", "running", "pending"]
        assert (stage.runner.load.running, stage.runner.load.pending) == (2, 1)
        with pytest.raises(Overloaded):
            await stage.start()
        release.set()
        for run in runs:
            assert (await stage.log(run))[-1]["event"] == "TeamRunCompleted"
        await stage.log(await stage.start())


async def test_an_unknown_team_or_run_is_told() -> None:
    async with playing(Cast(saying("x"))) as stage:
        with pytest.raises(TeamNotFound):
            await stage.start(Order("x", team_id="nobody"))
        with pytest.raises(RunNotFound):
            await stage.runner.cancel("nothing", None, "request")


async def test_a_drain_lets_runs_end_by_themselves() -> None:
    cast = Cast(lambda _: [Pause(0.05), Say("x")])
    async with playing(cast) as stage:
        run = await stage.start()
        await stage.runner.drain(10)
        assert run.status is Status.COMPLETED
        with pytest.raises(Draining):
            await stage.start()


async def test_a_drain_interrupts_what_is_left_after_the_grace() -> None:
    cast = Cast(delegating_to("a"), {"a": lambda _: [Say("half"), Pause(FOREVER)]})
    async with playing(cast, capacity=Capacity(running=1)) as stage:
        running, pending = await stage.start(), await stage.start()
        await stage.until(running, lambda: "half" in [m.content for m in running.members.values()])
        await stage.runner.drain(0)
        events = await stage.log(running)
        assert [e["error"]["code"] for e in events if "error" in e] == ["interrupted"] * 2
        assert names(await stage.log(pending)) == ["TeamRunError"]
        assert stage.open_streams == 0


# --- what a critic found --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["coordinate", "route", "broadcast"])
async def test_a_leader_that_refuses_where_it_must_delegate_has_answered(mode: Mode) -> None:
    cast = Cast(lambda _: [Say("No."), End("refusal")], {"a": saying("x")}, mode, True)
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
    assert (events[-1]["finish_reason"], events[-1]["content"]) == ("refusal", "No.")
    assert len(cast.models["leader"].requests) == 1


async def test_a_leader_that_never_delegates_is_reminded_twice_and_no_more() -> None:
    cast = Cast(saying("No."), {"a": saying("x")}, must_delegate=True)
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
    assert events[-1]["error"]["code"] == "turn_limit"
    assert len(cast.models["leader"].requests) == 3


async def test_arguments_count_where_the_provider_reports_no_usage() -> None:
    task = {"member_id": "nobody", "task": "é" * 200}
    cast = Cast(lambda _: [Call("delegate_task_to_member", json.dumps(task, ensure_ascii=False))])
    async with playing(cast) as stage:
        events = await stage.log(await stage.start(Order("x", max_output_tokens=100)))
    assert events[-1]["error"]["code"] == "budget_exceeded"
    assert events[-1]["usage"]["output_tokens"] >= 100
    assert len(cast.models["leader"].requests) == 1


async def test_estimates_are_utf8_bytes_by_four() -> None:
    async with playing(Cast(saying("é" * 100, "日本" * 10))) as stage:
        events = await stage.log(await stage.start())
    assert events[-1]["usage"]["output_tokens"] == (200 + 60) // 4


async def test_a_run_that_never_began_spent_nothing_for_certain() -> None:
    async with playing(Cast(lambda _: [Pause(FOREVER)]), capacity=Capacity(running=1)) as stage:
        await stage.start()
        waiting = await stage.start()
        await stage.runner.cancel(waiting.run_id, None, "request")
        events = await stage.log(waiting)
    assert events[-1]["usage"] == {
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": 0,
        "estimated": False,
    }


async def test_everybody_is_broadcast_to_once_a_turn() -> None:
    def leader(request: ModelRequest) -> list[Step]:
        if has_result(request):
            return [Say("So.")]
        return [Call("delegate_task_to_members", {"task": "Go."})] * 2

    cast = Cast(leader, {"a": saying("x"), "b": saying("y")}, "broadcast")
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
    assert names(events).count("RunStarted") == 2
    statuses = [e["status"] for e in events if e["event"] == "TeamToolCallCompleted"]
    assert sorted(statuses) == ["completed", "error"]


class Slow(MemoryStore):
    """Stores a moment later, as stores do that are not memory."""

    def append(self, run_id: str, entries: Sequence[Entry]) -> Awaitable[None]:  # type: ignore[override] # memory's is narrower
        async def store() -> None:
            await anyio.lowlevel.checkpoint()
            super(Slow, self).append(run_id, entries)

        return store()


async def test_no_flag_is_left_when_members_are_stopped_before_they_began() -> None:
    ids = [f"m{index}" for index in range(8)]
    cast = Cast(delegating_to(*ids), dict.fromkeys(ids, lambda _: [Pause(FOREVER)]))
    async with playing(cast, store=Slow()) as stage:
        for seen in range(1, 18, 3):
            run = await stage.start()
            await stage.until(run, lambda seen=seen, run=run: run.last_event_id >= seen)
            await stage.runner.cancel(run.run_id, None, "request")
            await stage.log(run)
        with anyio.fail_after(5):
            while stage.runner.load.pending or stage.runner.load.running:
                await anyio.lowlevel.checkpoint()
        assert stage.runner._flags == {}  # noqa: SLF001 - nobody else can tell
