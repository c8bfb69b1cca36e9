"""Log lines: one JSON object each, or readable text on a terminal; uvicorn's in the same shape.

Ours are logged from the level that is set, other libraries' from `warning` on: below that, HTTP
clients tell addresses and bodies. A line that is written while a request is dealt with, or by a
run that it started, has its `request_id`. There is no access log, so no query string is ever
written. An error is named by its class and its place: its text, and what a trace prints with it,
may repeat a key or what an upstream said.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TextIO

from app.observer.telling import REQUEST_ID

OURS: Final = ("app", "team_runs", "uvicorn", "uvicorn.error")
_PACKAGE: Final = str(Path(__file__).parent.parent)
_OUR_ERRORS: Final = "app.domain.errors."
_USUAL: Final = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"}
# What moves a cursor, hides or turns text, or cannot be encoded: C0, DEL, C1, line and paragraph
# separators, the marks of bidirectional text, lone surrogates.
_UNSAFE: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def configure_logging(
    level: str, shape: Literal["json", "text"] | None = None, stream: TextIO | None = None
) -> None:
    """Send every log line to `stream` (standard error), in a shape that fits it unless given."""
    stream = stream or sys.stderr
    shape = shape or ("text" if stream.isatty() else "json")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if shape == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error"):  # another server in the process gave them handlers
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True


def escape_controls(text: str, keep: str = "") -> str:
    """Escape what a terminal would act on, such as ESC, as Python does; `keep` is left alone."""
    return _UNSAFE.sub(lambda found: _escaped(found[0]) if found[0] not in keep else found[0], text)


class JsonLines(logging.Formatter):
    """`{"time", "level", "logger", "message", …}` with the record's extra fields; ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        return json.dumps(line | _extras(record), default=str)


class TextLines(logging.Formatter):
    """`09:57:12 info    message  key=value`, local time."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one line."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        extras = "".join(f"  {key}={value}" for key, value in _extras(record).items())
        line = f"{time} {record.levelname.lower():7} {_message(record)}{extras}"
        return escape_controls(line)


def _message(record: logging.LogRecord) -> str:
    """Cut a trace that came as text, as uvicorn tells a failed start, to what it is about."""
    text = record.getMessage().strip()
    if "Traceback (most recent call last)" not in text:
        return text
    last = text.splitlines()[-1]
    ours = last.removeprefix(_OUR_ERRORS)
    return ours if ours != last else last.partition(":")[0]


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    extras = {key: value for key, value in vars(record).items() if key not in _USUAL}
    if record.exc_info and record.exc_info[1]:
        extras["error"] = _where(record.exc_info[1])
    request_id = REQUEST_ID.get()
    return extras if request_id is None else {**extras, "request_id": request_id}


def _where(error: BaseException) -> str:
    """Name an error's class and the place in our code, or else anywhere, that it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(_PACKAGE)]
    if not frames:
        return type(error).__name__
    place = (ours or frames)[-1]
    file = "/".join(place.filename.rsplit("/", 3)[-3:])
    return f"{type(error).__name__} in {file}:{place.lineno} ({place.name})"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
