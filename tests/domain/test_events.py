"""Frames: what is said comes back, whatever it is, and nothing in it can forge a frame."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.events import (
    EVENT_NAMES,
    Event,
    Failure,
    ModelRetry,
    Origin,
    ReasoningContentDelta,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunContent,
    RunError,
    RunStarted,
    ToolCallCompleted,
    ToolCallStarted,
    Usage,
    data_of,
    decode,
    encode,
)
from tests.laws import parse

NOW = "2026-11-22T09:57:12.123Z"
TEAM = Origin("665504a0-7401-4af1-a26c-8fcef77f6fa2", "storytelling", "Storytelling Team")
MEMBER = Origin("76cdcb90-de51-4290-bff9-d0dd6409e6fa", "editor", "EditorAgent", "s", TEAM.run_id)
ANY_TEXT = st.text(st.characters(exclude_categories=()))
NASTY = ["\r\nevent: x", "\n\n", "\x00", "\u2028\u2029", "\ud83d", "\x1b[31m", '"}\n\ndata: {', "é"]

ONE_OF_EACH: list[Event] = [
    RunStarted("m", mode="coordinate"),
    RunStarted("m", task="t", tool_call_id="c"),
    RunContent("hello", 1),
    ReasoningContentDelta("hm", 1),
    ToolCallStarted("c", "tool", "{}", 1),
    ToolCallCompleted("c", "tool", "error", None, 1),
    ModelRetry(1, 0.5, "rate_limited", 429, None, 1),
    RunCancelRequested(None, "request"),
    RunCompleted("hello", "stop", Usage(1, 2, 3)),
    RunCancelled("hel", "why", Usage(1, 2, 3, estimated=True)),
    RunError(Failure("model_error", "It failed.", 500), "hel", Usage()),
]


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("origin", [TEAM, MEMBER], ids=["team", "member"])
def test_a_frame_reads_back_as_what_was_said(origin: Origin, event: Event) -> None:
    entry = encode(7, NOW, origin, event)
    assert decode(entry.frame) == entry
    assert parse(entry.frame)[0]["event"] in EVENT_NAMES


@given(ANY_TEXT, ANY_TEXT)
def test_a_frame_survives_any_text(content: str, name: str) -> None:
    frame = encode(1, NOW, Origin("r", "id", name), RunContent(content, 1)).frame
    (event,) = parse(frame)
    assert (event["content"], event["team_name"]) == (content, name)
    assert frame.isascii()
    assert frame.count(b"\n") == 4
    assert b"\r" not in frame


@pytest.mark.parametrize("text", NASTY)
def test_no_text_anywhere_ends_a_frame(text: str) -> None:
    for event in (
        ToolCallStarted(text, text, text, 1),
        ToolCallCompleted(text, text, "completed", text, 1),
        RunCancelRequested(text, "request"),
        RunError(Failure("model_error", text), text, Usage()),
    ):
        assert len(parse(encode(1, NOW, MEMBER, event).frame)) == 1


def test_the_ndjson_line_is_the_frames_data() -> None:
    entry = encode(1, NOW, TEAM, RunContent("a\nb", 1))
    assert json.loads(data_of(entry.frame)) == parse(entry.frame)[0]
    assert b"\n" not in data_of(entry.frame)


def test_a_one_token_event_is_small() -> None:
    assert len(encode(100, NOW, TEAM, RunContent(" once", 1)).frame) <= 260
    member = Origin(MEMBER.run_id, "editor", "EditorAgent", None, TEAM.run_id)
    assert len(encode(100, NOW, member, RunContent(" once", 1)).frame) <= 320


def test_own_fields_that_do_not_apply_are_left_out() -> None:
    team = parse(encode(1, NOW, TEAM, RunStarted("m", mode="route")).frame)[0]
    assert "task" not in team
    assert "session_id" not in team
    assert parse(encode(1, NOW, MEMBER, RunStarted("m")).frame)[0]["session_id"] == "s"
