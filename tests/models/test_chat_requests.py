"""What is asked of a Chat Completions API."""

from __future__ import annotations

from typing import Any

import pytest

from app.models.chat_requests import chat_body_of
from app.ports import (
    AssistantTurn,
    ConversationItem,
    ModelRequest,
    ToolCall,
    ToolResult,
    ToolSpec,
    UserText,
)

LOOK = ToolSpec("look", "Looks.", {"type": "object", "properties": {"at": {"type": "string"}}})
STREAMED = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}


def body_of(request: ModelRequest, model: str = "m") -> dict[str, Any]:
    return chat_body_of(model, request)


def messages_of(*said: ConversationItem) -> list[Any]:
    messages: list[Any] = body_of(ModelRequest("", said))["messages"]
    return messages


def test_a_plain_request_holds_the_conversation_and_nothing_else() -> None:
    said: list[ConversationItem] = [
        UserText("What is up?"),
        AssistantTurn("Let me look.", (ToolCall("c1", "look", '{"at":"sky"}'),)),
        ToolResult("c1", "clouds"),
        AssistantTurn("Clouds."),
        UserText("And?"),
    ]
    function = {"name": "look", "arguments": '{"at":"sky"}'}
    assert body_of(ModelRequest("Be brief.", said)) == STREAMED | {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is up?"},
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [{"id": "c1", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "clouds"},
            {"role": "assistant", "content": "Clouds."},
            {"role": "user", "content": "And?"},
        ],
    }


def test_a_turn_of_calls_alone_has_no_content_and_one_of_nothing_an_empty_one() -> None:
    called, silent = messages_of(
        AssistantTurn("", (ToolCall("c", "look", "{}"),)), AssistantTurn("")
    )
    assert called["content"] is None
    assert silent == {"role": "assistant", "content": ""}


@pytest.mark.parametrize("arguments", ["", "{", "[1]", "null", "[" * 100_000])
def test_arguments_that_no_server_would_parse_are_given_back_as_none(arguments: str) -> None:
    (message,) = messages_of(AssistantTurn("", (ToolCall("c", "look", arguments),)))
    assert message["tool_calls"][0]["function"]["arguments"] == "{}"


def test_what_the_provider_gave_is_given_back_as_it_came() -> None:
    item: dict[str, Any] = {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "tool_calls": [],
    }
    assert messages_of(AssistantTurn("", provider_items=(item,))) == [item]


def test_tools_are_sent_with_what_is_not_every_servers_way_anyhow() -> None:
    function = {"name": "look", "description": "Looks.", "parameters": LOOK.parameters}
    told = STREAMED | {"messages": [], "tools": [{"type": "function", "function": function}]}
    assert body_of(ModelRequest("", [], tools=[LOOK])) == told
    narrow = ModelRequest("", [], tools=[LOOK], tool_choice="required", parallel_tool_calls=False)
    assert body_of(narrow) == told | {"tool_choice": "required", "parallel_tool_calls": False}


def test_without_tools_nothing_is_said_of_them() -> None:
    request = ModelRequest("", [], tool_choice="required", parallel_tool_calls=False)
    assert body_of(request) == STREAMED | {"messages": []}


def test_options_are_passed_on_but_choose_nothing_of_ours() -> None:
    options = {"temperature": 0.5, "seed": None, "stream": False, "messages": [7], "tools": [7]}
    body = body_of(ModelRequest("", [], options=options))
    assert body == STREAMED | {"messages": [], "temperature": 0.5}


@pytest.mark.parametrize(
    ("asked", "options", "cap"),
    [
        (50, {"max_output_tokens": 20}, 20),
        (20, {"max_tokens": 50}, 20),
        (None, {"max_completion_tokens": 50, "max_tokens": None}, 50),
        (None, {}, None),
    ],
)
def test_the_smallest_cap_is_sent_under_one_name(
    asked: int | None, options: dict[str, Any], cap: int | None
) -> None:
    body = body_of(ModelRequest("", [], max_output_tokens=asked, options=options))
    caps = {key: value for key, value in body.items() if "max" in key}
    assert caps == ({} if cap is None else {"max_tokens": cap})


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("llama-3.1-8b", "max_tokens"),
        ("gpt-4o", "max_tokens"),
        ("openai/gpt-oss-120b", "max_tokens"),
        ("gpt-5.2-mini", "max_completion_tokens"),
        ("openai/o3", "max_completion_tokens"),
        ("gpt-5-chat-latest", "max_completion_tokens"),
    ],
)
def test_the_caps_name_is_the_models(model: str, name: str) -> None:
    body = body_of(ModelRequest("", [], max_output_tokens=16), model)
    assert [key for key in body if "max" in key] == [name]


def test_lone_surrogates_in_what_is_sent_are_repaired() -> None:
    said: list[ConversationItem] = [UserText("\ud83d\ude00"), ToolResult("c", "\udc00")]
    body = body_of(ModelRequest("\ud83d", said, options={"user": "\ude00"}))
    assert [message["content"] for message in body["messages"]] == [
        "\ufffd",
        "\U0001f600",
        "\ufffd",
    ]
    assert body["user"] == "\ufffd"
