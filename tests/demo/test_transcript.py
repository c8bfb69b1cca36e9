"""The transcript: several speakers, one cursor."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from app.demo.transcript import LINE, SILENCE_S, Transcript, shorten


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def transcript(out: io.StringIO) -> Transcript:
    return Transcript(out)


def said_by(speaker: str, out: io.StringIO) -> str:
    lines = re.findall(rf"^\[{speaker}\] (.*)$", out.getvalue(), re.MULTILINE)
    return " ".join(line.strip() for line in lines)


def event(name: str, **fields: Any) -> dict[str, Any]:
    return {"event": name, "team_name": "Team"} | fields


def test_a_single_speaker_is_written_piece_by_piece(
    transcript: Transcript, out: io.StringIO
) -> None:
    for piece in ("Once ", "upon", " a"):
        transcript.say("A", piece)
    assert out.getvalue() == "[A] Once upon a"


def test_a_line_ends_at_a_newline_and_where_it_is_full(
    transcript: Transcript, out: io.StringIO
) -> None:
    transcript.say("A", "one\n\ntwo " + "word " * 30)
    transcript.finish("A")
    lines = out.getvalue().splitlines()
    assert lines[:1] == ["[A] one"]
    assert lines[1].startswith("[A] two word")
    assert all(line.startswith("[A] ") and len(line) <= LINE + len(" word") for line in lines)


def test_speakers_at_the_same_time_get_whole_lines_and_lose_nothing(
    transcript: Transcript, out: io.StringIO
) -> None:
    words = [f"w{number}" for number in range(100)]
    for word in words:
        transcript.say("A", f"{word} ")
        transcript.say("B", f"{word} ")
    transcript.finish("A")
    transcript.finish("B")
    assert said_by("A", out).split() == words
    assert said_by("B", out).split() == words
    assert len(out.getvalue().splitlines()) < 20


def test_a_speaker_with_a_whole_line_does_not_wait_for_a_silent_one(
    transcript: Transcript, out: io.StringIO
) -> None:
    transcript.say("A", "Hm")
    transcript.say("B", "word " * 20)
    assert out.getvalue().startswith("[A] Hm\n[B] word word")


def test_a_note_stands_on_a_line_of_its_own(transcript: Transcript, out: io.StringIO) -> None:
    transcript.say("A", "Hm")
    transcript.note("hello")
    transcript.note("")
    transcript.say("A", "Oh")
    assert out.getvalue() == "[A] Hm\nhello\n\n[A] Oh"


def test_silence_is_dotted_and_ends_with_the_next_text(out: io.StringIO) -> None:
    now = 1e9
    transcript = Transcript(out, clock=lambda: now)
    transcript.say("A", "Hm")
    transcript.tick()
    now += SILENCE_S
    transcript.tick()
    now += SILENCE_S
    transcript.tick()
    transcript.say("A", "Oh")
    assert out.getvalue() == "[A] Hm\n..\n[A] Oh"


class Unread(io.StringIO):
    """A pipe that nobody reads any more."""

    writes = 0

    def flush(self) -> None:
        self.writes += 1
        raise BrokenPipeError


def test_an_output_that_nobody_reads_is_written_no_more_and_told_by_the_next_tick() -> None:
    out = Unread()
    transcript = Transcript(out)
    transcript.note("hello")
    transcript.say("A", "Hm")
    assert out.writes == 1
    with pytest.raises(BrokenPipeError):
        transcript.tick()


def test_what_a_terminal_would_act_on_is_escaped(transcript: Transcript, out: io.StringIO) -> None:
    transcript.say("A\x1b", "\x1b[2J\r")
    transcript.note("\x07")
    assert out.getvalue() == "[A\\x1b] \\x1b[2J\\r\n\\x07\n"


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (event("TeamRunStarted", model="m", mode="route"), "· Team: begins with m"),
        (
            event("RunStarted", agent_name="E", model="m", task="Do  it"),
            "· E: begins with m, task: Do it",
        ),
        (
            event("TeamToolCallStarted", tool_name="f", arguments="{}"),
            "· Team: calls f {}",
        ),
        (event("TeamToolCallCompleted", tool_name="f", status="error"), "· Team: f: error"),
        (
            event("ModelRetry", agent_name="E", code="rate_limited", delay_s=0.5),
            "· E: the model failed (rate_limited), again in 0.5 s",
        ),
        (event("TeamRunCancelRequested"), "· Team: is asked to stop"),
        (event("TeamRunCancelled"), "· Team: stopped"),
        (event("TeamRunCompleted"), "· Team: done"),
        (
            event("TeamRunError", error={"code": "model_error", "message": "No."}),
            "· Team: failed: No. (model_error)",
        ),
        (event("TeamSomethingNew"), ""),
    ],
)
def test_a_fact_is_told_in_a_few_words(
    transcript: Transcript, out: io.StringIO, told: dict[str, Any], line: str
) -> None:
    transcript.show(told)
    assert out.getvalue().strip() == line


def test_text_and_thoughts_are_told_apart(transcript: Transcript, out: io.StringIO) -> None:
    transcript.show(event("TeamReasoningContentDelta", content="Hm."))
    transcript.show(event("RunContent", agent_name="E", content="Yes."))
    transcript.show(event("RunCompleted", agent_name="E"))
    assert out.getvalue() == "[Team, thinking] Hm.\n[E] Yes.\n· E: done\n"


def test_a_preview_is_one_line() -> None:
    assert shorten("a\n b", 10) == "a b"
    assert shorten("abcdef", 4) == "abc…"
