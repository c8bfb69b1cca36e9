"""The chunks of a Chat Completions stream as they come; see `wire.py`."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from app.domain.events import Usage
from app.models.wire import items_of, malformed, read_json, usage_of


class Function(msgspec.Struct, gc=False):
    """A function's name, and its arguments: JSON text, or (some servers) the object itself."""

    name: str | None = None
    arguments: Any = None


class CallDelta(msgspec.Struct, gc=False):
    """A tool call, or a piece of one."""

    index: int | None = None
    id: str | int | None = None
    function: Function | None = None

    @property
    def call_id(self) -> str:
        """The call's id, empty if it is not told."""
        return "" if self.id is None else str(self.id)

    @property
    def name(self) -> str:
        """The function's name, empty if it is not told."""
        return (self.function and self.function.name) or ""

    @property
    def arguments(self) -> str:
        """The arguments as JSON text, or a piece of it."""
        given = self.function.arguments if self.function else None
        if given is None or isinstance(given, str):
            return given or ""
        return json.dumps(given)


class Words(msgspec.Struct, gc=False):
    """A delta, or a whole message."""

    content: Any = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: list[CallDelta] | None = None
    function_call: Function | None = None

    @property
    def text(self) -> str:
        """The content as text; some servers send it in parts."""
        if isinstance(self.content, str):
            return self.content
        texts = (part.get("text") for part in items_of(self.content))
        return "".join(text for text in texts if isinstance(text, str))

    @property
    def thought(self) -> tuple[str, str] | None:
        """Under which name reasoning comes, and the reasoning."""
        if self.reasoning_content and isinstance(self.reasoning_content, str):
            return "reasoning_content", self.reasoning_content
        if self.reasoning and isinstance(self.reasoning, str):
            return "reasoning", self.reasoning
        return None

    @property
    def calls(self) -> list[CallDelta]:
        """The tool calls, or the one function call of older servers."""
        if self.function_call is not None:
            return [CallDelta(0, None, self.function_call)]
        return self.tool_calls or []

    @property
    def is_token(self) -> bool:
        """Whether it shows that the model has begun to write, or to call something."""
        return bool(self.text or self.refusal or self.thought or self.calls)


class Choice(msgspec.Struct, gc=False):
    """One of the answers, of which only the first is looked at."""

    index: int | None = None
    delta: Words | None = None
    message: Words | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct, gc=False):
    """The data of one event."""

    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    object: Any = None
    code: Any = None
    type: Any = None


_DECODER: Final = msgspec.json.Decoder(Chunk)


def read_chunk(payload: bytes) -> Chunk:
    """Read the data of one event. Raises `ModelFailed` for what is no chunk."""
    try:
        return read_json(payload, _DECODER)
    except msgspec.ValidationError:
        raise malformed() from None


def error_of(chunk: Chunk) -> object:
    """Return the error that a chunk tells, falsy if it tells none."""
    if chunk.object == "error":  # vLLM's, which has no shell around it
        return chunk.error or {"code": chunk.code, "type": chunk.type}
    return chunk.error


def chat_usage_of(value: object) -> Usage | None:
    """Return the tokens that a chunk reports, `None` for what is no report."""
    if not isinstance(value, dict):
        return None
    names = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}
    return usage_of(
        {ours: value.get(theirs) for ours, theirs in names.items()}
        | {"total_tokens": value.get("total_tokens")}
    )
