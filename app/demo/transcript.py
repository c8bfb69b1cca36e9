"""A run's events as lines to read while they come: what `team-runs demo` prints.

Members speak at the same time, and a terminal has one cursor. So one speaker holds the line and is
written piece by piece; the others' text waits until that line is full, or until one of them has a
whole line ready while the holder is silent.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TextIO

from app.telemetry.logging import escape_controls

Fact = Mapping[str, Any]
"""An event of the contract, read from its JSON."""

LINE: Final = 76
SILENCE_S: Final = 2.0
_SPACE: Final = re.compile(r"\s")


def shorten(text: str, length: int) -> str:
    """Put a text on one line of at most `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


class Transcript:
    """Writes what speakers say and short notes to a stream; several threads may use it.

    Once nobody reads the stream any more (`| head`), it writes nothing, and `tick` tells. `clock`
    tells seconds.
    """

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[str, str] = {}
        self._holder: str | None = None
        self._column = 0
        self._last_write = clock()
        self._is_unread = False

    def say(self, speaker: str, text: str) -> None:
        """Write a piece of a speaker's text, or keep it until the line is free."""
        with self._lock:
            self._waiting[speaker] = self._waiting.get(speaker, "") + text
            self._write_lines()

    def note(self, text: str) -> None:
        """Write a line of our own."""
        with self._lock:
            self._end_line()
            self._write(f"{text}\n")
            self._column = 0

    def finish(self, speaker: str) -> None:
        """Write what a speaker has left."""
        with self._lock:
            text = self._waiting.pop(speaker, "").strip()
            if text or self._holder == speaker:
                self._end_line()
            if text:
                self._write(f"[{speaker}] {text}\n")
                self._column = 0

    def tick(self) -> None:
        """Write a dot when nothing was written for a while: it is alive, the model is silent.

        Raises `BrokenPipeError` when nobody reads what is written.
        """
        with self._lock:
            if self._is_unread:
                raise BrokenPipeError
            if self._clock() - self._last_write >= SILENCE_S:
                if self._holder is not None:
                    self._end_line()
                self._write(".")  # dots stand side by side; the next text ends their line

    def show(self, event: Fact) -> None:
        """Write one event of a run."""
        speaker = str(event.get("agent_name") or event["team_name"])
        match name := event["event"].removeprefix("Team"):
            case "RunContent":
                self.say(speaker, event["content"])
            case "ReasoningContentDelta":
                self.say(f"{speaker}, thinking", event["content"])
            case _:
                self.finish(f"{speaker}, thinking")
                self.finish(speaker)
                if tell := _FACTS.get(name):
                    self.note(f"· {speaker}: {tell(event)}")

    def _write_lines(self) -> None:
        """Write as much of what waits as one cursor can."""
        while self._holder is not None or self._next_speaker():
            text = self._waiting.pop(self._holder or "", "")
            end = _line_end(text, LINE - self._column)
            self._write(text if end is None else text[:end])
            if end is not None and self._holder is not None:
                self._waiting[self._holder] = text[end:]
            if end is None and not self._somebody_has_a_line():
                return
            self._end_line()

    def _next_speaker(self) -> bool:
        """Give the line to whoever has waited with most; `False` when nobody has anything."""
        waiting = {name: rest for name, text in self._waiting.items() if (rest := text.lstrip())}
        self._waiting = waiting
        if not waiting:
            return False
        self._end_line()
        self._holder = max(waiting, key=lambda name: len(waiting[name]))
        self._write(f"[{self._holder}] ")
        return True

    def _somebody_has_a_line(self) -> bool:
        return any(len(text) > LINE for text in self._waiting.values())

    def _write(self, text: str) -> None:
        if not self._is_unread:
            self._put(escape_controls(text, keep="\n"))
        self._column += len(text)
        self._last_write = self._clock()

    def _put(self, text: str) -> None:
        """Several threads write; only the one that ticks can do something about a broken pipe."""
        try:
            self._out.write(text)
            self._out.flush()
        except BrokenPipeError:
            self._is_unread = True

    def _end_line(self) -> None:
        if self._column:
            self._write("\n")
        self._holder, self._column = None, 0


def _line_end(text: str, room: int) -> int | None:
    """Return where a line ends: at a newline, or at the first white space beyond its room."""
    newline = text.find("\n")
    space = _SPACE.search(text, max(room, 0))
    ends = [end for end in (newline, space.start() if space else -1) if end >= 0]
    return min(ends, default=None)


def _began(event: Fact) -> str:
    task = event.get("task")
    return f"begins with {event['model']}" + (f", task: {shorten(task, 90)}" if task else "")


_FACTS: Final[Mapping[str, Callable[[Fact], str]]] = {
    "RunStarted": _began,
    "ToolCallStarted": lambda of: f"calls {of['tool_name']} {shorten(of['arguments'], 90)}",
    "ToolCallCompleted": lambda of: f"{of['tool_name']}: {of['status']}",
    "ModelRetry": lambda of: f"the model failed ({of['code']}), again in {of['delay_s']:g} s",
    "RunCancelRequested": lambda _: "is asked to stop",
    "RunCancelled": lambda _: "stopped",
    "RunCompleted": lambda _: "done",
    "RunError": lambda of: f"failed: {of['error']['message']} ({of['error']['code']})",
}
"""What happened, in a few words; events that are not here, new ones included, are not told."""
