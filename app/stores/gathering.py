"""What goes to a store together: words wait for one another, and nothing else does.

Sending costs a store about as much as ten events cost altogether. So who comes first is served at
once; who comes right behind goes with the others, some milliseconds after the last batch. Who comes
right behind itself, alone, has nobody to wait for: a run may fill a log as fast as its model talks.
And what nobody else is to wait with goes at once, and with it all that was waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Gathering(Generic[Item]):
    """Items in the order in which they came; `ready` is called when they are to be taken.

    That is on the event loop, in a later turn, and at the earliest `least_s` seconds after the last
    were taken, unless there is a hurry.
    """

    def __init__(self, least_s: float, ready: Callable[[], None]) -> None:
        self._least_s = least_s
        self._ready = ready
        self._items: list[Item] = []
        self._by: object = None
        self._alone: object = None
        self._may_go_at = 0.0
        self._handle: asyncio.Handle | None = None
        self._is_hurried = False

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Item, by: object = None) -> None:
        """Add an item, which can wait if it says `by` whom: one that adds them one by one."""
        self._items.append(item)
        self._by = by
        if by is None or by is self._alone:
            self.hurry()
        elif self._handle is None:
            self._handle = asyncio.get_running_loop().call_at(self._may_go_at, self._ready)

    def hurry(self) -> None:
        """Let what there is go at the next turn of the event loop."""
        if self._items and not self._is_hurried:
            self._cancel()
            self._is_hurried = True
            self._handle = asyncio.get_running_loop().call_soon(self._ready)

    def take(self) -> list[Item]:
        """Return the items, and begin anew."""
        items, self._items = self._items, []
        self._cancel()
        self._is_hurried = False
        self._alone = self._by if len(items) == 1 else None
        self._may_go_at = asyncio.get_running_loop().time() + self._least_s
        return items

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
