"""What is asked of a Responses API, as its JSON body. Pure.

Decisions:

- Nothing is kept on the provider's side: `store` is false and every call sends the conversation.
- A model that reasons loses the thread without its reasoning, so for those (`gpt-5…`, `o1`…, or
  whoever is given the option `reasoning`) its encrypted form is asked for, and the provider's own
  items are given back as they came. All other models get plain messages, calls and results, in
  the one form that every server understands (llama.cpp takes no answer as a bare string).
- A person's options are passed on under what the request itself says; a cap on tokens is the
  smaller of the two. Nothing that a model writes chooses a setting.
- `strict` is set only for schemas that every provider takes strictly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from app.models.text import repair_json
from app.models.wire import Json
from app.ports import AssistantTurn, ConversationItem, ModelRequest, ToolResult, ToolSpec, UserText

ENCRYPTED_REASONING: Final = "reasoning.encrypted_content"

_REASONS: Final = re.compile(r"(?:.*/)?(?:gpt-[5-9](?!.*-chat)|o\d)")
_STRICT_KEYWORDS: Final = frozenset(
    {"type", "description", "properties", "required", "additionalProperties", "enum", "items"}
)


def keeps_items(model: str, request: ModelRequest) -> bool:
    """Whether the provider's own items are to be given back with the next call."""
    return reasons(model, request) or bool(request.hosted_tools)


def reasons(model: str, request: ModelRequest) -> bool:
    """Whether this call makes the model reason, as far as its name and its options tell."""
    return bool(request.options.get("reasoning")) or _REASONS.match(model) is not None


def output_cap(request: ModelRequest) -> int | None:
    """Return the smaller of the two caps on output tokens, `None` if there is none."""
    caps = (request.max_output_tokens, request.options.get("max_output_tokens"))
    return min((cap for cap in caps if cap is not None), default=None)


def body_of(model: str, request: ModelRequest) -> Json:
    """Return the body of `POST /responses`, fit for any JSON encoder."""
    body: Json = {
        **request.options,
        "model": model,
        "instructions": request.instructions or None,
        "input": [item for said in request.conversation for item in _items_of(said)],
        "max_output_tokens": output_cap(request),
        "store": False,
        "stream": True,
        **_tools_of(request),
    }
    if reasons(model, request):
        body["include"] = [*body.get("include", ()), ENCRYPTED_REASONING]
    told: Json = repair_json({key: value for key, value in body.items() if value is not None})
    return told


def _items_of(said: ConversationItem) -> Iterator[Mapping[str, Any]]:
    match said:
        case UserText(text):
            yield {"role": "user", "content": text}
        case ToolResult(call_id, output):
            yield {"type": "function_call_output", "call_id": call_id, "output": output}
        case AssistantTurn(provider_items=items) if items:
            yield from (item for item in items if _can_be_given_back(item))
        case AssistantTurn():
            yield from _plain(said)


def _can_be_given_back(item: Mapping[str, Any]) -> bool:
    """Reasoning that is not sealed is known by its id alone, and nothing is stored under it."""
    return item.get("type") != "reasoning" or bool(item.get("encrypted_content"))


def _plain(turn: AssistantTurn) -> Iterator[Json]:
    if turn.text:
        part = {"type": "output_text", "text": turn.text}
        yield {"type": "message", "role": "assistant", "content": [part]}
    for call in turn.calls:
        yield {
            "type": "function_call",
            "call_id": call.call_id,
            "name": call.name,
            "arguments": call.arguments,
        }


def _tools_of(request: ModelRequest) -> Json:
    if not request.tools and not request.hosted_tools:
        return {"tools": None, "tool_choice": None, "parallel_tool_calls": None}
    return {
        "tools": [*map(_function, request.tools), *request.hosted_tools],
        "tool_choice": request.tool_choice,
        "parallel_tool_calls": request.parallel_tool_calls,
    }


def _function(tool: ToolSpec) -> Json:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": is_strict(tool.parameters),
    }


def is_strict(schema: Any) -> bool:
    """Whether every provider takes a JSON Schema strictly: closed objects, nothing optional."""
    if not isinstance(schema, Mapping) or not schema.keys() <= _STRICT_KEYWORDS:
        return False
    if "items" in schema and not is_strict(schema["items"]):
        return False
    if schema.get("type") != "object":
        return "type" in schema
    properties = schema.get("properties", {})
    is_closed = schema.get("additionalProperties") is False
    all_required = set(schema.get("required", ())) == properties.keys()
    return is_closed and all_required and all(map(is_strict, properties.values()))
