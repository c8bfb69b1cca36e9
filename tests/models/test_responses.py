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
from app.models.output import MAX_KEPT_CHARS, MAX_NAME_CHARS
from app.models.responses import ResponsesParser
from app.models.sse import MAX_EVENT_BYTES
from app.ports import ModelEvent, ReasoningDelta, TextDelta, ToolCall, TurnEnd
from tests.upstream.replies import LOCAL, Omissions, Reply
from tests.upstream.steps import CallTool, End

Read = tuple[list[ModelEvent], ModelFailed | None]
LOW, HIGH = "\ude00", "\ud83d"  # halves of U+1F600


def frame(event_type: str, **fields: Any) -> bytes:
    return f"data: {json.dumps({'type': event_type, **fields})}\n\n".encode()


def text(delta: str, **fields: Any) -> bytes:
    return frame("response.output_text.delta", delta=delta, **fields)


def message(words: str) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": words}]}


def call_item(arguments: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function_call", "name": "look", "arguments": arguments, **fields}


def completed(*output: dict[str, Any], **fields: Any) -> bytes:
    return frame("response.completed", response={"output": output, **fields})


def read(
    *chunks: bytes, cap: int | None = None, keeps_items: bool = False, ends: bool = True
) -> Read:
    parser = ResponsesParser(cap, keeps_items=keeps_items)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    if ends:
        events += parser.finish()
    assert parser.is_over or not ends
    return events, parser.failure


def said(events: Iterable[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


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


def whole_reply(omit: Omissions, texts: Sequence[str], arguments: Sequence[str]) -> bytes:
    reply = Reply(1, {}, omit)
    stream = reply.begin()
    stream += b"".join(reply.piece("reasoning_summary_text", piece) for piece in texts)
    stream += b"".join(reply.piece("output_text", piece) for piece in texts)
    stream += reply.call(CallTool("look"))
    stream += b"".join(reply.piece("function_call_arguments", piece) for piece in arguments)
    return stream + reply.close() + reply.end(End())


# --- what a good stream says ----------------------------------------------------------------------


def test_deltas_come_out_one_by_one_and_the_end_says_it_all() -> None:
    stream = text("Once") + text(" upon") + completed(message("Once upon"))
    events, failure = read(stream)
    assert failure is None
    assert events[:2] == [TextDelta("Once"), TextDelta(" upon")]
    end = end_of((events, failure))
    assert (end.turn.text, end.finish_reason, end.usage) == ("Once upon", "stop", None)


@pytest.mark.parametrize("omit", [Omissions(), LOCAL, Omissions(event_lines=True)])
def test_a_whole_reply_is_read_with_and_without_what_local_servers_leave_out(
    omit: Omissions,
) -> None:
    result = read(whole_reply(omit, ["Once", " upon"], ['{"a":', "1}"]))
    end = end_of(result)
    assert [e for e in result[0] if isinstance(e, ReasoningDelta)] == [
        ReasoningDelta("Once"),
        ReasoningDelta(" upon"),
    ]
    assert end.turn.text == "Once upon"
    assert end.turn.calls == (ToolCall("call_resp_1_2", "look", '{"a":1}'),)
    assert end.turn.provider_items == ()
    assert end.usage == Usage(0, 6, 6, estimated=False)


EVERY_EVENT = [
    "response.created",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
]


@given(
    st.sets(st.sampled_from(EVERY_EVENT)),
    st.sets(
        st.sampled_from(["sequence_number", "output_index", "item_id", "content_index", "delta"])
    ),
    st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4),
)
def test_text_and_calls_are_neither_lost_nor_doubled_whatever_is_left_out(
    events: set[str], fields: set[str], words: list[str]
) -> None:
    stream = whole_reply(Omissions(frozenset(fields), frozenset(events)), words, ["{", "}"])
    end = end_of(read(stream))
    assert end.turn.text == "".join(words)
    assert end.turn.calls == (ToolCall("call_resp_1_2", "look", "{}"),)


def test_reasoning_text_is_told_as_reasoning_too() -> None:
    events, _ = read(frame("response.reasoning_text.delta", delta="hm"), ends=False)
    assert events == [ReasoningDelta("hm")]


def test_a_refusal_is_text_and_the_reason_of_the_end() -> None:
    part = {"type": "refusal", "refusal": "I won't"}
    stream = frame("response.refusal.delta", delta="I won't")
    stream += frame("response.refusal.done", refusal="I won't")
    end = end_of(read(stream + completed({"type": "message", "content": [part]})))
    assert (end.turn.text, end.finish_reason) == ("I won't", "refusal")


@pytest.mark.parametrize(
    "stream",
    [
        frame("response.refusal.done", refusal="No") + completed(),
        completed({"type": "message", "content": [{"type": "refusal", "refusal": "No"}]}),
    ],
)
def test_a_refusal_that_comes_without_deltas_is_one(stream: bytes) -> None:
    end = end_of(read(stream))
    assert (end.turn.text, end.finish_reason) == ("No", "refusal")


def test_empty_deltas_say_nothing() -> None:
    thought = frame("response.reasoning_summary_text.delta", delta="")
    assert read(text("") + thought, ends=False) == ([], None)


def test_events_behind_the_end_are_ignored() -> None:
    events, failure = read(text("a") + completed() + text("b") + b"data: {\n\n", b"\xff" * 10)
    assert failure is None
    assert said(events) == "a"
    assert isinstance(events[-1], TurnEnd)


def test_unknown_events_are_ignored_in_any_shape() -> None:
    strange = frame("response.audio.delta", delta={"pcm": [1]}, code=[], item="x")
    assert end_of(read(strange + text("a") + completed())).turn.text == "a"


# --- text that is only repeated -------------------------------------------------------------------


@pytest.mark.parametrize(
    "repeated",
    [
        frame("response.output_text.done", text="Hello"),
        frame("response.output_item.done", item=message("Hello")),
        b"",
    ],
)
def test_text_that_never_came_as_a_delta_is_not_lost(repeated: bytes) -> None:
    assert end_of(read(repeated + completed(message("Hello")))).turn.text == "Hello"


def test_the_missing_end_of_a_text_is_said_when_the_text_is_repeated() -> None:
    events, _ = read(
        text("Hel") + frame("response.output_text.done", text="Hello") + text("!"), ends=False
    )
    assert events == [TextDelta("Hel"), TextDelta("lo"), TextDelta("!")]


def test_two_messages_without_any_ids_are_both_said_once() -> None:
    done = [frame("response.output_text.done", text=word) for word in ("One.", "Two.")]
    items = [frame("response.output_item.done", item=message(w)) for w in ("One.", "Two.")]
    stream = text("One.") + done[0] + items[0] + text("Two.") + done[1] + items[1]
    assert end_of(read(stream + completed(message("One."), message("Two.")))).turn.text == (
        "One.Two."
    )


def test_two_parts_that_are_only_repeated_are_both_said() -> None:
    done = [frame("response.output_text.done", text=word) for word in ("One.", "Two.")]
    assert end_of(read(*done, completed())).turn.text == "One.Two."


def test_two_messages_that_are_only_repeated_are_both_said() -> None:
    done = [frame("response.output_item.done", item=message(w)) for w in ("One.", "Two.")]
    assert end_of(read(*done, completed())).turn.text == "One.Two."


def test_a_message_that_is_announced_too_late_is_not_doubled() -> None:
    stream = text("Hello") + frame("response.output_item.added", item=message(""))
    stream += frame("response.output_text.done", text="Hello")
    assert end_of(read(stream + completed(message("Hello")))).turn.text == "Hello"


def test_an_item_that_is_announced_without_being_told_is_ignored() -> None:
    empty = frame("response.output_item.added") + frame("response.output_item.done")
    assert end_of(read(empty + text("a") + completed())).turn.text == "a"


def test_a_message_that_ends_after_a_call_began_is_not_doubled() -> None:
    stream = frame("response.output_item.added", item=message(""))
    stream += text("Hello")
    stream += frame("response.output_item.added", item=call_item("", call_id="c"))
    stream += frame("response.output_text.done", text="Hello")
    stream += frame("response.output_item.done", item=message("Hello"))
    assert end_of(read(stream + completed(message("Hello")))).turn.text == "Hello"


def test_what_was_said_stands_where_its_repetition_says_another_thing() -> None:
    assert end_of(read(text("Hello") + completed(message("Goodbye")))).turn.text == "Hello"


# --- text that is hard to carry -------------------------------------------------------------------


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=6), max_size=8))
def test_any_text_comes_out_joined_and_without_lone_surrogates(deltas: list[str]) -> None:
    whole = "".join(deltas).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    result = read(b"".join(text(delta) for delta in deltas) + completed())
    assert end_of(result).turn.text == whole
    assert all(event.text for event in result[0] if isinstance(event, TextDelta))


def test_a_pair_split_over_two_deltas_is_joined() -> None:
    events, _ = read(text("a" + HIGH) + text(LOW + "b"), ends=False)
    assert events == [TextDelta("a"), TextDelta("\U0001f600b")]


def test_a_half_that_the_next_item_does_not_complete_is_replaced() -> None:
    events, _ = read(text(HIGH, item_id="a") + text(LOW, item_id="b"), ends=False)
    assert said(events) == "\ufffd\ufffd"


def test_a_half_that_its_text_ends_with_is_replaced_once() -> None:
    done = frame("response.output_text.done", text="a" + HIGH)
    assert end_of(read(text("a" + HIGH) + done + completed())).turn.text == "a\ufffd"


def test_a_pair_split_in_the_reasoning_is_joined_there() -> None:
    halves = [frame("response.reasoning_summary_text.delta", delta=h) for h in (HIGH, LOW, HIGH)]
    events, _ = read(*halves, frame("response.reasoning_summary_text.done"), ends=False)
    assert events == [ReasoningDelta("\U0001f600"), ReasoningDelta("\ufffd")]


def test_stray_bytes_are_replaced() -> None:
    stream = b'data: {"type":"response.output_text.delta","delta":"a\xffb"}\n\n'
    assert said(read(stream, ends=False)[0]) == "a\ufffdb"


# --- how the bytes come ---------------------------------------------------------------------------

MIXED = (
    b"\xef\xbb\xbf: hello\r\n"
    + whole_reply(Omissions(), ["Gr\u00fc\u00dfe ", "\U0001f600", HIGH, LOW], ['{"\u00fc":', "1}"])
    + b": ping\n\n"
).replace(b"\n\n", b"\r\n\r\n", 3)


@given(st.lists(st.integers(0, len(MIXED)), max_size=12))
def test_the_same_events_come_out_however_the_bytes_are_split(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(MIXED)]
    chunks = [MIXED[a:b] for a, b in pairwise(places)]
    assert read(*chunks) == read(MIXED)


def test_the_same_events_come_out_byte_by_byte() -> None:
    assert read(*(MIXED[i : i + 1] for i in range(len(MIXED)))) == read(MIXED)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_every_kind_of_line_end_is_one(newline: bytes) -> None:
    stream = (text("a") + text("b") + completed()).replace(b"\n", newline)
    assert [read(stream), read(*(stream[i : i + 1] for i in range(len(stream))))] == [
        read(text("a") + text("b") + completed())
    ] * 2


def test_data_may_span_lines_and_stand_among_other_fields() -> None:
    stream = b'id: 7\ndata: {"type":\ndata:"response.output_text.delta",\nretry: 5\n'
    stream += b'data:  "delta":"a"}\nfoo\n\n'
    assert said(read(stream, ends=False)[0]) == "a"


def test_a_line_end_may_be_cut_in_two() -> None:
    stream = b'data: {"type":\r\ndata: "response.output_text.delta", "delta": "a"}\r\n\r\n'
    assert said(read(*(stream[i : i + 1] for i in range(len(stream))), ends=False)[0]) == "a"


def test_an_event_without_its_blank_line_at_the_end_does_not_count() -> None:
    assert failure_of(read(text("a") + completed()[:-1])).code == "model_incomplete"


def test_data_without_content_is_no_event() -> None:
    assert said(read(b"data\n\n: x\n\n" + text("a"), ends=False)[0]) == "a"


# --- ends that are none ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "code", "upstream_code", "retry_code"),
    [
        (b"", "model_incomplete", None, None),
        (b"data: [DONE]\n\n", "model_incomplete", None, None),
        (frame("response.cancelled", response={}), "model_incomplete", None, None),
        (
            frame(
                "response.incomplete", response={"incomplete_details": {"reason": "content_filter"}}
            ),
            "model_incomplete",
            None,
            None,
        ),
        (frame("response.incomplete", response={}), "model_incomplete", None, None),
        (completed(status="incomplete"), "model_incomplete", None, None),
        (
            frame("response.failed", response={"error": {"code": "server_error"}}),
            "model_error",
            "server_error",
            "server_error",
        ),
        (frame("response.failed"), "model_error", None, None),
        (
            frame("error", code="rate_limit_exceeded", message="sk-secret"),
            "model_error",
            "rate_limit_exceeded",
            "rate_limited",
        ),
        (
            frame("error", error={"type": "invalid_request_error", "code": None}),
            "model_error",
            "invalid_request_error",
            None,
        ),
        (
            b'data: {"error": {"code": 500, "message": "secret", "type": "server_error"}}\n\n',
            "model_error",
            "server_error",
            "server_error",
        ),
        (frame("error", code="sk-Secret"), "model_error", None, None),
        (frame("error", code="x" * 65), "model_error", None, None),
        (frame("error", code="server_error\n"), "model_error", None, None),
        (b'data: {"error": "secret"}\n\n', "model_error", None, None),
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
        b'{"type": 5}',
        b'{"type": "response.output_text.delta", "delta": 5}',
        b'{"type": "response.output_text.delta", "delta": NaN}',
        b'{"type": "\\ud800", "x": Infinity}',
        b"[" * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b', "delta": "\\ud800"}',
    ],
)
def test_data_that_cannot_be_read_is_a_failure_and_the_text_ahead_of_it_is_said(
    payload: bytes,
) -> None:
    result = read(text("Once") + b"data: " + payload + b"\n\n" + text("never"))
    assert failure_of(result).code == "model_error"
    assert said(result[0]) == "Once"


@pytest.mark.parametrize(
    "chunk", [b"x" * 65_536, b"data: x\n" * 8192, b"data: " + b"x" * MAX_EVENT_BYTES + b"\n"]
)
def test_an_event_without_end_is_refused_while_it_is_small(chunk: bytes) -> None:
    parser = ResponsesParser()
    parser.feed(text("Once"))
    for _ in range(2 * MAX_EVENT_BYTES // len(chunk) + 1):
        parser.feed(chunk)
    assert failure_of(([], parser.failure)).code == "model_error"


def test_arguments_without_end_are_refused() -> None:
    piece = frame("response.function_call_arguments.delta", delta="x" * 65_536)
    assert failure_of(read(*[piece] * (MAX_KEPT_CHARS // 65_536 + 1), ends=False)).code == (
        "model_error"
    )


def test_items_without_end_are_refused() -> None:
    item = frame("response.output_item.done", item=message("x" * 1_000_000))
    assert failure_of(read(*[item] * 9, ends=False)).code == "model_error"


@pytest.mark.parametrize("keeps_items", [False, True])
def test_an_id_that_is_too_long_is_replaced_and_not_given_back(*, keeps_items: bool) -> None:
    longest = "c" * MAX_NAME_CHARS
    output = [call_item("1", call_id=longest), call_item("2", call_id=longest + "c")]
    end = end_of(read(completed(*output), keeps_items=keeps_items))
    assert [call.call_id for call in end.turn.calls] == [longest, "call_2"]
    assert end.turn.provider_items == ()


def test_a_name_that_is_too_long_fails_the_call() -> None:
    longest = {"type": "function_call", "name": "n" * MAX_NAME_CHARS}
    assert end_of(read(completed(longest))).turn.calls[0].name == longest["name"]
    too_long = {**longest, "name": longest["name"] + "n"}
    assert failure_of(read(text("a"), completed(too_long))).code == "model_error"


# --- before and after the first token -------------------------------------------------------------

SERVER_ERROR = frame("error", code="server_error")
CALL = call_item("")


@pytest.mark.parametrize(
    "event",
    [
        frame("response.created", response={"status": "in_progress", "output": []}),
        frame("response.output_item.added", item={"type": "message", "content": []}),
        frame("response.output_item.added", item={"type": "reasoning", "summary": []}),
        frame("response.content_part.added", part={"type": "output_text", "text": ""}),
        frame("response.web_search_call.searching", item_id="ws"),
        text(""),
    ],
)
def test_what_comes_ahead_of_the_first_token_leaves_the_call_fit_for_a_retry(event: bytes) -> None:
    assert failure_of(read(event, SERVER_ERROR)).retry_code == "server_error"


@pytest.mark.parametrize(
    "event",
    [
        text("a"),
        text(HIGH),
        frame("response.output_text.done", text="a"),
        frame("response.refusal.done", refusal="a"),
        frame("response.reasoning_summary_text.delta", delta="a"),
        frame("response.output_item.added", item=CALL),
        frame("response.output_item.done", item=CALL),
        frame("response.function_call_arguments.delta", delta="{"),
        frame("response.function_call_arguments.done", arguments="{}"),
        frame("response.output_item.added", item={"type": "mcp_call"}),
        frame("response.mcp_call_arguments.delta", delta="{"),
        frame("response.output_item.done", item=message("a")),
        frame("response.output_item.done", item={"type": "reasoning", "summary": [{}]}),
    ],
)
def test_nothing_is_tried_again_after_the_first_token_told_or_not(event: bytes) -> None:
    assert failure_of(read(event, SERVER_ERROR)).retry_code is None


def test_an_event_is_heard_when_it_is_whole_and_a_comment_never() -> None:
    parser = ResponsesParser()
    heard = []
    for data in (b": keep-alive\n\n", b'data: {"type":', b'"response.queued"}\n\n', b": bye\n\n"):
        assert parser.feed(data) == []
        heard.append(parser.has_heard)
    assert heard == [False, False, True, False]


# --- reasons and figures --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cap", "spent", "reason"), [(16, 16, "length"), (16, 15, "stop"), (None, 16, "stop")]
)
def test_a_cap_that_was_reached_is_the_reason_whatever_the_provider_calls_it(
    cap: int | None, spent: int, reason: str
) -> None:
    usage = {"input_tokens": 1, "output_tokens": spent, "total_tokens": 1 + spent}
    end = end_of(read(text("a") + completed(usage=usage), cap=cap))
    assert end.finish_reason == reason
    assert end.usage == Usage(1, spent, 1 + spent)


def test_a_cut_at_our_own_cap_is_an_end() -> None:
    response = {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [message("a")],
    }
    stream = text("a") + frame("response.incomplete", response=response)
    assert end_of(read(stream, cap=16)).finish_reason == "length"
    assert failure_of(read(stream)).code == "model_incomplete"


@pytest.mark.parametrize(
    "usage",
    [None, 5, {}, {"input_tokens": "1"}, {"input_tokens": -1, "output_tokens": 1}, {"x": 10**30}],
)
def test_a_report_of_tokens_that_is_none_is_left_out(usage: object) -> None:
    assert end_of(read(completed(usage=usage))).usage is None


def test_a_missing_total_is_the_sum() -> None:
    usage = {"input_tokens": 2, "output_tokens": 3}
    assert end_of(read(completed(usage=usage))).usage == Usage(2, 3, 5)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["type", "content", "text", "output", "usage", "status", "call_id", "error"]
                ),
                inner | st.sampled_from(["message", "function_call", "failed"]),
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
    st.sampled_from([*ResponsesParser.ACTIONS, ""]),
    st.sampled_from(["response", "item", "error", "part", "delta", "code"]),
)
def test_no_shape_of_any_event_escapes_as_another_error(
    value: object, event_type: str, key: str
) -> None:
    events, failure = read(frame(event_type, **{key: value}))
    assert failure is not None or isinstance(events[-1], TurnEnd)


# --- calls and items ------------------------------------------------------------------------------


def test_parallel_calls_without_done_events_are_put_together_from_their_pieces() -> None:
    begin = [
        frame("response.output_item.added", item=call_item("", id=f"fc_{n}", call_id=f"c{n}"))
        for n in (1, 2)
    ]
    pieces = [("fc_1", "{"), ("fc_2", "["), ("fc_1", "}"), ("fc_2", "]")]
    deltas = [
        frame("response.function_call_arguments.delta", item_id=item_id, delta=piece)
        for item_id, piece in pieces
    ]
    end = end_of(read(*begin, *deltas, completed()))
    assert end.turn.calls == (ToolCall("c1", "look", "{}"), ToolCall("c2", "look", "[]"))


def test_calls_that_say_no_place_at_all_follow_each_other() -> None:
    stream = b""
    for name, arguments in (("one", "{}"), ("two", "[]")):
        stream += frame("response.output_item.added", item={"type": "function_call", "name": name})
        stream += frame("response.function_call_arguments.delta", delta=arguments)
    done = [
        frame("response.output_item.done", item={"type": "function_call", "name": name})
        for name in ("one", "two")
    ]
    assert end_of(read(stream, *done, completed())).turn.calls == (
        ToolCall("call_1", "one", "{}"),
        ToolCall("call_2", "two", "[]"),
    )


def test_calls_that_are_only_told_at_the_end_are_taken_from_there() -> None:
    output = [call_item("{}", call_id="a"), call_item(HIGH, call_id="b")]
    calls = (ToolCall("a", "look", "{}"), ToolCall("b", "look", "\ufffd"))
    assert end_of(read(completed(*output))).turn.calls == calls
    done = [frame("response.output_item.done", item=item) for item in output]
    assert end_of(read(*done, completed())).turn.calls == calls


def test_whole_arguments_count_more_than_their_pieces() -> None:
    stream = frame("response.output_item.added", item=call_item("", call_id="a"), output_index=0)
    stream += frame("response.function_call_arguments.delta", delta="{", output_index=0)
    stream += frame("response.function_call_arguments.done", arguments="{}", output_index=0)
    assert end_of(read(stream + completed())).turn.calls == (ToolCall("a", "look", "{}"),)


def test_two_calls_never_share_an_id() -> None:
    output = [call_item("1", call_id="a"), call_item("2", call_id="a"), call_item("3")]
    end = end_of(read(completed(*output), keeps_items=True))
    assert [call.call_id for call in end.turn.calls] == ["a", "a_2", "call_3"]
    assert end.turn.provider_items == ()


def test_the_providers_items_are_kept_as_they_came_when_they_are_to_be_given_back() -> None:
    output = [
        {"type": "reasoning", "id": "rs", "encrypted_content": "sealed", "summary": []},
        message("Hello"),
        call_item("{}", id="fc", call_id="a"),
    ]
    assert end_of(read(completed(*output), keeps_items=True)).turn.provider_items == tuple(output)
    done = [frame("response.output_item.done", item=item) for item in output]
    assert end_of(read(*done, completed(), keeps_items=True)).turn.provider_items == tuple(output)
    assert end_of(read(completed(*output))).turn.provider_items == ()
