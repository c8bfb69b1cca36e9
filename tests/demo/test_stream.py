"""The demo's reader: a stream that breaks off is read on from the last event it saw."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from app.demo.stream import DemoFailed, RunStream

OPENING = "retry: 1\n: ok\n"


def frame(seq: int, name: str) -> str:
    return f"id: {seq}\nevent: {name}\ndata: {json.dumps({'event': name, 'seq': seq})}\n\n"


FIRST, SECOND = frame(1, "TeamRunStarted"), frame(2, "TeamRunContent")
LAST = frame(3, "TeamRunCompleted")


class Answers(ThreadingHTTPServer):
    """Gives prepared answers, one a request, and remembers each request and its cursor."""

    def __init__(self, answers: list[tuple[int, str]]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answers = answers
        self.asked: list[tuple[str, str | None]] = []


class _Answer(BaseHTTPRequestHandler):
    server: Answers

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((f"{self.command} {self.path}", self.headers["Last-Event-ID"]))
        status, body = self.server.answers.pop(0)
        self.send_response(status)
        self.send_header("X-Run-Id", "run-1")
        self.send_header("Content-Length", str(len(body) + body.endswith("cut off")))
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_POST = _answer  # noqa: N815 - the names that the base class looks for

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(*answers: tuple[int, str]) -> Iterator[tuple[Answers, RunStream]]:
    with Answers(list(answers)) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            with httpx.Client(base_url=url, timeout=5, trust_env=False) as client:
                yield server, RunStream(client, {"input": "x"})
        finally:
            server.shutdown()
            thread.join(5)


def names(stream: RunStream) -> list[str | None]:
    return [None if event is None else event["event"] for event in stream.events()]


def test_a_stream_is_read_to_its_final_event() -> None:
    with answering((200, OPENING + FIRST + SECOND + LAST)) as (server, stream):
        assert names(stream) == [None, "TeamRunStarted", "TeamRunContent", "TeamRunCompleted"]
    assert stream.run_id == "run-1"
    assert server.asked == [("POST /runs", None)]


def test_a_broken_stream_is_read_on_from_the_cursor() -> None:
    with answering(
        (200, OPENING + FIRST + "id: 2\nevent: cut off"),
        (200, "retry: 2\n: busy\n"),
        (200, OPENING + SECOND),
        (200, OPENING + LAST),
    ) as (server, stream):
        assert names(stream) == [None, "TeamRunStarted", "TeamRunContent", "TeamRunCompleted"]
    cursors = [("GET /runs/run-1/events", cursor) for cursor in ("1", "1", "2")]
    assert server.asked == [("POST /runs", None), *cursors]


def test_a_stream_that_only_breaks_is_given_up() -> None:
    broken = [(200, OPENING)] * 10
    with (
        answering(*broken) as (server, stream),
        pytest.raises(DemoFailed, match="again and again"),
    ):
        names(stream)
    assert server.answers == []


def test_a_refusal_is_told_with_its_detail() -> None:
    problem = json.dumps({"code": "team_not_found", "detail": "No team has this id."})
    with (
        answering((404, problem)) as (_, stream),
        pytest.raises(DemoFailed, match=r"404 No team has this id\."),
    ):
        names(stream)


def test_a_refusal_that_is_not_json_is_told_by_its_status() -> None:
    with (
        answering((502, "<html>")) as (_, stream),
        pytest.raises(DemoFailed, match=r"answered 502$"),
    ):
        names(stream)
