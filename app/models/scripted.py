"""A model that says what it was told: for tests, examples and front-end work without a model.

A script is a function from the request to steps, played one after the other:

    ScriptedModel(lambda request: [Say("Once "), Pause(0.5), Say("upon a time.")])

The scripts that the service knows by name, `scripted:` and `scripted:PATH`, are in `scripts.py`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import anyio
import anyio.lowlevel

from app.domain.errors import ModelFailed
from app.domain.events import FinishReason, Usage
from app.ports import (
    AssistantTurn,
    ModelEvent,
    ModelRequest,
    ReasoningDelta,
    Retry,
    TextDelta,
    ToolCall,
    TurnEnd,
)

# --- steps ----------------------------------------------------------------------------------------


class Waitable(Protocol):
    """An `anyio.Event`, an `asyncio.Event` or the like."""

    async def wait(self) -> object:
        """Return when it is set."""


@dataclass(frozen=True, slots=True)
class Say:
    """One text delta; not empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Think:
    """One delta of the reasoning summary; not empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Together:
    """Deltas that arrive in one batch."""

    steps: Sequence[Say | Think]


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call, told at the end of the turn; the model makes up an id where there is none."""

    name: str
    arguments: str | Mapping[str, Any] = "{}"
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Until:
    """Silence until somebody sets the event."""

    event: Waitable


@dataclass(frozen=True, slots=True)
class Fail:
    """The stream ends with this error."""

    error: ModelFailed


@dataclass(frozen=True, slots=True)
class RetrySoon:
    """The retry is told, then its delay passes."""

    retry: Retry


@dataclass(frozen=True, slots=True)
class Report:
    """The usage that the provider reports at the end."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class End:
    """The turn is over, for this reason; steps behind it are not played."""

    finish_reason: FinishReason = "stop"


Step = Say | Think | Together | Call | Pause | Until | Fail | RetrySoon | Report | End
Script = Callable[[ModelRequest], Iterable[Step]]

# --- the model ------------------------------------------------------------------------------------


class ScriptedModel:
    """Plays a script, and remembers what it was asked and how that ended.

    `requests` holds every request; `open` is how many streams are open now; `closed_early` is how
    many were left before they had told their end or their failure.
    """

    def __init__(self, script: Script, name: str = "scripted:") -> None:
        self.name = name
        self.requests: list[ModelRequest] = []
        self.open = 0
        self.closed_early = 0
        self._script = script
        self._call_ids = (f"call_{number}" for number in count(1))

    @asynccontextmanager
    async def stream(
        self, request: ModelRequest
    ) -> AsyncGenerator[AsyncGenerator[Sequence[ModelEvent]]]:
        """Play the script for this request; see `ports.Model`."""
        self.requests.append(request)
        self.open += 1
        turn = _Turn(self._call_ids)
        try:
            async with aclosing(turn.play(self._script(request))) as batches:
                yield batches
        finally:
            self.open -= 1
            self.closed_early += not turn.is_over


@dataclass
class _Turn:
    """One call being played: what it has said so far."""

    call_ids: Iterator[str]
    text: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    usage: Usage | None = None
    finish_reason: FinishReason = "stop"
    is_over: bool = False

    async def play(self, steps: Iterable[Step]) -> AsyncGenerator[Sequence[ModelEvent]]:
        for step in steps:
            await anyio.lowlevel.checkpoint()  # like a real stream, never faster than the loop
            if isinstance(step, End):
                self.finish_reason = step.finish_reason
                break
            if batch := self._take(step):
                yield batch
            await self._wait(step)
        self.is_over = True
        turn = AssistantTurn(self.text, tuple(self.calls))
        yield [TurnEnd(turn, self.finish_reason, self.usage)]

    def _take(self, step: Step) -> Sequence[ModelEvent]:
        match step:
            case Say(text):
                self.text += text
                return [TextDelta(text)]
            case Think(text):
                return [ReasoningDelta(text)]
            case Together(steps):
                return [event for each in steps for event in self._take(each)]
            case RetrySoon(retry):
                return [retry]
            case Call(name, arguments, call_id):
                text = arguments if isinstance(arguments, str) else json.dumps(arguments)
                self.calls.append(ToolCall(call_id or next(self.call_ids), name, text))
            case Report(usage):
                self.usage = usage
            case Fail(error):
                self.is_over = True
                raise error
        return []

    async def _wait(self, step: Step) -> None:
        match step:
            case Pause(seconds):
                await anyio.sleep(seconds)
            case RetrySoon(retry):
                await anyio.sleep(retry.delay_s)
            case Until(event):
                await event.wait()
