"""The stream of `POST /v1/responses`, read purely: bytes in, `ModelEvent`s out. No I/O.

Written for OpenAI's stream and for the local servers that imitate it, so nothing is asked of a
stream but the types of its events and, at the end, `response.completed`. What repeats text (the
`done` events, the completed response) is compared with what was said before and only fills gaps,
so text is neither lost nor doubled. Items say where they belong by id, or index, or, failing
both, by coming last.

Decisions:

- The decoder is msgspec with one loose struct (0.3 µs an event; the SDK's typed events: 98). Only
  what it cannot decode (lone surrogates, stray bytes) goes to the standard library.
- An event of a known type in an unreadable shape fails the call; unknown types are ignored.
- `length` is the request's own cap reached, by the provider's word or by the tokens it reports
  (llama.cpp says `completed` when it cuts). A cut without a cap of ours is `model_incomplete`.
- Calls are taken from the completed response, else from what was streamed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from app.domain.events import FinishReason, Usage
from app.domain.text import repair
from app.models.output import StreamedOutput
from app.models.parser import StreamParser, cut, filtered, incomplete
from app.models.refusals import reported
from app.models.transcript import PairJoiner, Transcript
from app.models.wire import Json, StreamEvent, decode, items_of, text_parts, usage_of
from app.ports import AssistantTurn, TurnEnd


class ResponsesParser(StreamParser):
    """Turns the bytes of one stream into events.

    `max_output_tokens` is the cap that was sent. With `keeps_items` the end tells the provider's
    output items, to be given back with the next call.
    """

    __slots__ = ("_cap", "_keeps_items", "_output", "_refused", "_said", "_thoughts")

    def __init__(self, max_output_tokens: int | None = None, *, keeps_items: bool = False) -> None:
        super().__init__()
        self._cap = max_output_tokens
        self._keeps_items = keeps_items
        self._said = Transcript()
        self._thoughts = PairJoiner()
        self._output = StreamedOutput()
        self._refused = False

    def _take(self, payload: bytes) -> None:
        event = decode(payload, self.ACTIONS)
        self.has_begun = self.has_begun or event.is_token
        act = self.ACTIONS.get(event.type)
        if act is not None:
            act(self, event)
        elif not event.type and event.error is not None:
            self._on_error(event)

    def _close(self) -> None:
        raise incomplete()

    # --- what the events say ---

    def _on_text(self, event: StreamEvent) -> None:
        if event.delta:
            place = (event.item_id, event.output_index, event.content_index)
            self._say(self._said.add(event.delta, place))

    def _on_refusal(self, event: StreamEvent) -> None:
        self._refused = True
        self._on_text(event)

    def _on_text_done(self, event: StreamEvent) -> None:
        self._refused = self._refused or bool(event.refusal)
        self._say(self._said.end_part(repair(event.text or event.refusal or "")))

    def _on_thought(self, event: StreamEvent) -> None:
        if event.delta:
            place = (event.item_id, event.output_index)
            self._think(self._thoughts.feed(event.delta, place))

    def _on_thought_done(self, _: StreamEvent) -> None:
        self._think(self._thoughts.flush())

    def _on_part(self, event: StreamEvent) -> None:
        if event.part is not None and event.part.get("type") in ("output_text", "refusal"):
            self._say(self._said.begin_part())

    def _on_item(self, event: StreamEvent) -> None:
        if event.item is None:
            return
        self._output.begin(event.item, event.output_index)
        if event.item.get("type") == "message":
            self._say(self._said.begin_item())

    def _on_item_done(self, event: StreamEvent) -> None:
        if event.item is None:
            return
        self._output.end(event.item, event.output_index)
        if event.item.get("type") == "message":
            self._say(self._said.end_item(self._text_of([event.item])))

    def _on_arguments(self, event: StreamEvent) -> None:
        if event.delta:
            self._output.add(event.delta, event.item_id, event.output_index)

    def _on_arguments_done(self, event: StreamEvent) -> None:
        if event.arguments:
            self._output.replace(event.arguments, event.item_id, event.output_index)

    def _on_end(self, event: StreamEvent) -> None:
        """The provider's end, whichever: the response's status says more than the event's name."""
        response = event.response or {}
        status = response.get("status") or event.type.removeprefix("response.")
        if status == "failed":
            raise reported(response.get("error"))
        usage = usage_of(response.get("usage"))
        if status == "incomplete":
            self._accept_cut(response)
        elif status != "completed":
            raise incomplete()
        output = items_of(response.get("output"))
        self._say(self._said.end(self._text_of(output)))
        self._think(self._thoughts.flush())
        self._end(TurnEnd(self._turn(output), self._finish_reason(status, usage), usage))

    def _on_error(self, event: StreamEvent) -> None:
        raise reported(event.error if isinstance(event.error, dict) else {"code": event.code})

    # --- what becomes of it ---

    def _text_of(self, items: Sequence[Json]) -> str:
        """Return the text of output items, and take note of a refusal among them."""
        parts = list(text_parts(items))
        self._refused = self._refused or any(kind == "refusal" for kind, _ in parts)
        return repair("".join(text for _, text in parts))

    def _accept_cut(self, response: Json) -> None:
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        if reason == "content_filter":
            raise filtered()
        if reason != "max_output_tokens" or self._cap is None:
            raise cut()

    def _finish_reason(self, status: object, usage: Usage | None) -> FinishReason:
        if self._refused:
            return "refusal"
        if status == "incomplete":
            return "length"
        is_full = self._cap is not None and usage is not None and usage.output_tokens >= self._cap
        return "length" if is_full else "stop"

    def _turn(self, output: Sequence[Json]) -> AssistantTurn:
        calls, as_given = self._output.calls(output)
        items = (output or self._output.items) if self._keeps_items and as_given else ()
        return AssistantTurn(self._said.text, calls, tuple(items))

    ACTIONS: ClassVar[Mapping[str, Callable[[ResponsesParser, StreamEvent], None]]] = {
        "response.output_text.delta": _on_text,
        "response.output_text.done": _on_text_done,
        "response.refusal.delta": _on_refusal,
        "response.refusal.done": _on_text_done,
        "response.reasoning_summary_text.delta": _on_thought,
        "response.reasoning_summary_text.done": _on_thought_done,
        "response.reasoning_text.delta": _on_thought,
        "response.reasoning_text.done": _on_thought_done,
        "response.content_part.added": _on_part,
        "response.output_item.added": _on_item,
        "response.output_item.done": _on_item_done,
        "response.function_call_arguments.delta": _on_arguments,
        "response.function_call_arguments.done": _on_arguments_done,
        "response.completed": _on_end,
        "response.incomplete": _on_end,
        "response.failed": _on_end,
        "response.cancelled": _on_end,
        "error": _on_error,
    }
