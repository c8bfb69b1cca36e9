"""The chunks of one `/v1/chat/completions` stream, in OpenAI's shapes and order."""

from __future__ import annotations

import json
from typing import Any

from tests.upstream.replies import Omissions
from tests.upstream.steps import CallTool, End, Json

_FINISH = {"max_output_tokens": "length", "content_filter": "content_filter"}
_NAMES = {"output_text": "content", "reasoning_summary_text": "reasoning_content"}


class ChatReply:
    """Renders one reply, as `Reply` does; `omit.events` may name `usage` and `[DONE]`."""

    def __init__(self, number: int, body: Json, omit: Omissions) -> None:
        self._id = f"chatcmpl_{number}"
        self._body = body
        self._omit = omit
        self._calls = 0
        self.deltas = 0

    def begin(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, kind: str, text: str) -> bytes:
        """One delta of `output_text`, `refusal`, `reasoning_summary_text` or a call's arguments."""
        self.deltas += 1
        if kind == "function_call_arguments":
            return self._call({"function": {"arguments": text}})
        return self._chunk({_NAMES.get(kind, kind): text})

    def call(self, step: CallTool) -> bytes:
        """The beginning of a function call; its arguments are pieces."""
        self._calls += 1
        call_id = step.call_id or f"call_{self._id}_{self._calls}"
        function = {"name": step.name, "arguments": ""}
        return self._call({"id": call_id, "type": "function", "function": function})

    def close(self) -> bytes:
        """Nothing: what is open here ends with the reply."""
        return b""

    def end(self, end: End) -> bytes:
        if end.status == "failed":
            message = "sk-secret was not good enough"
            return self._data({"error": {"message": message, "type": end.code, "code": end.code}})
        done = "tool_calls" if self._calls else "stop"
        reason = done if end.status == "completed" else _FINISH.get(end.reason or "")
        said = self._chunk({}, reason)
        if end.usage and self._body.get("stream_options") == {"include_usage": True}:
            said += self._usage(end.output_tokens)
        return said + (b"" if "[DONE]" in self._omit.events else b"data: [DONE]\n\n")

    def _call(self, delta: Json) -> bytes:
        return self._chunk({"tool_calls": [{"index": self._calls - 1, **delta}]})

    def _usage(self, output_tokens: int | None) -> bytes:
        if "usage" in self._omit.events:
            return b""
        spent = self.deltas if output_tokens is None else output_tokens
        read = len(json.dumps(self._body)) // 4
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        usage = dict(zip(names, (read, spent, read + spent), strict=True))
        return self._data({"object": "chat.completion.chunk", "choices": [], "usage": usage})

    def _chunk(self, delta: Json, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._data(
            {
                "id": self._id,
                "object": "chat.completion.chunk",
                "created": 1_790_000_000,
                "model": self._body.get("model"),
                "choices": [choice],
                "usage": None,
            }
        )

    def _data(self, value: Json) -> bytes:
        return f"data: {json.dumps(self._without(value))}\n\n".encode()

    def _without(self, value: Any) -> Any:
        """Leave out what `omit` says, at any depth."""
        if isinstance(value, list):
            return [self._without(each) for each in value]
        if not isinstance(value, dict):
            return value
        fields = self._omit.fields
        return {key: self._without(inner) for key, inner in value.items() if key not in fields}
