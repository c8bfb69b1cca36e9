"""The stream of `POST /v1/chat/completions`, read purely: bytes in, `ModelEvent`s out. No I/O.

Written for the many servers that speak it, each a little differently: see `chat_wire.py` for what
may stand where, `chat_calls.py` for tool calls. Of several choices the first one is the answer.

Decisions:

- The provider's end is `finish_reason`. Usage may follow it, and `[DONE]`, or the end of the body
  without it; even a connection that breaks then takes nothing of the answer away.
- A reason that is none of the known ones is no end: servers tell of aborts and failures there too.
- `length` is the request's own cap reached, by the provider's word or by the tokens it reports. A
  cut without a cap of ours is `model_incomplete`.
- A whole message, from servers that don't really stream, fills the gaps of what was said.
- Reasoning that led to tool calls is given back with them, under the name it came by: DeepSeek
  refuses a conversation without it. Otherwise nothing is: it refuses that too.
"""

from __future__ import annotations

from typing import Final

from app.domain.events import FinishReason, Usage
from app.domain.text import repair
from app.models.chat_calls import StreamedCalls
from app.models.chat_requests import assistant_message
from app.models.chat_wire import Choice, Words, chat_usage_of, error_of, read_chunk
from app.models.parser import StreamParser, cut, filtered, incomplete
from app.models.refusals import reported
from app.models.transcript import PairJoiner, Transcript
from app.ports import AssistantTurn, TurnEnd

_ENDS: Final = frozenset(
    {"stop", "tool_calls", "function_call", "eos", "eos_token", "end_turn", "stop_sequence"}
)
_CUTS: Final = frozenset({"length", "max_tokens"})


class ChatParser(StreamParser):
    """Turns the bytes of one stream into events; `max_output_tokens` is the cap that was sent."""

    def __init__(self, max_output_tokens: int | None = None) -> None:
        super().__init__()
        self._cap = max_output_tokens
        self._said = Transcript()
        self._joiner = PairJoiner()
        self._thoughts: list[str] = []
        self._thoughts_name = ""
        self._calls = StreamedCalls()
        self._refused = False
        self._was_cut = False
        self._usage: Usage | None = None

    def _take(self, payload: bytes) -> None:
        chunk = read_chunk(payload)
        if error := error_of(chunk):
            raise reported(error)
        if chunk.usage is not None:
            self._usage = chat_usage_of(chunk.usage) or self._usage
        for choice in chunk.choices or ():
            if not choice.index:
                self._hear(choice)

    def _close(self) -> None:
        if not self.may_end:
            raise incomplete()
        self._say(self._said.flush())
        self._wonder(self._joiner.flush())
        self._end(TurnEnd(self._turn(), self._finish_reason(), self._usage))

    # --- what a choice says ---

    def _hear(self, choice: Choice) -> None:
        if choice.delta is not None:
            self.has_begun = self.has_begun or choice.delta.is_token
            self._hear_delta(choice.delta)
        if choice.message is not None:
            self.has_begun = self.has_begun or choice.message.is_token
            self._hear_message(choice.message)
        if choice.finish_reason:
            self._accept(choice.finish_reason.lower())

    def _hear_delta(self, delta: Words) -> None:
        if thought := delta.thought:
            self._thoughts_name = thought[0]
            self._wonder(self._joiner.feed(thought[1], None))
        if text := delta.text:
            self._say(self._said.add(text, "content"))
        if delta.refusal:
            self._refused = True
            self._say(self._said.add(delta.refusal, "refusal"))
        for call in delta.calls:
            self._calls.add(call)

    def _hear_message(self, message: Words) -> None:
        """Take a whole message, ahead of which some or all of it may have come in deltas."""
        if (thought := message.thought) and not self._thoughts:
            self._thoughts_name = thought[0]
            self._wonder(repair(thought[1]))
        self._refused = self._refused or bool(message.refusal)
        self._say(self._said.end(repair(message.text + (message.refusal or ""))))
        if message.calls:
            self._calls = StreamedCalls()
        for call in message.calls:
            self._calls.begin(call)

    def _accept(self, reason: str) -> None:
        """Take the provider's end. Raises `ModelFailed` for one that is none."""
        if reason == "content_filter":
            raise filtered()
        if reason == "error":
            raise reported(None)
        self._was_cut = reason in _CUTS
        if reason not in _ENDS and not (self._was_cut and self._cap is not None):
            raise cut()
        self.may_end = True

    # --- what becomes of it ---

    def _wonder(self, text: str) -> None:
        if text:
            self._thoughts.append(text)
            self._think(text)

    def _turn(self) -> AssistantTurn:
        turn = AssistantTurn(self._said.text, self._calls.calls())
        if not (turn.calls and self._thoughts):
            return turn
        message = assistant_message(turn) | {self._thoughts_name: "".join(self._thoughts)}
        return AssistantTurn(turn.text, turn.calls, (message,))

    def _finish_reason(self) -> FinishReason:
        if self._refused:
            return "refusal"
        spent = self._usage.output_tokens if self._usage else 0
        is_full = self._cap is not None and spent >= self._cap
        return "length" if self._was_cut or is_full else "stop"
