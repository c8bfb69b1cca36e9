from __future__ import annotations

import pytest

from app.api.negotiation import asks_for_stream, quality_of, read_accept, stream_type

EVENTS, LINES = "text/event-stream", "application/x-ndjson"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, EVENTS),
        ("", EVENTS),
        ("*/*", EVENTS),
        ("text/*", EVENTS),
        ("text/event-stream", EVENTS),
        ("TEXT/Event-Stream; charset=utf-8", EVENTS),
        ("application/x-ndjson", LINES),
        ("application/x-ndjson, text/event-stream", EVENTS),
        ("application/x-ndjson, */*", EVENTS),
        ("application/x-ndjson, text/event-stream;q=0.9", LINES),
        ("application/x-ndjson, */*;q=0.1", LINES),
        ("application/x-ndjson;q=0.5, text/event-stream;q=0.9", EVENTS),
        ("application/x-ndjson;q=0.5, text/event-stream;q=0", LINES),
        ("text/event-stream;q=0, */*", None),
        ("text/event-stream;q=0", None),
        ("application/*", None),
        ("application/json", None),
        ("text/html, application/xhtml+xml", None),
        ("text/html, */*;q=0.8", EVENTS),
        ("nonsense", None),
        ("text/event-stream;q=2", None),
    ],
)
def test_events_are_served_in_the_format_that_is_wanted_most(
    accept: str | None, expected: str | None
) -> None:
    assert stream_type(accept) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, False),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
        ("text/event-stream", True),
        ("text/event-stream, application/json", True),
        ("text/event-stream, */*", True),
        ("text/event-stream;q=0.5, */*", False),
        ("text/event-stream;q=0.5, application/json;q=0.4, */*", True),
        ("text/event-stream;q=0.5, application/json", False),
        ("text/event-stream;q=0", False),
        ("application/x-ndjson", False),
    ],
)
def test_a_post_is_answered_as_a_stream_where_that_is_named_and_not_below_json(
    accept: str | None, expected: bool
) -> None:
    assert asks_for_stream(accept) is expected


def test_the_most_specific_range_tells_the_quality() -> None:
    ranges = read_accept("*/*;q=0.1, text/*;q=0.2, text/plain;q=0.3, text/plain;q=x")
    assert [quality_of(name, ranges) for name in ("a/b", "text/b", "text/plain")] == [0.1, 0.2, 0.3]
