"""What a reply is made of, as data: a plan is a sequence of steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


class Pieces:
    """Deltas written one by one; with `every_s` each has its moment on a fixed schedule."""

    def __init__(self, *pieces: str, every_s: float = 0.0) -> None:
        self.pieces = pieces
        self.every_s = every_s


class Say(Pieces):
    """Text of the answer; several in a row are one message."""


class Refuse(Pieces):
    """Text of a refusal."""


class Think(Pieces):
    """A reasoning summary."""


class CallTool(Pieces):
    """A function call, its arguments in pieces."""

    def __init__(
        self, name: str, *arguments: str, call_id: str | None = None, every_s: float = 0.0
    ) -> None:
        super().__init__(*arguments, every_s=every_s)
        self.name = name
        self.call_id = call_id


class Hold:
    """Silence until it is released; the same one may hold several replies."""

    def __init__(self) -> None:
        self._released = asyncio.Event()

    def release(self) -> None:
        self._released.set()

    async def wait(self) -> None:
        await self._released.wait()


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence for a time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Open:
    """The status line, the headers and the first event, and nothing more yet."""


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes of the body, as they are."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Fail:
    """An answer that is no stream; `Location` makes it a redirect, `Connection: close` its last."""

    status: int
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "sk-secret is not what this upstream wanted"
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """The connection closes without the reply's end; with `reset` by an RST."""

    reset: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """The body ends in good order, but without the provider's end."""


@dataclass(frozen=True, slots=True)
class End:
    """The reply's own end; a plan without an ending step ends with `End()`.

    `output_tokens` defaults to the number of deltas. With `usage=False` none is told.
    """

    status: str = "completed"
    reason: str | None = None
    code: str | None = None
    usage: bool = True
    output_tokens: int | None = None


Step = Say | Refuse | Think | CallTool | Hold | Pause | Open | Raw | Fail | Drop | Cut | End
Plan = Sequence[Step]
Script = Callable[[Json, int], Plan]
"""Decides what the reply to a request is, from its JSON body and its number, from 1."""


def in_turn(*plans: Plan) -> Script:
    """Reply to request n with plan n; the last plan also serves all after it."""
    return lambda _body, number: plans[min(number, len(plans)) - 1]
