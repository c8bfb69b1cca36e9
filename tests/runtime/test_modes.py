"""Route and broadcast: the same run, other ways to delegate."""

from __future__ import annotations

import json

import anyio
import pytest

from app.domain.errors import ModelFailed
from app.domain.status import Status
from app.models.scripted import Call, End, Fail, Pause, Say, Script, Step, Together, Until
from app.ports import ModelRequest, ToolResult, UserText
from app.runtime.orders import Order
from tests import laws
from tests.runtime.playing import Cast, has_result, names, playing, saying

pytestmark = pytest.mark.anyio

FOREVER = 3600.0
OOPS = ModelFailed("model_error", "It failed.")


def routing_to(*members: str, then: str = "I answer myself.") -> Script:
    """A leader that hands over, and answers by itself if it is asked again."""

    def script(request: ModelRequest) -> list[Step]:
        if has_result(request):
            return [Say(then)]
        return [Call("delegate_task_to_member", {"member_id": id_}) for id_ in members]

    return script


def broadcasting(arguments: object = None, then: str = "All told.") -> Script:
    def script(request: ModelRequest) -> list[Step]:
        if has_result(request):
            return [Say(then)]
        return [Call("delegate_task_to_members", json.dumps(arguments or {"task": "Go."}))]

    return script


def of(events: list[laws.LogEvent], name: str) -> list[laws.LogEvent]:
    return [event for event in events if event["event"] == name]


# --- route ----------------------------------------------------------------------------------------


async def test_a_routed_members_text_is_the_answer_piece_by_piece() -> None:
    member: Script = lambda _: [Together([Say("a "), Say("b ")]), Say("c"), End("refusal")]  # noqa: E731 - in one line
    cast = Cast(routing_to("x"), {"x": member, "y": saying("no")}, mode="route")
    async with playing(cast) as stage:
        run = await stage.start(Order("The very input."))
        events = await stage.log(run)
    assert names(events) == [
        "TeamRunStarted",
        "TeamToolCallStarted",
        "RunStarted",
        *["RunContent", "TeamRunContent"] * 3,
        "RunCompleted",
        "TeamToolCallCompleted",
        "TeamRunCompleted",
    ]
    assert {event["turn"] for event in of(events, "TeamRunContent")} == {1}
    assert (events[-1]["content"], events[-1]["finish_reason"]) == ("a b c", "refusal")
    assert of(events, "RunStarted")[0]["task"] == "The very input."
    (asked,) = cast.models["leader"].requests
    assert asked.tool_choice == "required"
    assert not asked.parallel_tool_calls
    assert list(asked.tools[0].parameters["properties"]) == ["member_id"]
    assert run.content == "a b c"


@pytest.mark.parametrize("ending", ["fails", "is stopped"])
async def test_when_the_routed_member_ends_badly_the_leader_takes_another_turn(ending: str) -> None:
    script: Script = lambda _: [  # noqa: E731 - a script, said in one expression
        Say("half"),
        Fail(OOPS) if ending == "fails" else Pause(FOREVER),
    ]
    cast = Cast(routing_to("x"), {"x": script}, mode="route")
    async with playing(cast) as stage:
        run = await stage.start()
        if ending == "is stopped":
            await stage.until(run, lambda: "half" in [m.content for m in run.members.values()])
            await stage.runner.cancel(next(iter(run.members)), None, "request")
        events = await stage.log(run)
    assert (events[-1]["event"], events[-1]["content"]) == ("TeamRunCompleted", "I answer myself.")
    assert [event["content"] for event in of(events, "TeamRunContent")] == [
        "half",
        "I answer myself.",
    ]
    second = cast.models["leader"].requests[1]
    assert second.tool_choice == "auto"
    (result,) = [item for item in second.conversation if isinstance(item, ToolResult)]
    assert json.loads(result.output)["content"] == "half"


async def test_one_member_alone_is_routed_to_in_a_turn() -> None:
    cast = Cast(routing_to("x", "y"), {"x": saying("x"), "y": saying("y")}, mode="route")
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
    assert len(of(events, "RunStarted")) == 1
    statuses = [event["status"] for event in of(events, "TeamToolCallCompleted")]
    assert sorted(statuses) == ["completed", "error"]
    assert events[-1]["content"] in ("x", "y")


async def test_a_mistake_in_routing_is_read_and_mended() -> None:
    def leader(request: ModelRequest) -> list[Step]:
        known = "x" if has_result(request) else "nobody"
        return [Call("delegate_task_to_member", {"member_id": known})]

    cast = Cast(leader, {"x": saying("yes")}, mode="route")
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
    assert events[-1]["content"] == "yes"
    assert [request.tool_choice for request in cast.models["leader"].requests] == ["required"] * 2
    assert of(events, "TeamRunContent")[0]["turn"] == 2


async def test_a_routed_run_is_stopped_with_its_text() -> None:
    cast = Cast(routing_to("x"), {"x": lambda _: [Say("half"), Pause(FOREVER)]}, mode="route")
    async with playing(cast) as stage:
        run = await stage.start()
        await stage.until(run, lambda: run.content == "half")
        await stage.runner.cancel(run.run_id, None, "request")
        events = await stage.log(run)
    assert names(events)[-4:] == [
        "TeamRunCancelRequested",
        "RunCancelled",
        "TeamToolCallCompleted",
        "TeamRunCancelled",
    ]
    assert events[-1]["content"] == "half"


# --- broadcast ------------------------------------------------------------------------------------


async def test_a_broadcast_reaches_all_members_side_by_side_and_tells_whole_results_in_order() -> (
    None
):
    order = [anyio.Event(), anyio.Event()]

    def first(_: ModelRequest) -> list[Step]:
        order[0].set()
        return [Say("1"), Until(order[1]), Say("1")]

    def second(_: ModelRequest) -> list[Step]:
        order[1].set()
        return [Until(order[0]), Say("2"), Say("2")]

    cast = Cast(broadcasting(), {"a": first, "b": second}, mode="broadcast")
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
    (done,) = of(events, "TeamToolCallCompleted")
    told = json.loads(done["result"])
    assert [(each["agent_id"], each["content"]) for each in told] == [("a", "11"), ("b", "22")]
    assert done["status"] == "completed"
    first_call, second_call = cast.models["leader"].requests
    assert (first_call.tool_choice, [tool.name for tool in first_call.tools]) == (
        "required",
        ["delegate_task_to_members"],
    )
    assert not second_call.tools
    assert events[-1]["content"] == "All told."
    assert cast.models["b"].requests[0].conversation[0] == UserText("Go.")


async def test_a_broadcast_passes_the_input_where_the_team_says_so() -> None:
    cast = Cast(broadcasting({}), {"a": saying("x")}, mode="broadcast", pass_input=True)
    async with playing(cast) as stage:
        events = await stage.log(await stage.start(Order("The very input.")))
    assert of(events, "RunStarted")[0]["task"] == "The very input."
    assert cast.models["leader"].requests[0].tools[0].parameters["properties"] == {}


@pytest.mark.parametrize(
    ("scripts", "status"),
    [
        (["ok", "fails"], "completed"),
        (["fails", "fails"], "error"),
    ],
)
async def test_a_broadcasts_members_may_fail_each_for_itself(
    scripts: list[str], status: str
) -> None:
    made: dict[str, Script] = {"ok": saying("fine"), "fails": lambda _: [Say("half"), Fail(OOPS)]}
    members = {f"m{index}": made[kind] for index, kind in enumerate(scripts)}
    async with playing(Cast(broadcasting(), members, mode="broadcast")) as stage:
        events = await stage.log(await stage.start())
    (done,) = of(events, "TeamToolCallCompleted")
    assert done["status"] == status
    assert len(json.loads(done["result"])) == 2
    assert events[-1]["event"] == "TeamRunCompleted"


async def test_a_mistake_in_a_broadcast_is_read_and_mended() -> None:
    def leader(request: ModelRequest) -> list[Step]:
        if not request.tools:
            return [Say("So.")]
        arguments = {"task": "Go."} if has_result(request) else {"task": ""}
        return [Call("delegate_task_to_members", arguments)]

    cast = Cast(leader, {"a": saying("x")}, mode="broadcast")
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
    assert [event["status"] for event in of(events, "TeamToolCallCompleted")] == [
        "error",
        "completed",
    ]
    assert events[-1]["content"] == "So."


async def test_one_member_of_a_broadcast_stops_and_the_others_go_on() -> None:
    finish = anyio.Event()
    cast = Cast(
        broadcasting(),
        {
            "a": lambda _: [Say("half"), Pause(FOREVER)],
            "b": lambda _: [Until(finish), Say("whole")],
        },
        mode="broadcast",
    )
    async with playing(cast) as stage:
        run = await stage.start()
        await stage.until(run, lambda: "half" in [m.content for m in run.members.values()])
        (stopped,) = [m for m in run.members.values() if m.content]
        await stage.runner.cancel(stopped.run_id, None, "request")
        await stage.until(run, lambda: stopped.status is Status.CANCELLED)
        finish.set()
        events = await stage.log(run)
    told = json.loads(of(events, "TeamToolCallCompleted")[0]["result"])
    assert [each["status"] for each in told] == ["cancelled", "completed"]


async def test_a_broadcast_is_stopped_innermost_first() -> None:
    half: Script = lambda _: [Say("half"), Pause(FOREVER)]  # noqa: E731 - a script, in one line
    cast = Cast(broadcasting(), {"a": half, "b": half}, mode="broadcast")
    async with playing(cast) as stage:
        run = await stage.start()
        await stage.until(run, lambda: [m.content for m in run.members.values()] == ["half"] * 2)
        await stage.runner.cancel(run.run_id, None, "request")
        events = await stage.log(run)
    assert names(events)[-5:] == [
        "TeamRunCancelRequested",
        "RunCancelled",
        "RunCancelled",
        "TeamToolCallCompleted",
        "TeamRunCancelled",
    ]
