"""Requests that no client should send, each with the exact answer; byte by byte where it matters.

`tests/api/test_problems.py` has the refusals that a client meets when it makes a mistake; these are
what breaks servers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from app.api.services import ApiLimits
from tests.api.serving import Served, services_for, serving
from tests.runtime.playing import Cast, saying

pytestmark = pytest.mark.anyio

NO_RUN = "/runs/00000000-0000-4000-8000-000000000000"
EVENTS = f"{NO_RUN}/events"
CRLF = b"\r\n"
LONG = "x" * 20_000


class Bad(NamedTuple):
    """A request as it stands on the wire, `PORT` for the port, and the answer: status and code.

    A `None` for the code is uvicorn's bare answer to what is not HTTP.
    """

    what: str
    wire: bytes
    status: int
    code: str | None


def head(request_line: str, *fields: str, host: str = "localhost:PORT") -> bytes:
    lines = [f"{request_line} HTTP/1.1", f"Host: {host}", "Connection: close", *fields]
    return CRLF.join(line.encode() for line in [*lines, "", ""])


def post(body: bytes | str, *fields: str, target: str = "/runs") -> bytes:
    raw = body.encode() if isinstance(body, str) else body
    told = [f"Content-Length: {len(raw)}", "Content-Type: application/json"]
    return head(f"POST {target}", *told, *fields) + raw


def order(**parts: object) -> str:
    return json.dumps({"input": "x", **parts})


def chunked(*chunks: bytes) -> bytes:
    fields = ("Transfer-Encoding: chunked", "Content-Type: application/json")
    told = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head("POST /runs", *fields) + told + b"0\r\n\r\n"


def typed(media_type: str, body: bytes | str) -> bytes:
    raw = body.encode() if isinstance(body, str) else body
    fields = (f"Content-Length: {len(raw)}", f"Content-Type: {media_type}")
    return head("POST /runs", *fields) + raw


def nested(depth: int) -> str:
    return '{"input": ' + "[" * depth + "]" * depth + "}"


NOT_HTTP = [
    Bad("noise", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + CRLF * 2, 400, None),
    Bad("no version", b"GET /runs" + CRLF * 2, 403, "host_not_allowed"),
    Bad("HTTP/3.7", b"GET /runs HTTP/3.7\r\nHost: localhost" + CRLF * 2, 400, None),
    Bad("an unknown method", head("STEAL /runs"), 400, None),
    Bad("a space in the target", head("GET /runs /x"), 400, None),
    Bad("a header without a colon", head("GET /runs", "nonsense"), 400, None),
    Bad("a header with a space in its name", head("GET /runs", "A B: c"), 400, None),
    Bad("NUL in a header", head("GET /runs", "X: a\0b"), 400, None),
    Bad("a folded header", head("GET /runs", "X: a", " b"), 400, None),
    Bad("a bare LF in a header", head("GET /runs", "X: a\nEvil: b"), 400, None),
    Bad("two lengths", post("{}", "Content-Length: 3"), 400, None),
    Bad("a length that is negative", head("POST /runs", "Content-Length: -1"), 400, None),
    Bad("a length that is a word", head("POST /runs", "Content-Length: many"), 400, None),
    Bad("a length beyond 64 bits", head("POST /runs", "Content-Length: " + "9" * 30), 400, None),
    Bad("length and chunks", post("0\r\n\r\n", "Transfer-Encoding: chunked"), 400, None),
    Bad(
        "a chunk with a wrong size",
        head("POST /runs", "Transfer-Encoding: chunked", "Content-Type: application/json")
        + b"zz\r\n{}\r\n0\r\n\r\n",
        400,
        None,
    ),
]

HEADS = [
    Bad("a target that is too long", head(f"GET /{LONG * 4}"), 431, "headers_too_large"),
    Bad("a query that is too long", head(f"GET /runs?a={LONG * 4}"), 431, "headers_too_large"),
    Bad("a header that is too long", head("GET /runs", f"X: {LONG * 4}"), 431, "headers_too_large"),
    Bad("very many headers", head("GET /runs", *["A: b"] * 11_000), 431, "headers_too_large"),
    Bad("no host", b"GET /runs HTTP/1.1\r\nConnection: close" + CRLF * 2, 403, "host_not_allowed"),
    Bad("another host", head("GET /runs", host="evil.example"), 403, "host_not_allowed"),
    Bad("two hosts", head("GET /runs", "Host: localhost"), 403, "host_not_allowed"),
    Bad("a host with a user", head("GET /runs", host="a@localhost"), 403, "host_not_allowed"),
    Bad("a host with a path", head("GET /runs", host="localhost/x"), 403, "host_not_allowed"),
    Bad("a longer host", head("GET /", host="localhost.evil.example"), 403, "host_not_allowed"),
    Bad("an empty host", head("GET /docs", host=""), 403, "host_not_allowed"),
    Bad("another origin", post("{}", "Origin: http://evil.example"), 403, "origin_not_allowed"),
    Bad("no origin at all", post("{}", "Origin: null"), 403, "origin_not_allowed"),
    Bad("an empty origin", post("{}", "Origin:"), 403, "origin_not_allowed"),
    Bad(
        "two origins",
        post("{}", "Origin: http://localhost:PORT", "Origin: http://evil.example"),
        403,
        "origin_not_allowed",
    ),
    Bad(
        "another port's origin",
        head(f"DELETE {NO_RUN}", "Origin: http://localhost:1"),
        403,
        "origin_not_allowed",
    ),
    Bad(
        "a preflight from elsewhere",
        head("OPTIONS /runs", "Origin: http://evil.example", "Access-Control-Request-Method: POST"),
        403,
        "origin_not_allowed",
    ),
]

PLACES = [
    Bad("no such place", head("GET /admin"), 404, "not_found"),
    Bad("a run's id that is none", head("GET /runs/1"), 404, "run_not_found"),
    Bad("NUL in an id", head("GET /runs/%00"), 404, "run_not_found"),
    Bad("a slash in an id", head("GET /runs/a%2Fb"), 404, "not_found"),
    Bad("dots", head("GET /runs/../teams"), 404, "not_found"),
    Bad("dots, encoded", head("GET /assets/%2e%2e/index.html"), 404, "not_found"),
    Bad("dots and a semicolon", head("GET /runs/..;/teams"), 404, "not_found"),
    Bad("a backslash", head("GET /assets/..%5C..%5Csettings.py"), 404, "not_found"),
    Bad("two slashes", head("GET //runs"), 404, "not_found"),
    Bad("bytes that are not UTF-8", head("GET /teams/%ff%fe"), 404, "team_not_found"),
    Bad("a line end in an id", head("GET /runs/a%0d%0aX:%20b"), 404, "run_not_found"),
    Bad("half an escape", head("GET /runs/%f"), 404, "run_not_found"),
    Bad("an id in capitals", head(f"GET {NO_RUN.replace('8', 'A')}"), 404, "run_not_found"),
    Bad("a very long id", head(f"GET /runs/{LONG}"), 404, "run_not_found"),
    Bad("a very long team", head(f"GET /teams/{LONG}"), 404, "team_not_found"),
    Bad("TRACE", head("TRACE /runs"), 405, "method_not_allowed"),
    Bad("PUT", head(f"PUT {NO_RUN}", "Content-Length: 0"), 405, "method_not_allowed"),
    Bad("PATCH", head("PATCH /teams", "Content-Length: 0"), 405, "method_not_allowed"),
    Bad("POST to events", head(f"POST {EVENTS}", "Content-Length: 0"), 405, "method_not_allowed"),
    Bad("CONNECT", head("CONNECT localhost:80"), 400, None),
]

FIELDS = [
    Bad("a cursor below zero", head(f"GET {EVENTS}", "Last-Event-ID: -1"), 400, "bad_cursor"),
    Bad("a cursor of 19 digits", head(f"GET {EVENTS}?last_event_id={'9' * 19}"), 400, "bad_cursor"),
    Bad("a cursor with a dot", head(f"GET {EVENTS}", "Last-Event-ID: 1.0"), 400, "bad_cursor"),
    Bad("Arabic digits", head(f"GET {EVENTS}?last_event_id=%D9%A3"), 400, "bad_cursor"),
    Bad("a cursor in hex", head(f"GET {EVENTS}", "Last-Event-ID: 0x1"), 400, "bad_cursor"),
    Bad("a cursor with NUL", head(f"GET {EVENTS}?last_event_id=1%00"), 400, "bad_cursor"),
    Bad("a list's cursor that is none", head("GET /runs?after=%00"), 400, "bad_cursor"),
    Bad("a wait that is too long", head(f"GET {NO_RUN}?wait=50.001"), 422, "invalid_request"),
    Bad("a wait without end", head(f"GET {NO_RUN}?wait=inf"), 422, "invalid_request"),
    Bad("a wait that is no number", head(f"GET {NO_RUN}?wait=NaN"), 422, "invalid_request"),
    Bad("a wait of 1e400", head(f"GET {NO_RUN}?wait=1e400"), 422, "invalid_request"),
    Bad("an empty wait", head(f"GET {NO_RUN}?wait="), 422, "invalid_request"),
    Bad("a limit of nothing", head("GET /runs?limit=0"), 422, "invalid_request"),
    Bad("a limit of 4301 digits", head(f"GET /runs?limit={'1' * 4301}"), 422, "invalid_request"),
    Bad("a status of none", head("GET /runs?status=%00"), 422, "invalid_request"),
    Bad("7,000 statuses", head("GET /runs?" + "status=x&" * 7000), 422, "invalid_request"),
    Bad("a long reason", head(f"DELETE {NO_RUN}?reason={'r' * 201}"), 422, "invalid_request"),
    Bad("a purge of perhaps", head(f"DELETE {NO_RUN}?purge=1"), 422, "invalid_request"),
    Bad("stopping nothing", head("DELETE /runs?all=false"), 422, "invalid_request"),
    Bad("stopping in two ways", head("DELETE /runs?all=true&session_id=s"), 422, "invalid_request"),
    Bad("an empty key", post(order(), "Idempotency-Key:"), 422, "invalid_request"),
    Bad("a key of 256", post(order(), f"Idempotency-Key: {'k' * 256}"), 422, "invalid_request"),
    Bad("a key with a space", post(order(), "Idempotency-Key: a b"), 422, "invalid_request"),
    Bad("a key beyond ASCII", post(order(), "Idempotency-Key: ü"), 422, "invalid_request"),
    Bad("HTML for events", head(f"GET {EVENTS}", "Accept: text/html"), 406, "not_acceptable"),
    Bad("nothing for events", head(f"GET {EVENTS}", "Accept: */*;q=0"), 406, "not_acceptable"),
    Bad("nonsense for events", head(f"GET {EVENTS}", "Accept: ;;,/"), 406, "not_acceptable"),
    Bad("a quality of two", head(f"GET {EVENTS}", "Accept: */*;q=2"), 406, "not_acceptable"),
]

MEDIA_TYPES = [
    Bad("no type", head("POST /runs", "Content-Length: 2") + b"{}", 415, "unsupported_media_type"),
    Bad("a form", typed("multipart/form-data", order()), 415, "unsupported_media_type"),
    Bad("text", typed("text/plain", order()), 415, "unsupported_media_type"),
    Bad("a type like JSON", typed("application/jsonp", order()), 415, "unsupported_media_type"),
    Bad("a long type", typed("a/" + LONG, order()), 415, "unsupported_media_type"),
]

NOT_JSON = [
    Bad("nothing", post(""), 400, "bad_request"),
    Bad("white space", post(" \n "), 400, "bad_request"),
    Bad("half an object", post('{"input": "x"'), 400, "bad_request"),
    Bad("two objects", post(order() + order()), 400, "bad_request"),
    Bad("a comment", post('{"input": "x"} // yes'), 400, "bad_request"),
    Bad("a trailing comma", post('{"input": "x",}'), 400, "bad_request"),
    Bad("NUL", post(b'{"input": "x"}\0'), 400, "bad_request"),
    Bad("a raw line end in a string", post('{"input": "a\nb"}'), 400, "bad_request"),
    Bad("a byte order mark", post(b"\xef\xbb\xbf" + order().encode()), 400, "bad_request"),
    Bad("UTF-16", post(order().encode("utf-16")), 400, "bad_request"),
    Bad("latin-1", post('{"input": "é"}'.encode("latin-1")), 400, "bad_request"),
    Bad(
        "latin-1 as it says",
        typed("application/json; charset=latin-1", '{"input": "é"}'.encode("latin-1")),
        400,
        "bad_request",
    ),
    Bad("a surrogate in UTF-8", post(b'{"input": "\xed\xa0\xbd"}'), 400, "bad_request"),
    Bad("an overlong slash", post(b'{"input": "\xc0\xaf"}'), 400, "bad_request"),
    Bad("gzip", post(b"\x1f\x8b\x08\x00", "Content-Encoding: gzip"), 400, "bad_request"),
    Bad("NaN", post('{"input": "x", "timeout_s": NaN}'), 400, "bad_request"),
    Bad("Infinity", post('{"input": "x", "timeout_s": Infinity}'), 400, "bad_request"),
    Bad("minus Infinity", post('{"input": "x", "timeout_s": -Infinity}'), 400, "bad_request"),
    Bad("NaN in chunks", chunked(b'{"input": ', b"Na", b"N}"), 400, "bad_request"),
]

NOT_VALID = [
    Bad("1e400", post('{"input": "x", "timeout_s": 1e400}'), 422, "invalid_request"),
    Bad("a lone surrogate", post('{"input": "\\ud83d"}'), 422, "invalid_request"),
    Bad("a lone surrogate in a key", post('{"\\ud83d": 1}'), 422, "invalid_request"),
    Bad("an integer of 5,000 digits", post(f'{{"input": {"9" * 5000}}}'), 422, "invalid_request"),
    Bad("nesting of 33", post(nested(32)), 422, "invalid_request"),
    Bad("nesting of 10,000", post("[" * 10_000), 422, "invalid_request"),
    Bad("objects in objects", post('{"a":' * 9000 + "1" + "}" * 9000), 422, "invalid_request"),
    Bad("600,000 lists", post("[" + "[]," * 600_000 + "[]]"), 422, "invalid_request"),
    Bad(
        "120,000 keys",
        post(json.dumps(dict.fromkeys(map(str, range(120_000))))),
        422,
        "invalid_request",
    ),
    Bad("a key twice", post('{"input": "x", "input": "y"}'), 422, "invalid_request"),
    Bad("an unknown key", post(order(inputs="y")), 422, "invalid_request"),
    Bad("a key that Python knows", post(order(__class__="y")), 422, "invalid_request"),
    Bad("a list", post("[]"), 422, "invalid_request"),
    Bad("a number", post("7"), 422, "invalid_request"),
    Bad("null", post("null"), 422, "invalid_request"),
    Bad("no input", post("{}"), 422, "invalid_request"),
    Bad("a blank input", post(order(input="\u3000\n\t ")), 422, "invalid_request"),
    Bad("an input that is a number", post(order(input=1)), 422, "invalid_request"),
    Bad("a long input", post(order(input="x" * 100_001)), 422, "invalid_request"),
    Bad("a stream that is a word", post(order(stream="yes")), 422, "invalid_request"),
    Bad("a session with a slash", post(order(session_id="a/b")), 422, "invalid_request"),
    Bad("a long session", post(order(session_id="s" * 129)), 422, "invalid_request"),
    Bad("metadata in depth", post(order(metadata={"a": {"b": "c"}})), 422, "invalid_request"),
    Bad("a time of zero", post(order(timeout_s=0)), 422, "invalid_request"),
    Bad("a time of true", post(order(timeout_s=True)), 422, "invalid_request"),
    Bad("too few tokens", post(order(max_output_tokens=15)), 422, "invalid_request"),
    Bad("tokens beyond 2**53", post(order(max_output_tokens=2**53)), 422, "invalid_request"),
    Bad("a cancel without a stream", post(order(on_disconnect="cancel")), 422, "invalid_request"),
    Bad("a team of nobody", post(order(team="../team")), 404, "team_not_found"),
    Bad("a body that is too long", post("x" * 2_000_001), 413, "body_too_large"),
    Bad("chunks that are too long", chunked(*[b"x" * 50_000] * 41), 413, "body_too_large"),
    Bad(
        "a body that is told to be long",
        head("POST /runs", "Content-Type: application/json", "Content-Length: 100000000"),
        413,
        "body_too_large",
    ),
]

CORPUS = [*NOT_HTTP, *HEADS, *PLACES, *FIELDS, *MEDIA_TYPES, *NOT_JSON, *NOT_VALID]


async def answer_to(bad: Bad, served: Served) -> tuple[int, Mapping[str, str], bytes]:
    """Send it over a connection of its own; return status, headers and body."""
    async with served.connect() as connection:
        connection.writer.write(bad.wire.replace(b"PORT", str(served.port).encode()))
        raw, _, body = (await connection.rest()).partition(CRLF * 2)
    first, *fields = raw.decode("ascii").split("\r\n")
    status = int(first.split()[1]) if first else 0
    return status, dict(field.lower().split(": ", 1) for field in fields), body


def check(bad: Bad, status: int, headers: Mapping[str, str], body: bytes) -> None:
    assert (status, bad.code is None) == (bad.status, headers["content-type"].startswith("text/"))
    if bad.code is not None:
        problem = json.loads(body.decode("ascii"))
        assert headers["content-type"] == "application/problem+json"
        assert (problem["code"], problem["status"]) == (bad.code, status)
        assert len(body) < 3000 + len(bad.wire)


async def test_each_bad_request_gets_the_exact_answer_and_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert len(CORPUS) == len({bad.what for bad in CORPUS}) >= 130
    services = services_for(Cast(saying("x")), limits=ApiLimits(read_timeout_s=5))
    wrong: list[str] = []
    async with serving(services=services) as served:
        for bad in CORPUS:
            status, headers, body = await answer_to(bad, served)
            try:
                check(bad, status, headers, body)
            except (AssertionError, KeyError) as error:
                wrong.append(f"{bad.what}: {status} {body[:200]!r} {error}")
        assert (await served.client.get("/runs")).json()["runs"] == []
        assert (await served.finish())["status"] == "completed"
    assert not wrong, "\n".join(wrong)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
