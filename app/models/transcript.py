"""What a reply has said so far, so that what is repeated is neither lost nor said twice.

A stream says text in deltas and says it again when a part, an item and the response end; careless
servers leave out some of these. Each repetition is compared with what was said since its beginning
and only what is missing is said. Where the two disagree, what was said stands.
"""

from __future__ import annotations

from io import StringIO

from app.domain.text import repair


class PairJoiner:
    """Repairs a text that comes in deltas: a high half is held for the next delta of its place."""

    def __init__(self) -> None:
        self.held = ""
        self._place: object = None

    def feed(self, delta: str, place: object) -> str:
        """Return what can be said now; `place` tells one text of a reply from another."""
        held = self.drop() if place == self._place else self.flush()
        text = held + delta
        if "\ud800" <= text[-1:] <= "\udbff":
            self.held, self._place, text = text[-1], place, text[:-1]
        return repair(text)

    def flush(self) -> str:
        """Return what stands for a half that nothing followed."""
        return "\ufffd" if self.drop() else ""

    def drop(self) -> str:
        """Forget the half that waits, and return it."""
        held, self.held = self.held, ""
        return held


class Transcript:
    """The text of one reply. Every method returns what is to be said now, which may be nothing."""

    __slots__ = ("_item_from", "_joiner", "_length", "_part_from", "_part_has_ended", "_said")

    def __init__(self) -> None:
        self._said = StringIO()
        self._joiner = PairJoiner()
        self._length = 0
        self._item_from = 0
        self._part_from = 0
        self._part_has_ended = False

    @property
    def text(self) -> str:
        """All that was said."""
        return self._said.getvalue()

    def add(self, delta: str, place: object) -> str:
        """Take a delta; deltas of one place are one text."""
        if self._part_has_ended:
            self.begin_part()
        if delta.isascii() and not self._joiner.held:
            return self._say(delta)
        return self._say(self._joiner.feed(delta, place))

    def begin_item(self) -> str:
        """A message begins."""
        rest = self.begin_part()
        self._item_from = self._length
        return rest

    def begin_part(self) -> str:
        """A part of a message begins."""
        rest = self.flush()
        self._part_from = self._length
        self._part_has_ended = False
        return rest

    def end_part(self, whole: str) -> str:
        """A part has ended and is repeated."""
        if self._part_has_ended and not whole.startswith(self.text[self._part_from :]):
            self.begin_part()  # nothing told that it is another one
        self._part_has_ended = True
        return self._complete(whole, self._part_from)

    def end_item(self, whole: str) -> str:
        """A message has ended and is repeated."""
        rest = self._complete(whole, self._item_from)
        self.begin_item()
        return rest

    def end(self, whole: str) -> str:
        """The reply has ended and is repeated."""
        return self._complete(whole, 0)

    def flush(self) -> str:
        """Nothing follows the last delta."""
        return self._say(self._joiner.flush())

    def _complete(self, whole: str, since: int) -> str:
        said = self.text
        mine = said[since:]
        is_elsewhere = not mine and said.endswith(whole)
        if not whole.startswith(mine) or is_elsewhere:
            return self.flush()
        self._joiner.drop()
        return self._say(whole[len(mine) :])

    def _say(self, text: str) -> str:
        self._said.write(text)
        self._length += len(text)
        return text
