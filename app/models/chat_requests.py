"""What is asked of a Chat Completions API, as its JSON body. Pure.

Decisions:

- Only what the many servers behind this API know is sent, and nothing that says what each does by
  itself: no `strict`, no `tool_choice: auto`, no `parallel_tool_calls: true`, which some refuse.
- The cap is `max_tokens`, which every server knows; but OpenAI's reasoning models refuse it and
  want `max_completion_tokens`. They are told by their names, wherever they are served.
- Servers parse the arguments of earlier calls and refuse the whole request over malformed ones, so
  those are given back as `{}`; the result beneath tells the model what was wrong.
- A person's options are passed on under what the request itself says, in the provider's words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from app.models.text import repair_json
from app.models.wire import Json
from app.ports import AssistantTurn, ConversationItem, ModelRequest, ToolResult, ToolSpec, UserText

_CAPS: Final = ("max_output_tokens", "max_tokens", "max_completion_tokens")
_WANTS_COMPLETION_CAP: Final = re.compile(r"(?:.*/)?(?:gpt-[5-9]|o\d)")


def chat_output_cap(request: ModelRequest) -> int | None:
    """Return the smallest of the caps on output tokens, `None` if there is none."""
    caps = (request.max_output_tokens, *map(request.options.get, _CAPS))
    return min((cap for cap in caps if cap is not None), default=None)


def chat_body_of(model: str, request: ModelRequest) -> Json:
    """Return the body of `POST /chat/completions`, fit for any JSON encoder."""
    options = {name: value for name, value in request.options.items() if name not in _CAPS}
    is_new = _WANTS_COMPLETION_CAP.match(model)
    body: Json = {
        **options,
        "model": model,
        "messages": list(_messages(request)),
        "max_completion_tokens" if is_new else "max_tokens": chat_output_cap(request),
        "stream": True,
        "stream_options": {"include_usage": True},
        **_tools_of(request),
    }
    told: Json = repair_json({key: value for key, value in body.items() if value is not None})
    return told


def assistant_message(turn: AssistantTurn) -> Json:
    """Return the message that says what a turn said."""
    calls = [
        {
            "id": call.call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": _fit(call.arguments)},
        }
        for call in turn.calls
    ]
    message: Json = {"role": "assistant", "content": turn.text or (None if calls else "")}
    return message | ({"tool_calls": calls} if calls else {})


def _messages(request: ModelRequest) -> Iterator[Mapping[str, Any]]:
    if request.instructions:
        yield {"role": "system", "content": request.instructions}
    for said in request.conversation:
        yield from _messages_of(said)


def _messages_of(said: ConversationItem) -> Iterator[Mapping[str, Any]]:
    match said:
        case UserText(text):
            yield {"role": "user", "content": text}
        case ToolResult(call_id, output):
            yield {"role": "tool", "tool_call_id": call_id, "content": output}
        case AssistantTurn(provider_items=items) if items:
            yield from items
        case AssistantTurn():
            yield assistant_message(said)


def _fit(arguments: str) -> str:
    try:
        is_object = isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        is_object = False
    return arguments if is_object else "{}"


def _tools_of(request: ModelRequest) -> Json:
    has_tools = bool(request.tools)
    is_required = has_tools and request.tool_choice == "required"
    is_single = has_tools and not request.parallel_tool_calls
    return {
        "tools": [_function(tool) for tool in request.tools] or None,
        "tool_choice": "required" if is_required else None,
        "parallel_tool_calls": False if is_single else None,
    }


def _function(tool: ToolSpec) -> Json:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
        },
    }
