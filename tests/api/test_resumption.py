"""A reader that loses its connection at any byte, as often as it likes, sees the same log.

The readers are plain blocking sockets; the server has a thread and an event loop (uvloop) of its
own, as in production.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.listening import listen
from app.models.scripted import Pause, Say, Step
from app.server import Server
from tests import laws
from tests.api.serving import api_over, services_for
from tests.runtime.playing import Cast, delegating_to

WORDS = ["A ", "tale\n\n", "id: 1\n", "\U0001f600", "\r\n: x", "\0", "end."]


def telling(_: object) -> Iterator[Step]:
    for word in WORDS * 3:
        yield Pause(0.001)
        yield Say(word)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    services = services_for(Cast(delegating_to("writer"), {"writer": telling}))
    ready = threading.Event()
    server = Server(api_over(services), 0, lambda _: ready.set())
    listening = listen("127.0.0.1", 0, 30)
    port = listening.getsockname()[1]
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        assert ready.wait(10)
        yield port
    finally:
        server.should_exit = True
        thread.join(10)


def start(port: int) -> str:
    body = b'{"input": "x"}'
    answer = request(port, "POST /runs", f"Content-Length: {len(body)}", body=body)
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["run_id"])


def request(port: int, target: str, *headers: str, body: bytes = b"", most: int = 1 << 30) -> bytes:
    """Send a request; return the first bytes of the answer, at most so many."""
    lines = [f"{target} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    lines.append("Content-Type: application/json")
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        while len(answer) < most and (piece := connection.recv(min(65_536, most - len(answer)))):
            answer += piece
    return answer


def whole_frames(answer: bytes) -> bytes:
    """Return the frames that arrived whole, however the chunks and the answer were cut."""
    head, _, chunks = answer.partition(b"\r\n\r\n")
    assert not head or head.startswith(b"HTTP/1.1 200 ") or head in b"HTTP/1.1 200 OK\r\n", head
    body = b""
    while b"\r\n" in chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        body += chunks[: int(size, 16)]
        chunks = chunks[int(size, 16) + 2 :]
    frames = body.removeprefix(b"retry: 2000\n: ok\n")
    return frames[: frames.rfind(b"\n\n") + 2] if b"\n\n" in frames else b""


def read_in_pieces(port: int, run_id: str, cuts: list[int]) -> bytes:
    """Read a run's events, cut off after so many bytes each time; the last time to the end."""
    log, cursor = b"", ""
    for most in [*cuts, 1 << 30]:
        answer = request(port, f"GET /runs/{run_id}/events", f"Last-Event-ID: {cursor}", most=most)
        if answer.startswith(b"HTTP/1.1 204 "):
            break
        frames = whole_frames(answer)
        log += frames
        if frames:
            cursor = str(laws.parse(frames)[-1]["seq"])
    return log


CUTS = st.lists(st.integers(1, 4000), max_size=6)


@settings(max_examples=30, deadline=None, database=None)
@given(cuts=CUTS)
def test_a_live_run_read_in_pieces_is_the_log(port: int, cuts: list[int]) -> None:
    run_id = start(port)
    log = read_in_pieces(port, run_id, cuts)
    assert log == read_in_pieces(port, run_id, [])
    laws.check(laws.parse(log))


def test_a_finished_run_may_be_cut_anywhere(port: int) -> None:
    run_id = start(port)
    log = read_in_pieces(port, run_id, [])
    answer = request(port, f"GET /runs/{run_id}/events")
    for cut in range(1, len(answer), 37):
        assert read_in_pieces(port, run_id, [cut]) == log
