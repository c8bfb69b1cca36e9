"""The scripted model: what others rely on when they test against it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from app.domain.errors import ConfigurationError, ModelFailed
from app.domain.events import Usage
from app.models.scripted import (
    Call,
    End,
    Fail,
    Pause,
    Report,
    RetrySoon,
    Say,
    ScriptedModel,
    Step,
    Think,
    Together,
    Until,
)
from app.models.scripts import open_scripted
from app.ports import (
    AssistantTurn,
    ConversationItem,
    Model,
    ModelEvent,
    ModelRequest,
    ReasoningDelta,
    Retry,
    TextDelta,
    ToolCall,
    ToolResult,
    ToolSpec,
    TurnEnd,
    UserText,
)

pytestmark = pytest.mark.anyio

ASKED = ModelRequest("Be brief.", [UserText("Tell.")])
DELEGATE = ToolSpec(
    "delegate_task_to_member",
    "",
    {"properties": {"member_id": {"enum": ["writer", "editor"]}, "task": {"type": "string"}}},
)


def plays(*steps: Step) -> ScriptedModel:
    return ScriptedModel(lambda _: steps)


async def batches(model: Model, request: ModelRequest = ASKED) -> list[Sequence[ModelEvent]]:
    with anyio.fail_after(5):
        async with model.stream(request) as stream:
            return [batch async for batch in stream]


async def last_turn(model: Model, request: ModelRequest = ASKED) -> AssistantTurn:
    end = (await batches(model, request))[-1][0]
    assert isinstance(end, TurnEnd)
    return end.turn


async def test_a_turn_is_told_delta_by_delta_and_then_whole() -> None:
    model = plays(
        Think("Hm."),
        Say("Once "),
        Say("upon."),
        Call("look", {"at": 1}),
        Call("look", "not JSON", "mine"),
        Report(Usage(1, 2, 3)),
        End("length"),
        Say("never"),
    )
    calls = (ToolCall("call_1", "look", '{"at": 1}'), ToolCall("mine", "look", "not JSON"))
    assert await batches(model) == [
        [ReasoningDelta("Hm.")],
        [TextDelta("Once ")],
        [TextDelta("upon.")],
        [TurnEnd(AssistantTurn("Once upon.", calls), "length", Usage(1, 2, 3))],
    ]


async def test_deltas_can_arrive_together() -> None:
    first, end = await batches(plays(Together([Say("a"), Think("b")])))
    assert first == [TextDelta("a"), ReasoningDelta("b")]
    assert end == [TurnEnd(AssistantTurn("a"))]


async def test_call_ids_differ_from_turn_to_turn() -> None:
    model = plays(Call("look"), Call("look"))
    ids = [call.call_id for _ in range(2) for call in (await last_turn(model)).calls]
    assert len(set(ids)) == 4


async def test_a_retry_is_told_before_its_delay() -> None:
    retry = Retry(1, 3600, "rate_limited", 429)
    model = plays(RetrySoon(retry))
    with anyio.fail_after(5):
        async with model.stream(ASKED) as stream:
            assert await anext(aiter(stream)) == [retry]


async def test_a_failure_ends_the_stream_and_is_no_early_close() -> None:
    model = plays(Say("a"), Fail(ModelFailed("model_error", "no")))
    with pytest.raises(ModelFailed, match="no"):
        await batches(model)
    assert (model.open, model.closed_early) == (0, 0)


async def test_it_remembers_what_it_was_asked_and_that_it_was_heard_out() -> None:
    model = plays(Say("a"))
    await batches(model)
    assert model.requests == [ASKED]
    assert (model.open, model.closed_early) == (0, 0)


async def test_leaving_between_two_deltas_closes_the_stream() -> None:
    model = plays(Say("a"), Say("b"))
    async with model.stream(ASKED) as stream:
        await anext(aiter(stream))
        assert model.open == 1
    assert (model.open, model.closed_early) == (0, 1)


@pytest.mark.parametrize("silence", [Pause(3600), Until(anyio.Event())], ids=["pause", "until"])
async def test_a_cancel_ends_its_silence_at_once(silence: Step) -> None:
    model = plays(Say("a"), silence)
    heard: list[object] = []

    async def listen() -> None:
        async with model.stream(ASKED) as stream:
            async for batch in stream:
                heard.append(batch)
                said.set()

    said = anyio.Event()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await said.wait()
            tasks.cancel_scope.cancel()
    assert heard == [[TextDelta("a")]]
    assert (model.open, model.closed_early) == (0, 1)


async def test_it_goes_on_when_the_event_it_waits_for_is_set() -> None:
    event = anyio.Event()
    event.set()
    assert (await last_turn(plays(Until(event), Say("b")))).text == "b"


async def test_a_script_that_never_waits_can_be_cancelled() -> None:
    model = ScriptedModel(lambda _: iter(lambda: Say("a"), None))
    with anyio.move_on_after(0.01) as scope:
        async with model.stream(ASKED) as stream:
            async for _ in stream:
                pass
    assert scope.cancelled_caught
    assert model.closed_early == 1


# --- scripted: ------------------------------------------------------------------------------------


async def test_the_built_in_script_delegates_to_every_member_at_once() -> None:
    turn = await last_turn(
        open_scripted("scripted:"), ModelRequest("", [UserText("x")], [DELEGATE])
    )
    told = [json.loads(call.arguments) for call in turn.calls]
    assert [arguments["member_id"] for arguments in told] == ["writer", "editor"]
    assert all(arguments["task"] for arguments in told)
    assert turn.text == ""


async def test_the_built_in_script_makes_one_call_where_only_one_is_allowed() -> None:
    request = ModelRequest("", [UserText("x")], [DELEGATE], parallel_tool_calls=False)
    assert len((await last_turn(open_scripted("scripted:"), request)).calls) == 1


async def test_the_built_in_script_broadcasts_without_a_task_when_none_is_asked_for() -> None:
    tool = ToolSpec("delegate_task_to_members", "", {"properties": {}})
    (call,) = (await last_turn(open_scripted("scripted:"), ModelRequest("", [], [tool]))).calls
    assert (call.name, call.arguments) == ("delegate_task_to_members", "{}")


@pytest.mark.parametrize(
    "conversation",
    [
        [UserText("x"), AssistantTurn(""), ToolResult("call_1", "done")],
        [UserText("old"), ToolResult("old", ""), UserText("x"), ToolResult("call_1", "done")],
    ],
)
async def test_the_built_in_script_tells_a_story_once_it_has_results(
    conversation: Sequence[ConversationItem],
) -> None:
    model = open_scripted("scripted:")
    with anyio.fail_after(5):
        async with model.stream(ModelRequest("", conversation, [DELEGATE])) as stream:
            assert await anext(aiter(stream)) == [TextDelta("In ")]


async def test_results_of_an_earlier_run_do_not_keep_it_from_delegating() -> None:
    conversation: list[ConversationItem] = [
        UserText("old"),
        ToolResult("call_1", "done"),
        UserText("new"),
    ]
    turn = await last_turn(open_scripted("scripted:"), ModelRequest("", conversation, [DELEGATE]))
    assert len(turn.calls) == 2


# --- scripted:PATH --------------------------------------------------------------------------------

SCRIPT = """
pace_s: 0
agents:
  - match: the leader
    turns:
      - - call: look
          arguments: {at: 1}
        - call: rest
      - - think: Hm.
        - pause: 0
        - say: "Once\\n upon."
        - report: {input_tokens: 10, output_tokens: 5, total_tokens: 15}
        - end: length
  - match: the editor
    turns: [[{fail: model_timeout}]]
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.yaml"
    path.write_text(SCRIPT)
    return path


async def test_a_file_plays_one_turn_a_call_and_repeats_the_last(script: Path) -> None:
    model = open_scripted(f"scripted:{script}")
    assert model.name == f"scripted:{script}"
    first = ModelRequest("You are the leader.", [AssistantTurn("earlier"), UserText("x")])
    calls = [(call.name, call.arguments) for call in (await last_turn(model, first)).calls]
    assert calls == [("look", '{"at": 1}'), ("rest", "{}")]
    for turns in (1, 2):
        so_far: list[ConversationItem] = [UserText("x"), *[AssistantTurn("")] * turns]
        later = ModelRequest("You are the leader.", so_far)
        assert await batches(model, later) == [
            [ReasoningDelta("Hm.")],
            [TextDelta("Once\n ")],
            [TextDelta("upon.")],
            [TurnEnd(AssistantTurn("Once\n upon."), "length", Usage(10, 5, 15))],
        ]


@pytest.mark.parametrize(
    ("instructions", "code"), [("the editor", "model_timeout"), ("nobody", "model_error")]
)
async def test_a_file_can_fail_and_fails_for_an_agent_it_does_not_know(
    script: Path, instructions: str, code: str
) -> None:
    with pytest.raises(ModelFailed) as caught:
        await batches(open_scripted(f"scripted:{script}"), ModelRequest(instructions, []))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("agents: [", "not YAML"),
        ("[]", "the file: "),
        ("agents: []", "agents: "),
        ("agents: [{turns: [[{say: a, think: b}]]}]", "agents.0.turns.0.0: .*exactly one of"),
        ("agents: [{turns: [[{say: a, arguments: {}}]]}]", "agents.0.turns.0.0: .*exactly one of"),
        ("agents: [{turns: [[{sing: a}]]}]", "agents.0.turns.0.0.sing: "),
        ("agents: [{turns: [[{pause: -1}]]}]", "agents.0.turns.0.0.pause: "),
        ("agents: [{turns: [[{end: tool_calls}]]}]", "agents.0.turns.0.0.end: "),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "script.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=f"script.yaml: .*{told}"):
        open_scripted(f"scripted:{path}")


def test_a_file_that_is_not_there_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be read"):
        open_scripted(f"scripted:{tmp_path}/absent.yaml")
