"""What a small model can follow of a conversation with tools. Pure.

SmolLM2 135M has learnt to chat, not to use tools: it calls one only when its answer is held to a
grammar, and shown a call and its result it answers with more of the same JSON. So

- while there is no result it must call one of its tools (`tool_choice: required`), one alone;
- once there is, the tools are gone, and what they answered is put to it as plain text beneath the
  question, of a delegation only what the members wrote.

Its own ends come early, so the token that ends an answer is made less likely (`END_BIAS`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from app.ports import AssistantTurn, ConversationItem, ModelRequest, ToolResult, UserText

MAX_OUTPUT_TOKENS: Final = 700
"""The most it is asked for in one call; it does not know when to stop."""

END_BIAS: Final = {"2": -2}
"""SmolLM2's `<|im_end|>`, by its id, and what is added to its logit."""

FINISH: Final = "Now write the finished answer, complete and in your own words."


def plainly(request: ModelRequest) -> ModelRequest:
    """Return a request in the form that the small model can follow."""
    results = [item.output for item in request.conversation if isinstance(item, ToolResult)]
    tools = () if results else request.tools
    cap = request.max_output_tokens
    return replace(
        request,
        conversation=tuple(_conversation(request.conversation, results)),
        tools=tools,
        tool_choice="required" if tools else "auto",
        parallel_tool_calls=False,
        max_output_tokens=MAX_OUTPUT_TOKENS if cap is None else min(cap, MAX_OUTPUT_TOKENS),
        options={"logit_bias": END_BIAS, **request.options},
    )


def _conversation(
    said: Sequence[ConversationItem], results: Sequence[str]
) -> Iterator[ConversationItem]:
    texts = [item for item in said if isinstance(item, UserText) or _is_text(item)]
    if not results:
        yield from texts
        return
    question = next((item for item in reversed(texts) if isinstance(item, UserText)), UserText(""))
    yield from (item for item in texts if item is not question)
    drafts = [_plain_result(result) for result in results]
    yield UserText("\n\n".join([question.text, *drafts, FINISH]))


def _is_text(item: ConversationItem) -> bool:
    return isinstance(item, AssistantTurn) and not item.calls


def _plain_result(output: str) -> str:
    """Return what the members wrote, if it is a delegation's result; else the result as it is."""
    try:
        result = json.loads(output)
    except ValueError:
        return output
    told = result if isinstance(result, list) else [result]
    if all(isinstance(each, Mapping) and "content" in each for each in told):
        return "\n\n".join(map(_said_by_member, told))
    return output


def _said_by_member(result: Mapping[str, Any]) -> str:
    return str(result["content"] or f"(nothing: {result.get('status')})")
