"""What becomes of a conversation before the small model reads it."""

from __future__ import annotations

import json

import pytest

from app.models.local_talk import END_BIAS, FINISH, MAX_OUTPUT_TOKENS, plainly
from app.ports import (
    AssistantTurn,
    ConversationItem,
    ModelRequest,
    ToolCall,
    ToolResult,
    ToolSpec,
    UserText,
)

TOOL = ToolSpec("look", "", {"type": "object", "properties": {}})
CALLED = AssistantTurn("", (ToolCall("c1", "look", "{}"),))


def texts(*said: ConversationItem) -> list[str]:
    plain = plainly(ModelRequest("", said, [TOOL])).conversation
    return [item.text for item in plain if isinstance(item, UserText | AssistantTurn)]


def delegated(content: str, status: str = "completed") -> dict[str, object]:
    return {"run_id": "r", "agent_id": "a", "status": status, "content": content, "error": None}


def test_a_tool_must_be_called_while_there_is_no_result() -> None:
    plain = plainly(ModelRequest("", [UserText("Go.")], [TOOL]))
    assert (plain.tools, plain.tool_choice, plain.parallel_tool_calls) == (
        [TOOL],
        "required",
        False,
    )


def test_there_are_no_tools_once_there_is_a_result() -> None:
    said = (UserText("Go."), CALLED, ToolResult("c1", "green"))
    plain = plainly(ModelRequest("", said, [TOOL], tool_choice="required"))
    assert (plain.tools, plain.tool_choice) == ((), "auto")


def test_a_tools_result_stands_beneath_the_question_as_it_is() -> None:
    said = texts(UserText("Go."), CALLED, ToolResult("c1", '{"colour": "green"}'))
    assert said == [f'Go.\n\n{{"colour": "green"}}\n\n{FINISH}']


def test_of_a_delegation_only_what_the_member_wrote_is_read() -> None:
    result = json.dumps(delegated("Once."))
    assert texts(UserText("Go."), CALLED, ToolResult("c1", result)) == [f"Go.\n\nOnce.\n\n{FINISH}"]


def test_the_answers_of_several_members_follow_one_another() -> None:
    result = json.dumps([delegated("One."), delegated("", "cancelled")])
    said = texts(UserText("Go."), CALLED, ToolResult("c1", result))
    assert said == [f"Go.\n\nOne.\n\n(nothing: cancelled)\n\n{FINISH}"]


@pytest.mark.parametrize("output", ["not JSON", "7", "[7]", "null"])
def test_a_result_of_any_shape_is_passed_on(output: str) -> None:
    said = texts(UserText("Go."), CALLED, ToolResult("c1", output))
    assert said == [f"Go.\n\n{output}\n\n{FINISH}"]


def test_earlier_runs_of_a_session_stay_as_they_were_said() -> None:
    earlier = (UserText("Hi."), AssistantTurn("Hello."))
    said = texts(*earlier, UserText("Hi."), CALLED, ToolResult("c1", "x"))
    assert said == ["Hi.", "Hello.", f"Hi.\n\nx\n\n{FINISH}"]


@pytest.mark.parametrize(("asked", "sent"), [(None, MAX_OUTPUT_TOKENS), (500, 500), (9000, 700)])
def test_an_answers_length_has_a_cap(asked: int | None, sent: int) -> None:
    plain = plainly(ModelRequest("", [UserText("Go.")], max_output_tokens=asked))
    assert plain.max_output_tokens == sent


def test_a_persons_own_options_win() -> None:
    options = {"temperature": 0.5, "logit_bias": {}}
    assert plainly(ModelRequest("", [UserText("Go.")], options=options)).options == options
    assert plainly(ModelRequest("", [UserText("Go.")])).options == {"logit_bias": END_BIAS}
