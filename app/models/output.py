"""The output items of a reply as they are streamed, and the tool calls in the end.

An event names its item by id, by index, or not at all: then the last one is meant.

Ids and names of calls go into events and into log lines, so they are held to a length: an id that
is longer is replaced, since any will do, and a name that is longer fails the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from app.domain.errors import ModelFailed
from app.domain.text import repair
from app.ports import ToolCall

Json = dict[str, Any]
ItemId = str | int | None

MAX_KEPT_CHARS: Final = 8 * 1024 * 1024
"""What the items and arguments of one reply may amount to."""

MAX_NAME_CHARS: Final = 256
"""The longest id, and the longest name, of a tool call; providers' own limits are at 64."""


class OutputTooLong(ValueError):
    """The items and arguments of a reply are more than `MAX_KEPT_CHARS`."""


@dataclass(slots=True)
class _StreamedCall:
    """A function call as far as it is known: as it began, its pieces, as it ended."""

    item: Json
    item_id: ItemId
    output_index: int | None
    pieces: list[str] = field(default_factory=list)
    whole: str | None = None
    has_ended: bool = False

    def is_meant(self, item_id: ItemId, output_index: int | None) -> bool:
        ids = (self.item_id, self.item.get("call_id"))
        if item_id is not None and item_id in ids:
            return True
        return output_index is not None and output_index == self.output_index

    def as_item(self) -> Json:
        arguments = self.whole or "".join(self.pieces) or _string(self.item, "arguments")
        return {**self.item, "arguments": arguments}


class StreamedOutput:
    """Collects one reply's items. Every method that adds raises `OutputTooLong`."""

    def __init__(self) -> None:
        self.items: list[Json] = []
        self._calls: list[_StreamedCall] = []
        self._kept = 0

    def begin(self, item: Json, output_index: int | None) -> None:
        """An item begins."""
        if item.get("type") == "function_call":
            self._grow(len(repr(item)))
            self._calls.append(_StreamedCall(item, item.get("id"), output_index))

    def add(self, piece: str, item_id: ItemId, output_index: int | None) -> None:
        """A piece of a call's arguments."""
        self._grow(len(piece))
        self._find(item_id, output_index).pieces.append(piece)

    def replace(self, arguments: str, item_id: ItemId, output_index: int | None) -> None:
        """A call's whole arguments."""
        self._grow(len(arguments))
        self._find(item_id, output_index).whole = arguments

    def end(self, item: Json, output_index: int | None) -> None:
        """An item has ended and is repeated."""
        self._grow(len(repr(item)))
        self.items.append(item)
        if item.get("type") != "function_call":
            return
        call = self._ending(item, output_index)
        call.item = {**call.item, **item}
        call.whole = _string(item, "arguments") or call.whole
        call.has_ended = True

    def calls(self, output: Sequence[Json]) -> tuple[tuple[ToolCall, ...], bool]:
        """Return the calls in order, and whether all have the ids that the provider gave them.

        `output` is the completed response's; where it has no call, the streamed ones count.
        """
        given = [item for item in output if item.get("type") == "function_call"]
        items = given or [call.as_item() for call in self._calls]
        calls = tuple(named(items))
        ids = [_string(item, "call_id") for item in items]
        return calls, ids == [call.call_id for call in calls]

    def _grow(self, chars: int) -> None:
        self._kept += chars
        if self._kept > MAX_KEPT_CHARS:
            raise OutputTooLong

    def _find(self, item_id: ItemId, output_index: int | None) -> _StreamedCall:
        found = self._match(item_id, output_index)
        return found or (self._calls[-1] if self._calls else self._new())

    def _ending(self, item: Json, output_index: int | None) -> _StreamedCall:
        """Which call a repeated item is: by its ids, else the oldest one that may be it."""
        call_id = item.get("call_id")
        found = self._match(item.get("id"), output_index) or self._match(call_id, None)
        open_calls = (call for call in self._calls if not call.has_ended)
        unnamed = (call for call in open_calls if not (call_id and call.item.get("call_id")))
        return found or next(unnamed, None) or self._new()

    def _new(self) -> _StreamedCall:
        """Begin a call that nothing announced."""
        self._calls.append(_StreamedCall({"type": "function_call"}, None, None))
        return self._calls[-1]

    def _match(self, item_id: ItemId, output_index: int | None) -> _StreamedCall | None:
        newest_first = reversed(self._calls)
        return next((call for call in newest_first if call.is_meant(item_id, output_index)), None)


def named(items: Sequence[Json]) -> Iterator[ToolCall]:
    """Yield the call of each item with `call_id`, `name` and `arguments`, whatever is missing.

    One without a fit id gets `call_1` and so on by its place, and one whose id is taken a suffix.
    Raises `ModelFailed` for a name that is too long.
    """
    taken: set[str] = set()
    for place, item in enumerate(items, start=1):
        call_id = _string(item, "call_id")
        if not 0 < len(call_id) <= MAX_NAME_CHARS:
            call_id = f"call_{place}"
        if call_id in taken:
            call_id = f"{call_id}_{place}"
        taken.add(call_id)
        yield ToolCall(call_id, _name(item), _string(item, "arguments"))


def _name(item: Json) -> str:
    name = _string(item, "name")
    if len(name) > MAX_NAME_CHARS:
        raise ModelFailed("model_error", "The model called a tool by a name that is too long.")
    return name


def _string(item: Json, key: str) -> str:
    value = item.get(key)
    return repair(value) if isinstance(value, str) else ""
