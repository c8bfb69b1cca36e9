"""The events of one `/v1/responses` stream, in OpenAI's shapes and order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from tests.upstream.steps import CallTool, End, Json


@dataclass(frozen=True, slots=True)
class Omissions:
    """What a less careful server leaves out of its stream."""

    fields: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    event_lines: bool = False


LOCAL = Omissions(
    frozenset({"sequence_number", "output_index", "item_id", "content_index"}),
    frozenset({"response.function_call_arguments.done", "response.in_progress"}),
)
"""As llama.cpp's server does."""


class Reply:
    """Renders one reply as server-sent events and keeps the output it has said so far."""

    def __init__(self, number: int, body: Json, omit: Omissions) -> None:
        self._id = f"resp_{number}"
        self._body = body
        self._omit = omit
        self._sequence = 0
        self._output: list[Json] = []
        self._item: Json | None = None
        self._kind = ""
        self._text = ""
        self.deltas = 0

    def begin(self) -> bytes:
        response = self._response("in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def piece(self, kind: str, text: str) -> bytes:
        """One delta of `output_text`, `refusal`, `reasoning_summary_text` or a call's arguments."""
        opening = b"" if kind == self._kind and self._item else self.close() + self._open(kind)
        self._text += text
        self.deltas += 1
        return opening + self._event(f"response.{kind}.delta", **self._place(), delta=text)

    def call(self, step: CallTool) -> bytes:
        """The beginning of a function call; its arguments are pieces."""
        closing = self.close()
        call_id = step.call_id or f"call_{self._id}_{len(self._output)}"
        call = {"type": "function_call", "call_id": call_id, "name": step.name, "arguments": ""}
        return closing + self._add("function_call_arguments", call)

    def close(self) -> bytes:
        """The `done` events of the item that is open, if any."""
        if self._item is None:
            return b""
        events = b"".join(self._done(self._item))
        self._item = None
        return events

    def end(self, end: End) -> bytes:
        response = self._response(end.status)
        if end.usage:
            response["usage"] = self._usage(end.output_tokens)
        if end.reason:
            response["incomplete_details"] = {"reason": end.reason}
        if end.code:
            response["error"] = {"code": end.code, "message": "sk-secret was not good enough"}
        return self._event(f"response.{end.status}", response=response)

    def _open(self, kind: str) -> bytes:
        if kind.startswith("reasoning"):
            return self._add(kind, {"type": "reasoning", "summary": []}) + self._event(
                "response.reasoning_summary_part.added",
                **self._place(),
                part={"type": "summary_text", "text": ""},
            )
        message = {"type": "message", "role": "assistant", "content": []}
        return self._add(kind, message) + self._event(
            "response.content_part.added", **self._place(), part=self._part("")
        )

    def _add(self, kind: str, item: Json) -> bytes:
        self._kind, self._text = kind, ""
        item = {"id": f"item_{self._id}_{len(self._output)}", "status": "in_progress", **item}
        self._item = item
        self._output.append(item)
        return self._event("response.output_item.added", output_index=self._index, item=item)

    def _done(self, item: Json) -> Iterator[bytes]:
        item["status"] = "completed"
        if item["type"] == "function_call":
            item["arguments"] = self._text
            yield self._event(f"response.{self._kind}.done", **self._place(), arguments=self._text)
        elif item["type"] == "reasoning":
            item["summary"] = [{"type": "summary_text", "text": self._text}]
            if "reasoning.encrypted_content" in self._body.get("include", ()):
                item["encrypted_content"] = f"sealed_{item['id']}"
            yield self._event(f"response.{self._kind}.done", **self._place(), text=self._text)
        else:
            item["content"] = [self._part(self._text)]
            said = {"refusal" if self._kind == "refusal" else "text": self._text}
            yield self._event(f"response.{self._kind}.done", **self._place(), **said)
            yield self._event(
                "response.content_part.done", **self._place(), part=self._part(self._text)
            )
        yield self._event("response.output_item.done", output_index=self._index, item=item)

    def _part(self, text: str) -> Json:
        if self._kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _place(self) -> Json:
        part = "summary_index" if self._kind.startswith("reasoning") else "content_index"
        item_id = self._item and self._item["id"]
        return {"item_id": item_id, "output_index": self._index, part: 0}

    @property
    def _index(self) -> int:
        return len(self._output) - 1

    def _response(self, status: str) -> Json:
        return {
            "id": self._id,
            "object": "response",
            "created_at": 1_790_000_000,
            "status": status,
            "model": self._body.get("model"),
            "error": None,
            "incomplete_details": None,
            "output": self._output,
            "usage": None,
        }

    def _usage(self, output_tokens: int | None) -> Json:
        spent = self.deltas if output_tokens is None else output_tokens
        read = len(json.dumps(self._body)) // 4
        return {"input_tokens": read, "output_tokens": spent, "total_tokens": read + spent}

    def _event(self, name: str, **fields: object) -> bytes:
        if name in self._omit.events:
            return b""
        event = {"type": name, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        data = json.dumps({k: v for k, v in event.items() if k not in self._omit.fields})
        line = "" if self._omit.event_lines else f"event: {name}\n"
        return f"{line}data: {data}\n\n".encode()
