"""The stream of Chat Completions, in the ways in which servers speak it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import ModelFailed
from app.domain.events import Usage
from app.models.chat import ChatParser
from app.models.output import MAX_KEPT_CHARS, MAX_NAME_CHARS
from app.models.sse import MAX_EVENT_BYTES
from app.ports import AssistantTurn, ModelEvent, ReasoningDelta, TextDelta, ToolCall, TurnEnd
from tests.upstream.chat_replies import ChatReply
from tests.upstream.replies import Omissions
from tests.upstream.steps import CallTool, End

Read = tuple[list[ModelEvent], ModelFailed | None]
LOW, HIGH = "\ude00", "\ud83d"  # halves of U+1F600
DONE = b"data: [DONE]\n\n"


def frame(value: object) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def delta(finish_reason: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": fields, "finish_reason": finish_reason}
    return frame({"object": "chat.completion.chunk", "choices": [choice]})


def text(words: str) -> bytes:
    return delta(content=words)


def message(finish_reason: str | None = "stop", **fields: Any) -> bytes:
    whole = {"role": "assistant", **fields}
    return frame({"choices": [{"index": 0, "message": whole, "finish_reason": finish_reason}]})


def finish(reason: str | None = "stop") -> bytes:
    return delta(reason)


def usage(read: object, written: object, **fields: Any) -> bytes:
    spent = {"prompt_tokens": read, "completion_tokens": written, **fields}
    return frame({"choices": [], "usage": spent})


def piece(arguments: object = None, name: str | None = None, **fields: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {**fields, "function": {key: value for key, value in function.items() if value}}


def calls(*pieces: dict[str, Any]) -> bytes:
    return delta(tool_calls=list(pieces))


def read(*chunks: bytes, cap: int | None = None, ends: bool = True) -> Read:
    parser = ChatParser(cap)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    if ends:
        events += parser.finish()
    assert parser.is_over or not ends
    return events, parser.failure


def said(events: Iterable[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def thought(events: Iterable[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, ReasoningDelta))


def end_of(result: Read) -> TurnEnd:
    events, failure = result
    assert failure is None
    assert isinstance(events[-1], TurnEnd)
    assert events[-1].turn.text == said(events)
    return events[-1]


def failure_of(result: Read) -> ModelFailed:
    events, failure = result
    assert failure is not None
    assert not any(isinstance(event, TurnEnd) for event in events)
    assert "secret" not in str(failure)
    return failure


def called(*chunks: bytes) -> tuple[ToolCall, ...]:
    return end_of(read(*chunks, finish("tool_calls"))).turn.calls


def whole_reply(omit: Omissions, texts: Sequence[str], arguments: Sequence[str]) -> bytes:
    reply = ChatReply(1, {"stream_options": {"include_usage": True}}, omit)
    stream = reply.begin()
    stream += b"".join(reply.piece("reasoning_summary_text", piece) for piece in texts)
    stream += b"".join(reply.piece("output_text", piece) for piece in texts)
    for call_id in ("a", "b"):
        stream += reply.call(CallTool("look", call_id=call_id))
        stream += b"".join(reply.piece("function_call_arguments", piece) for piece in arguments)
    return stream + reply.close() + reply.end(End())


# --- what a good stream says ----------------------------------------------------------------------


def test_deltas_come_out_one_by_one_and_the_end_says_it_all() -> None:
    events, failure = read(text("Once") + text(" upon") + finish() + DONE)
    assert failure is None
    assert events == [
        TextDelta("Once"),
        TextDelta(" upon"),
        TurnEnd(AssistantTurn("Once upon"), "stop", None),
    ]


@given(
    st.sets(
        st.sampled_from(["id", "object", "created", "model", "logprobs", "index", "role", "type"])
    ),
    st.sets(st.sampled_from(["[DONE]", "usage"])),
    st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4),
)
def test_text_and_calls_are_neither_lost_nor_doubled_whatever_is_left_out(
    fields: set[str], events: set[str], words: list[str]
) -> None:
    omit = Omissions(frozenset(fields), frozenset(events))
    result = read(whole_reply(omit, words, ['{"a":', "1}"]))
    end = end_of(result)
    assert end.turn.text == thought(result[0]) == "".join(words)
    ids = ("call_1", "call_2") if "id" in fields else ("a", "b")
    assert end.turn.calls == tuple(ToolCall(call_id, "look", '{"a":1}') for call_id in ids)
    assert (end.usage is None) == ("usage" in events)


@pytest.mark.parametrize("ending", [b"", DONE, b"data: [DONE] \n\n", b"data:[DONE]\n\n"])
def test_a_finish_reason_is_the_end_with_and_without_a_last_line(ending: bytes) -> None:
    assert end_of(read(text("a") + finish() + ending)).turn.text == "a"


@pytest.mark.parametrize("reason", ["stop", "STOP", "tool_calls", "function_call", "eos_token"])
def test_every_usual_word_for_an_end_is_one(reason: str) -> None:
    assert end_of(read(text("a") + finish(reason))).finish_reason == "stop"


def test_text_may_follow_a_finish_reason_and_stand_beside_it() -> None:
    stream = delta("stop", content="a") + delta("stop", content="b") + text("c")
    assert end_of(read(stream)).turn.text == "abc"


def test_events_behind_the_last_line_are_ignored() -> None:
    events, failure = read(text("a") + finish() + DONE + text("b") + b"data: {\n\n", b"\xff")
    assert failure is None
    assert said(events) == "a"


def test_of_several_choices_the_first_is_the_answer() -> None:
    other = [{"index": 1, "delta": {"content": "no"}, "finish_reason": "content_filter"}]
    ours = {"index": 0, "delta": {"content": "yes"}, "finish_reason": "stop"}
    assert end_of(
        read(frame({"choices": other}), frame({"choices": [*other, ours]}))
    ).turn.text == ("yes")


@pytest.mark.parametrize(
    "ignored",
    [
        delta(content=""),
        delta(content=None, reasoning_content="", reasoning=None, tool_calls=None),
        frame({}),
        frame({"choices": None}),
        frame({"choices": [{}]}),
        finish(""),
        frame({"choices": [], "error": None, "usage": None, "x_own": [1]}),
        b": PROCESSING\n\n",
    ],
)
def test_what_says_nothing_is_ignored(ignored: bytes) -> None:
    assert read(ignored, ends=False) == ([], None)
    assert end_of(read(ignored, text("a"), ignored, finish(), ignored)).turn.text == "a"


def test_content_in_parts_is_text() -> None:
    parts = [{"type": "thinking", "thinking": [7]}, {"type": "text", "text": "a"}, 5]
    assert end_of(read(delta(content=parts) + finish())).turn.text == "a"


def test_a_refusal_is_text_and_the_reason_of_the_end() -> None:
    end = end_of(read(delta(refusal="I ") + delta(refusal="won't") + finish()))
    assert (end.turn.text, end.finish_reason) == ("I won't", "refusal")
    end = end_of(read(message(refusal="No", content=None)))
    assert (end.turn.text, end.finish_reason) == ("No", "refusal")


# --- reasoning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_told_under_either_name(name: str) -> None:
    events, _ = read(delta(**{name: "hm"}), ends=False)
    assert events == [ReasoningDelta("hm")]


def test_reasoning_that_comes_under_both_names_is_told_once() -> None:
    events, _ = read(delta(reasoning="hm", reasoning_content="hm"), ends=False)
    assert events == [ReasoningDelta("hm")]


def test_reasoning_in_another_shape_is_left_out() -> None:
    assert read(delta(reasoning={"effort": 1}), ends=False) == ([], None)


def test_reasoning_goes_back_with_the_calls_it_led_to_and_only_then() -> None:
    stream = delta(reasoning="I must ") + delta(reasoning="look.")
    look = calls(piece("{}", "look", index=0, id="a"))
    (item,) = end_of(read(stream + look + finish("tool_calls"))).turn.provider_items
    assert item == {
        "role": "assistant",
        "content": None,
        "reasoning": "I must look.",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        ],
    }
    assert end_of(read(stream + text("a") + finish())).turn.provider_items == ()
    assert end_of(read(look + finish())).turn.provider_items == ()


# --- whole messages -------------------------------------------------------------------------------


def test_a_whole_message_instead_of_deltas_is_the_answer() -> None:
    look = piece({"at": "sky"}, "look")
    result = read(message(content="Hi", reasoning_content="hm", tool_calls=[look, look]))
    end = end_of(result)
    assert thought(result[0]) == "hm"
    assert end.turn.text == "Hi"
    assert end.turn.calls == tuple(
        ToolCall(call_id, "look", '{"at": "sky"}') for call_id in ("call_1", "call_2")
    )


def test_a_whole_message_fills_the_gaps_of_what_was_said_and_doubles_nothing() -> None:
    look = piece("{}", "look", id="a")
    stream = text("Hel") + delta(reasoning="hm") + calls({**look, "index": 0})
    result = read(stream + message(content="Hello", reasoning="hm", tool_calls=[look]))
    end = end_of(result)
    assert (end.turn.text, thought(result[0])) == ("Hello", "hm")
    assert end.turn.calls == (ToolCall("a", "look", "{}"),)


def test_messages_that_grow_are_told_as_what_is_new() -> None:
    grown = [message(None, content=words) for words in ("O", "Once", "Once upon")]
    events, _ = read(*grown, ends=False)
    assert events == [TextDelta("O"), TextDelta("nce"), TextDelta(" upon")]


# --- calls ----------------------------------------------------------------------------------------


def test_parallel_calls_are_put_together_by_their_indices() -> None:
    assert called(
        calls(piece("", "look", index=0, id="a"), piece("", "peek", index=1, id="b")),
        calls(piece("{", index=0), piece("[", index=1)),
        calls(piece("]", index=1)),
        calls(piece("}", index=0)),
    ) == (ToolCall("a", "look", "{}"), ToolCall("b", "peek", "[]"))


def test_parallel_calls_without_indices_are_put_together_by_their_ids() -> None:
    assert called(
        calls(piece("{", "look", id="a"), piece("[", "peek", id="b")),
        calls(piece("}", id="a"), piece("]", id="b")),
    ) == (ToolCall("a", "look", "{}"), ToolCall("b", "peek", "[]"))


def test_whole_calls_in_one_delta_or_one_each_are_told_apart() -> None:
    one, two = piece("{}", "look", id="a"), piece('{"a":1}', "look", id="b")
    expected = (ToolCall("a", "look", "{}"), ToolCall("b", "look", '{"a":1}'))
    assert called(calls(one, two)) == expected
    assert called(calls(one), calls(two)) == expected


@pytest.mark.parametrize("place", [{}, {"index": 0}, {"index": 0, "id": ""}, {"id": None}])
def test_whole_calls_that_share_a_place_are_told_apart(place: dict[str, Any]) -> None:
    whole = [piece(arguments, "look", **place) for arguments in ("{}", '{"a":1}')]
    assert called(*map(calls, whole)) == (
        ToolCall("call_1", "look", "{}"),
        ToolCall("call_2", "look", '{"a":1}'),
    )


def test_calls_under_one_index_are_told_apart_by_their_ids() -> None:
    assert called(
        calls(piece("{", "look", index=0, id="a")),
        calls(piece("}", index=0)),
        calls(piece("[", "peek", index=0, id="b")),
        calls(piece("]", index=0)),
    ) == (ToolCall("a", "look", "{}"), ToolCall("b", "peek", "[]"))


def test_calls_that_say_no_place_at_all_follow_each_other() -> None:
    assert called(
        calls(piece("", "look")),
        calls(piece("{")),
        calls(piece("}")),
        calls(piece("", "peek")),
        calls(piece("[]")),
    ) == (ToolCall("call_1", "look", "{}"), ToolCall("call_2", "peek", "[]"))


@pytest.mark.parametrize("place", [{"index": 0, "id": "a"}, {"index": 0}, {"id": "a"}])
def test_a_call_that_repeats_its_name_with_every_piece_is_one_call(place: dict[str, Any]) -> None:
    pieces = [piece(part, "look", **place) for part in ("", '{"a"', ":1", "}", "")]
    (call,) = called(*map(calls, pieces))
    assert (call.name, call.arguments) == ("look", '{"a":1}')


def test_a_call_whose_pieces_have_ids_of_their_own_is_one_call() -> None:
    pieces = [piece("", "look", index=0, id="a"), *(piece(c, index=0, id=c) for c in "{}")]
    assert called(*map(calls, pieces)) == (ToolCall("a", "look", "{}"),)


def test_an_id_that_comes_late_is_taken() -> None:
    late = [piece("{", "look", index=0), piece("}", index=0, id="a")]
    assert called(*map(calls, late)) == (ToolCall("a", "look", "{}"),)


def test_two_calls_never_share_an_id() -> None:
    expected = (ToolCall("a", "look", "1"), ToolCall("a_2", "look", "2"))
    pieces = [piece(arguments, "look", id="a") for arguments in "12"]
    assert called(message(tool_calls=pieces)) == expected
    assert called(calls(*({**each, "index": i} for i, each in enumerate(pieces)))) == expected


def test_the_one_call_of_older_servers_is_a_call() -> None:
    stream = [delta(function_call={"name": "look", "arguments": ""})]
    stream += [delta(function_call={"arguments": part}) for part in "{}"]
    assert called(*stream) == (ToolCall("call_1", "look", "{}"),)


def test_arguments_without_end_are_refused() -> None:
    part = calls(piece("x" * 65_536, index=0))
    assert failure_of(read(*[part] * (MAX_KEPT_CHARS // 65_536 + 1), ends=False)).code == (
        "model_error"
    )


# --- text that is hard to carry -------------------------------------------------------------------


@given(
    st.lists(st.text(st.characters(exclude_categories=()), max_size=6), max_size=8),
    st.sampled_from(["content", "reasoning_content"]),
)
def test_any_text_comes_out_joined_and_without_lone_surrogates(
    deltas: list[str], name: str
) -> None:
    whole = "".join(deltas).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    events, failure = read(*(delta(**{name: words}) for words in deltas), finish())
    assert failure is None
    assert said(events) + thought(events) == whole
    assert all(event.text for event in events if isinstance(event, TextDelta | ReasoningDelta))


def test_a_pair_split_over_two_deltas_is_joined() -> None:
    events, _ = read(text("a" + HIGH), text(LOW + "b"), ends=False)
    assert events == [TextDelta("a"), TextDelta("\U0001f600b")]


@pytest.mark.parametrize("name", ["content", "reasoning"])
def test_a_half_that_nothing_follows_is_replaced(name: str) -> None:
    events, _ = read(delta(**{name: "a" + HIGH}), finish())
    assert said(events) + thought(events) == "a\ufffd"


def test_lone_surrogates_in_calls_are_replaced() -> None:
    assert called(calls(piece(HIGH, "look" + LOW, index=0, id=HIGH))) == (
        ToolCall("\ufffd", "look\ufffd", "\ufffd"),
    )


def test_a_pair_split_over_two_pieces_of_arguments_is_joined() -> None:
    (call,) = called(calls(piece(HIGH, "look", index=0)), calls(piece(LOW, index=0)))
    assert call.arguments == "\U0001f600"


def test_stray_bytes_are_replaced() -> None:
    stream = b'data: {"choices":[{"delta":{"content":"a\xffb"}}]}\n\n'
    assert said(read(stream, ends=False)[0]) == "a\ufffdb"


# --- how the bytes come ---------------------------------------------------------------------------

MIXED = (
    b"\xef\xbb\xbf: hello\r\n"
    + whole_reply(Omissions(), ["Gr\u00fc\u00dfe ", "\U0001f600", HIGH, LOW], ['{"\u00fc":', "1}"])
).replace(b"\n\n", b"\r\n\r\n", 3)


@given(st.lists(st.integers(0, len(MIXED)), max_size=12))
def test_the_same_events_come_out_however_the_bytes_are_split(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(MIXED)]
    assert read(*(MIXED[a:b] for a, b in pairwise(places))) == read(MIXED)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_every_kind_of_line_end_is_one(newline: bytes) -> None:
    plain = text("a") + text("b") + finish() + DONE
    stream = plain.replace(b"\n", newline)
    byte_by_byte = (stream[i : i + 1] for i in range(len(stream)))
    assert read(stream) == read(*byte_by_byte) == read(plain)


def test_data_may_span_lines_and_stand_among_other_fields() -> None:
    stream = b'event: x\nid: 7\ndata: {"choices":\ndata:[{"delta":\ndata: {"content":"a"}}]}\n\n'
    assert said(read(stream, ends=False)[0]) == "a"


# --- ends that are none ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "code", "upstream_code", "retry_code"),
    [
        (b"", "model_incomplete", None, None),
        (DONE, "model_incomplete", None, None),
        (finish(None) + DONE, "model_incomplete", None, None),
        (finish("") + DONE, "model_incomplete", None, None),
        (finish("content_filter") + DONE, "model_incomplete", None, None),
        (finish("length") + DONE, "model_incomplete", None, None),
        (finish("abort") + DONE, "model_incomplete", None, None),
        (finish()[:-1], "model_incomplete", None, None),
        (finish("error"), "model_error", None, None),
        (
            frame({"error": {"code": "rate_limit_exceeded", "message": "sk-secret"}}),
            "model_error",
            "rate_limit_exceeded",
            "rate_limited",
        ),
        (
            b"event: error\n" + frame({"error": {"message": "secret", "code": 502}}),
            "model_error",
            None,
            "server_error",
        ),
        (frame({"error": {"code": 429}, "choices": []}), "model_error", None, "rate_limited"),
        (
            frame({"error": {"code": 429, "type": "insufficient_quota"}}),
            "model_error",
            "insufficient_quota",
            None,
        ),
        (
            frame({"object": "error", "message": "secret", "type": "bad_request", "code": 400}),
            "model_error",
            "bad_request",
            None,
        ),
        (frame({"error": "secret"}) + finish(), "model_error", None, None),
        (
            finish() + frame({"error": {"type": "server_error"}}),
            "model_error",
            *["server_error"] * 2,
        ),
    ],
)
def test_an_end_that_is_none_is_a_failure(
    ending: bytes, code: str, upstream_code: str | None, retry_code: str | None
) -> None:
    result = read(text("Once") + ending)
    assert said(result[0]) == "Once"
    told = [
        (failure.code, failure.upstream_code, failure.retry_code)
        for failure in (failure_of(read(ending)), failure_of(result))
    ]
    assert told == [(code, upstream_code, retry_code), (code, upstream_code, None)]


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"5",
        b"null",
        b"[]",
        b'{"choices": 5}',
        b'{"choices": [{"delta": {"tool_calls": [null]}}]}',
        b'{"choices": [{"delta": {"refusal": 5}}]}',
        b'{"choices": [{"delta": {"content": NaN}}]}',
        b'{"choices": [{"delta": {"content": "\\ud800", "refusal": 5}}]}',
        b'{"x": "\\ud800", "y": Infinity}',
        b"[" * 100_000,
        b'{"error": {"message": "sk-secret"',
    ],
)
def test_data_that_cannot_be_read_is_a_failure_and_the_text_ahead_of_it_is_said(
    payload: bytes,
) -> None:
    result = read(text("Once") + b"data: " + payload + b"\n\n" + text("never"))
    assert failure_of(result).code == "model_error"
    assert said(result[0]) == "Once"


def test_an_event_without_end_is_refused_while_it_is_small() -> None:
    parser = ChatParser()
    for _ in range(2 * MAX_EVENT_BYTES // 65_536 + 1):
        parser.feed(b"x" * 65_536)
    assert failure_of(([], parser.failure)).code == "model_error"


KEYS = (
    *("index", "delta", "message", "finish_reason", "content", "refusal", "reasoning"),
    *("tool_calls", "function", "arguments", "name", "id", "prompt_tokens", "code"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    JSON,
    st.sampled_from(["choices", "usage", "error", "object", "delta", "message", "tool_calls"]),
)
def test_no_shape_of_any_chunk_escapes_as_another_error(value: object, key: str) -> None:
    chunk: dict[str, object] = {key: value}
    if key == "tool_calls":
        chunk = {"delta": {"tool_calls": value}}
    if key in ("delta", "message", "tool_calls"):
        chunk = {"choices": [chunk]}
    events, failure = read(frame(chunk), finish())
    assert failure is not None or isinstance(events[-1], TurnEnd)


# --- reasons and figures --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cap", "spent", "reason"), [(16, 16, "length"), (16, 15, "stop"), (None, 16, "stop")]
)
def test_a_cap_that_was_reached_is_the_reason_whatever_the_provider_calls_it(
    cap: int | None, spent: int, reason: str
) -> None:
    end = end_of(read(text("a") + finish() + usage(1, spent, total_tokens=1 + spent), cap=cap))
    assert end.finish_reason == reason
    assert end.usage == Usage(1, spent, 1 + spent)


@pytest.mark.parametrize("reason", ["length", "max_tokens"])
def test_a_cut_at_our_own_cap_is_an_end(reason: str) -> None:
    assert end_of(read(text("a") + finish(reason), cap=16)).finish_reason == "length"


def test_the_last_report_of_tokens_counts() -> None:
    stream = usage(9, 1) + text("a") + usage(9, 2) + finish() + frame({"usage": {}})
    assert end_of(read(stream)).usage == Usage(9, 2, 11)


@pytest.mark.parametrize("report", [5, {}, {"prompt_tokens": "1"}, {"prompt_tokens": -1}, [1]])
def test_a_report_of_tokens_that_is_none_is_left_out(report: object) -> None:
    assert end_of(read(finish() + frame({"usage": report}))).usage is None


def test_an_id_that_is_too_long_is_replaced_and_a_name_that_is_too_long_fails_the_call() -> None:
    longest = "x" * MAX_NAME_CHARS
    other = piece("{}", "b", index=1, id=longest + "x")
    begun = calls(piece("{}", longest, index=0, id=longest), other)
    assert called(begun) == (ToolCall(longest, longest, "{}"), ToolCall("call_2", "b", "{}"))
    for end in ([finish()], [finish(), DONE]):
        too_long = read(text("a"), calls(piece("{}", longest + "x", index=0)), *end)
        assert failure_of(too_long).code == "model_error"
        assert said(too_long[0]) == "a"


# --- before and after the first token -------------------------------------------------------------

SERVER_ERROR = frame({"error": {"code": "server_error", "message": "secret"}})


@pytest.mark.parametrize(
    "chunk",
    [
        delta(role="assistant", content=""),
        delta(role="assistant", content=None, tool_calls=[]),
        frame({"choices": []}),
        usage(5, 0),
    ],
)
def test_what_comes_ahead_of_the_first_token_leaves_the_call_fit_for_a_retry(chunk: bytes) -> None:
    assert failure_of(read(chunk, SERVER_ERROR)).retry_code == "server_error"


@pytest.mark.parametrize(
    "chunk",
    [
        text("a"),
        text(HIGH),
        delta(refusal="a"),
        delta(reasoning_content="a"),
        calls(piece(name="look", index=0)),
        calls(piece("{", index=0)),
        delta(function_call={"name": "look"}),
        message(None, content="a"),
    ],
)
def test_nothing_is_tried_again_after_the_first_token_told_or_not(chunk: bytes) -> None:
    assert failure_of(read(chunk, SERVER_ERROR)).retry_code is None
