from __future__ import annotations

import json
from typing import Any

import pytest

from app.api.bodies import parse, validate
from app.api.problems import Refused
from app.api.services import ApiLimits

LIMITS = ApiLimits(max_input_chars=20, run_timeout_s=60)


def refusal(raw: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        validate(parse(raw), LIMITS)
    return caught.value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff",
        b'{"input": "\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"input": "x"}',
        b'{"input": "x", "timeout_s": NaN}',
        b'{"input": "x", "timeout_s": -Infinity}',
        b'{"input": "x"} {}',
        b"{'input': 'x'}",
        '{"input": "é"}'.encode("latin-1"),
        '{"input": "x"}'.encode("utf-16"),
    ],
)
def test_what_is_not_json_in_utf8_is_a_bad_request(raw: bytes) -> None:
    assert refusal(raw).code == "bad_request"


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({}, ["body", "input"]),
        ({"input": ""}, ["body", "input"]),
        ({"input": " \n\t"}, ["body", "input"]),
        ({"input": "x" * 21}, ["body", "input"]),
        ({"input": 7}, ["body", "input"]),
        ({"input": None}, ["body", "input"]),
        ({"input": "x", "surprise": 1}, ["body", "surprise"]),
        ({"input": "x", "s" * 99: 1}, ["body", "s" * 64]),
        ({"input": "x", "team": 1}, ["body", "team"]),
        ({"input": "x", "stream": "true"}, ["body", "stream"]),
        ({"input": "x", "stream": 1}, ["body", "stream"]),
        ({"input": "x", "session_id": ""}, ["body", "session_id"]),
        ({"input": "x", "session_id": "a b"}, ["body", "session_id"]),
        ({"input": "x", "session_id": "a\n"}, ["body", "session_id"]),
        ({"input": "x", "session_id": "a" * 129}, ["body", "session_id"]),
        ({"input": "x", "metadata": {"k": 1}}, ["body", "metadata", "k"]),
        ({"input": "x", "metadata": {"k" * 65: "v"}}, ["body", "metadata", "k" * 64, "[key]"]),
        ({"input": "x", "metadata": {"k": "v" * 513}}, ["body", "metadata", "k"]),
        ({"input": "x", "metadata": {str(n): "" for n in range(17)}}, ["body", "metadata"]),
        ({"input": "x", "metadata": None}, ["body", "metadata"]),
        ({"input": "x", "on_disconnect": "stop"}, ["body", "on_disconnect"]),
        ({"input": "x", "timeout_s": 0}, ["body", "timeout_s"]),
        ({"input": "x", "timeout_s": 60.1}, ["body", "timeout_s"]),
        ({"input": "x", "timeout_s": True}, ["body", "timeout_s"]),
        ({"input": "x", "timeout_s": "5"}, ["body", "timeout_s"]),
        ({"input": "x", "timeout_s": 10**400}, ["body", "timeout_s"]),
        ({"input": "x", "max_output_tokens": 15}, ["body", "max_output_tokens"]),
        ({"input": "x", "max_output_tokens": 16.5}, ["body", "max_output_tokens"]),
        ({"input": "x", "max_output_tokens": 10**400}, ["body", "max_output_tokens"]),
        ({"input": "\ud83d"}, ["body", "input"]),
        ({"input": "x", "metadata": {"\ud83d": "v"}}, ["body", "metadata", "\ufffd" * 3, "[key]"]),
        ([], ["body"]),
        (None, ["body"]),
        ("input", ["body"]),
    ],
)
def test_a_flaw_is_told_by_its_place_and_never_by_its_value(body: Any, loc: list[str]) -> None:
    refused = refusal(json.dumps(body).encode())
    assert refused.code == "invalid_request"
    assert [error["loc"] for error in refused.extra["errors"]] == [loc]
    assert {key for error in refused.extra["errors"] for key in error} == {"loc", "msg"}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"input": "x", "timeout_s": 1e400}',
        b'{"input": "x", "timeout_s": ' + b"9" * 5000 + b"}",
        b'{"input": ' + b"[" * 33 + b"]" * 33 + b"}",
        b"[" * 100_000,
        b'{"input": "x", "\\ud83d": 1}',
        b'{"input": "x", "input": "y"}',
        b'{"input": "x", "metadata": {"k": "v", "k": "v"}}',
    ],
)
def test_json_that_no_two_parsers_read_alike_is_invalid(raw: bytes) -> None:
    refused = refusal(raw)
    assert refused.code == "invalid_request"
    assert json.dumps(refused.extra, ensure_ascii=True)


def test_a_full_body_becomes_an_order() -> None:
    body = {
        "input": "\U0001f600" * 20,
        "team": "team",
        "stream": True,
        "session_id": "A.z_0-9",
        "metadata": {"k" * 64: "v" * 512},
        "on_disconnect": "cancel",
        "timeout_s": 60,
        "max_output_tokens": 16,
    }
    order = validate(parse(json.dumps(body).encode()), LIMITS).order()
    assert (order.input, order.team_id, order.session_id) == ("\U0001f600" * 20, "team", "A.z_0-9")
    assert (order.metadata, order.on_disconnect) == ({"k" * 64: "v" * 512}, "cancel")
    assert (order.timeout_s, order.max_output_tokens) == (60, 16)


@pytest.mark.parametrize("number", ["16.0", "1.6e1", "160e-1"])
def test_a_whole_number_may_be_written_in_any_way(number: str) -> None:
    body = validate(parse(b'{"input": "x", "max_output_tokens": %b}' % number.encode()), LIMITS)
    assert repr(body.max_output_tokens) == "16"


def test_null_stands_for_not_given_where_there_is_no_other_default() -> None:
    absent = ("team", "stream", "session_id", "timeout_s", "max_output_tokens")
    body = validate({"input": "x", **dict.fromkeys(absent)}, LIMITS)
    assert body == validate({"input": "x"}, LIMITS)
