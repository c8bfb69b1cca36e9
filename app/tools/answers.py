"""What a model reads of a function's call: its result, or what went wrong.

Decisions:

- A result is a text as it is, or anything else as JSON, NaN and infinities as `null`. It is cut at
  `MAX_RESULT_BYTES`: a tool that returns a whole file would otherwise fill the run's log, and be
  sent again with every call of the model.
- A mistake is JSON text `{"error": …}`. For arguments that don't fit it says where and what was
  expected, in pydantic's sentences, without the values, so that the model can mend them.
- What a function raises is not told: it may hold a secret. Nor is the text of a `ValueError` by a
  parameter's own validator; one that wants to be read raises pydantic's `PydanticCustomError`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python

from app.domain.events import ToolStatus
from app.domain.text import repair, utf8_size

logger = logging.getLogger(__name__)

MAX_RESULT_BYTES: Final = 256 * 1024
"""What a model reads of a result, in UTF-8, before the note that it was cut."""

_MAX_COMPLAINTS: Final = 10
_MAX_COMPLAINT_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool answers: `output` is exactly the string the model reads."""

    output: str
    status: ToolStatus = "completed"


def mistake(sentence: str) -> Answer:
    """Return what the model reads when it gets no result."""
    return Answer(repair(json.dumps({"error": sentence}, ensure_ascii=False)), "error")


def told(result: object) -> Answer:
    """Return what the model reads of a result."""
    if isinstance(result, str):
        return Answer(_cut(repair(result[:])))  # plain, of a subclass such as StrEnum too
    try:
        plain = to_jsonable_python(result, inf_nan_mode="null")
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        logger.exception("a tool's result cannot be written as JSON")
        return NO_JSON
    return Answer(_cut(repair(text)))


def _cut(text: str) -> str:
    size = utf8_size(text)
    if size <= MAX_RESULT_BYTES:
        return text
    head = text[:MAX_RESULT_BYTES].encode()[:MAX_RESULT_BYTES].decode("utf-8", "ignore")
    return f"{head}\n[cut here: the result has {size} bytes]"


def complaint(error: ValidationError) -> str:
    """Say where the arguments are wrong and what was expected, never what was there."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    complaints = [
        _place_and_reason(each)[:_MAX_COMPLAINT_CHARS] for each in found[:_MAX_COMPLAINTS]
    ]
    if len(found) > _MAX_COMPLAINTS:
        complaints.append(f"and {len(found) - _MAX_COMPLAINTS} more")
    return f"The arguments don't fit. {'; '.join(complaints)}."


def _place_and_reason(detail: ErrorDetails) -> str:
    place = ".".join(map(str, detail["loc"])) or "the arguments"
    if detail["type"] in ("value_error", "assertion_error"):
        return f"{place}: The tool does not take this value"
    return f"{place}: {detail['msg']}"


FAILED: Final = mistake("The tool failed.")
NO_JSON: Final = mistake("The tool's result cannot be written as JSON.")
