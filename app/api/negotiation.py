"""Which representation an `Accept` header asks for (RFC 9110, section 12.5.1), purely.

A media type's quality is that of the most specific range that covers it. Parameters other than `q`
are not looked at, and an element that cannot be read counts as not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers

EVENT_STREAM: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"
JSON: Final = "application/json"

_ELEMENT: Final = re.compile(r"\s*([^\s;,/]+/[^\s;,/]+)\s*((?:;[^;]*)*)$")
_QUALITY: Final = re.compile(r";\s*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*(?:;|$)", re.IGNORECASE)
_ANY_QUALITY: Final = re.compile(r";\s*q\s*=", re.IGNORECASE)

Ranges = Mapping[str, float]


def accept_of(headers: Headers) -> str | None:
    """Return what a request accepts; fields of one name are one list (RFC 9110, section 5.3)."""
    return ", ".join(headers.getlist("accept")) or None


def read_accept(header: str | None) -> Ranges:
    """Return the quality, 0 to 1, of every media range; no header, or an empty one, is `*/*`."""
    ranges: dict[str, float] = {}
    for element in (header or "").split(","):
        found = _ELEMENT.match(element)
        if found is None:
            continue
        name, parameters = found[1].lower(), found[2]
        quality = _QUALITY.search(parameters)
        if quality is not None:
            ranges[name] = float(quality[1])
        elif not _ANY_QUALITY.search(parameters):
            ranges[name] = 1.0
    return ranges if (header or "").strip() else {"*/*": 1.0}


def quality_of(media_type: str, ranges: Ranges) -> float:
    """Return how much a media type is wanted; 0 is not at all."""
    group = media_type.partition("/")[0]
    for name in (media_type, f"{group}/*", "*/*"):
        if name in ranges:
            return ranges[name]
    return 0.0


def asks_for_stream(header: str | None) -> bool:
    """Whether a `POST /runs` wants its answer as a stream: named, and not ranked below JSON."""
    ranges = read_accept(header)
    stream = ranges.get(EVENT_STREAM, 0.0)
    return stream > 0 and stream >= quality_of(JSON, ranges)


def stream_type(header: str | None) -> str | None:
    """Return the media type in which to stream events, `None` if neither is acceptable."""
    ranges = read_accept(header)
    events = quality_of(EVENT_STREAM, ranges)
    lines = ranges.get(NDJSON, 0.0)  # must be named
    if lines > events:
        return NDJSON
    return EVENT_STREAM if events > 0 else None
