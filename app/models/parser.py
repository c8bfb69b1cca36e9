"""What the readers of every provider's stream share: bytes in, `ModelEvent`s out. Pure, no I/O.

Decisions:

- A failure is kept in `failure`, not raised, so that text ahead of it in the same bytes is not
  lost; the caller says the events first and then raises. `is_over` tells that nothing more counts.
- After the first token no failure asks for the call to be made again: it would be said, billed or
  done twice. A token is whatever the model wrote, a call's arguments included, said here or not;
  a hosted tool's call is one too, for it may have acted. What a token is stands in `wire.py` and
  `chat_wire.py`, what follows from it in `_fail`.
- An event that has nothing to say here (arguments, a hosted tool's progress) is a sign of work
  still, and `has_heard` tells it. A comment is none: servers and proxies send them while no model
  is at work, so a stream of comments alone is silence.
- `[DONE]` is the end of the body, told in the body.
- No text of the provider reaches a message: it may repeat a key.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from app.domain.errors import ModelFailed
from app.models.output import OutputTooLong
from app.models.sse import EventStream, EventTooLong
from app.ports import ModelEvent, ReasoningDelta, TextDelta, TurnEnd


class StreamParser(ABC):
    """Turns the bytes of one stream into events.

    `has_begun` tells that the first token came; `has_heard` that the last bytes completed an event
    of the provider; `may_end` that it has given its end, and only its last words are missing.
    """

    __slots__ = ("_events", "_stream", "failure", "has_begun", "has_heard", "is_over", "may_end")

    def __init__(self) -> None:
        self.failure: ModelFailed | None = None
        self.is_over = False
        self.may_end = False
        self.has_begun = False
        self.has_heard = False
        self._stream = EventStream()
        self._events: list[ModelEvent] = []

    def feed(self, data: bytes) -> Sequence[ModelEvent]:
        """Read some bytes of the body; bytes behind the end are ignored."""
        self.has_heard = False
        try:
            for payload in () if self.is_over else self._stream.feed(data):
                self.has_heard = True
                if payload.startswith(b"[DONE]"):
                    self._close()
                else:
                    self._take(payload)
                if self.is_over:
                    break
        except EventTooLong:
            self._fail(ModelFailed("model_error", "The model sent an event that is too long."))
        except OutputTooLong:
            self._fail(ModelFailed("model_error", "The model's tool calls are too long."))
        except ModelFailed as failure:
            self._fail(failure)
        return self._emitted()

    def finish(self) -> Sequence[ModelEvent]:
        """Take note of the end of the body: a failure, unless the provider's own end came first."""
        try:
            if not self.is_over:
                self._close()
        except ModelFailed as failure:
            self._fail(failure)
        return self._emitted()

    def break_off(self) -> Sequence[ModelEvent]:
        """Take note of a connection that broke: a failure, unless the provider's end came first."""
        if self.may_end:
            return self.finish()
        self._fail(broken())
        return self._emitted()

    @abstractmethod
    def _take(self, payload: bytes) -> None:
        """Read the data of one event. Raises `ModelFailed`."""

    @abstractmethod
    def _close(self) -> None:
        """End with what there is. Raises `ModelFailed` where the provider's end is missing."""

    def _say(self, text: str) -> None:
        if text:
            self._events.append(TextDelta(text))

    def _think(self, text: str) -> None:
        if text:
            self._events.append(ReasoningDelta(text))

    def _end(self, end: TurnEnd) -> None:
        self._events.append(end)
        self.is_over = True

    def _fail(self, failure: ModelFailed) -> None:
        if self.has_begun:
            failure.retry_code = None
        self.is_over, self.failure = True, failure

    def _emitted(self) -> Sequence[ModelEvent]:
        events, self._events = self._events, []
        return events


def incomplete() -> ModelFailed:
    """Return the failure for a stream without the provider's end."""
    return ModelFailed("model_incomplete", "The model's stream ended before its answer did.")


def broken() -> ModelFailed:
    """Return the failure for a connection that broke in mid-stream."""
    return ModelFailed(
        "model_incomplete",
        "The connection to the model's provider broke.",
        retry_code="connection_error",
    )


def cut() -> ModelFailed:
    """Return the failure for an answer that was cut where nobody asked for it."""
    return ModelFailed("model_incomplete", "The model's answer was cut off.")


def filtered() -> ModelFailed:
    """Return the failure for an answer that the provider's content filter ended."""
    return ModelFailed("model_incomplete", "The model's provider filtered the answer.")
