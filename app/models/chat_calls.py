"""The tool calls of a Chat Completions stream, put together from their pieces.

A piece says which call it belongs to by id, by index, or not at all: then the last one is meant.
Servers that give all calls one index, each call whole, are why a piece with a name begins a new
call when the one it would belong to has another id, or is whole already.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from app.models.chat_wire import CallDelta
from app.models.output import MAX_KEPT_CHARS, OutputTooLong, named
from app.models.wire import Json
from app.ports import ToolCall


@dataclass(slots=True)
class _Call:
    index: int | None
    call_id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


class StreamedCalls:
    """Collects the calls of one reply."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._kept = 0

    def add(self, piece: CallDelta) -> None:
        """Take a piece of a call. Raises `OutputTooLong`."""
        call = self._find(piece)
        if call is None or _begins(call, piece):
            self.begin(piece)
        else:
            self._fill(call, piece)

    def begin(self, piece: CallDelta) -> None:
        """Take the first piece of a call, or a whole one. Raises `OutputTooLong`."""
        self._calls.append(_Call(piece.index))
        self._fill(self._calls[-1], piece)

    def calls(self) -> tuple[ToolCall, ...]:
        """Return the calls, in the order in which they began."""
        items: list[Json] = [
            {"call_id": call.call_id, "name": call.name, "arguments": call.arguments}
            for call in self._calls
        ]
        return tuple(named(items))

    def _fill(self, call: _Call, piece: CallDelta) -> None:
        call.call_id = call.call_id or piece.call_id
        call.name = call.name or piece.name
        call.pieces.append(piece.arguments)
        self._kept += 1 + len(piece.call_id) + len(piece.name) + len(piece.arguments)
        if self._kept > MAX_KEPT_CHARS:
            raise OutputTooLong

    def _find(self, piece: CallDelta) -> _Call | None:
        """Return the call that a piece seems to belong to."""
        near = [call for call in self._calls[::-1] if piece.index in (None, call.index)]
        named_so = (call for call in near if piece.call_id and call.call_id == piece.call_id)
        return next(named_so, near[0] if near else None)


def _begins(call: _Call, piece: CallDelta) -> bool:
    """Whether a piece that seems to belong to a call begins another one."""
    if not piece.name or (piece.call_id and piece.call_id == call.call_id):
        return False
    if piece.call_id and call.call_id:
        return True
    says_no_place = piece.index is None and not piece.call_id
    return says_no_place or (bool(piece.arguments) and _is_whole(call.arguments))


def _is_whole(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return False
    return True
