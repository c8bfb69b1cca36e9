from __future__ import annotations

import json
import re
from typing import Any

import anyio
import pytest
from httpx_sse import aconnect_sse

from app.api.readers import Readers
from app.domain.errors import StoreUnavailable
from app.models.scripted import Say, Until
from app.ports import Page
from app.stores.memory import MemoryStore
from tests import laws
from tests.api.serving import Served, dechunked, services_for, serving
from tests.api.test_problems import SilentStore, assert_problem
from tests.api.test_runs import has_spoken, stuck
from tests.runtime.playing import Cast, delegating_to, names, saying

pytestmark = pytest.mark.anyio

OPENING = b"retry: 2000\n: ok\n"
BUSY = b"retry: 5000\n: busy\n"
LINES = {"Accept": "application/x-ndjson"}
EVENTS = {"Accept": "text/event-stream"}
NO_RUN = "/runs/00000000-0000-4000-8000-000000000000"


def frames_of(stream: bytes) -> list[bytes]:
    assert stream.startswith(OPENING)
    return [frame + b"\n\n" for frame in stream[len(OPENING) :].split(b"\n\n")[:-1]]


async def events_path(served: Served) -> str:
    return str((await served.finish())["links"]["events"])


# --- the shape of a stream ------------------------------------------------------------------------


async def test_a_stream_opens_with_two_lines_and_obeys_the_laws() -> None:
    cast = Cast(delegating_to("writer"), {"writer": saying("A ", "tale.\n\nid: 7\r\n\u2028")})
    async with serving(cast) as served:
        answer = await served.client.get(await events_path(served))
        assert answer.content.startswith(OPENING + b"id: 1\nevent: TeamRunStarted\ndata: {")
        assert answer.content.endswith(b"}\n\n")
        laws.check(laws.parse(answer.content))
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(("asked", "told"), [((), []), (("Connection: close",), [b"close"])])
async def test_a_stream_leaves_the_connection_header_to_the_server(
    asked: tuple[str, ...], told: list[bytes]
) -> None:
    async with serving() as served, served.open(await events_path(served), *asked) as connection:
        head = await connection.until(b"\r\n\r\n")
        assert re.findall(rb"^connection: (\S+)", head, re.MULTILINE) == told


async def test_media_types_may_stand_in_several_accept_headers() -> None:
    html, lines = ("Accept: text/html", "Accept: application/x-ndjson")
    async with (
        serving() as served,
        served.open(await events_path(served), html, lines) as connection,
    ):
        assert b"content-type: application/x-ndjson\r\n" in await connection.until(b"\r\n\r\n")


async def test_ndjson_is_the_same_log_without_an_opening() -> None:
    async with serving() as served:
        path = await events_path(served)
        lines = await served.client.get(path, headers=LINES)
        frames = await served.client.get(path)
        assert lines.headers["content-type"] == "application/x-ndjson"
        told = [json.loads(line) for line in lines.content.split(b"\n")[:-1]]
        assert told == laws.parse(frames.content)


async def test_a_posted_stream_tells_its_run_before_the_first_byte() -> None:
    async with serving() as served:
        asked: list[tuple[dict[str, Any], dict[str, str], str]] = [
            ({"stream": True}, {}, "text/event-stream"),
            ({"stream": True}, {"Accept": "application/json"}, "text/event-stream"),
            ({}, EVENTS, "text/event-stream"),
            ({"stream": True}, LINES, "application/x-ndjson"),
        ]
        for keys, headers, media_type in asked:
            body = {"input": "Hello.", **keys}
            answer = await served.client.post("/runs", json=body, headers=headers)
            run_id = answer.headers["x-run-id"]
            assert answer.status_code == 200
            assert answer.headers["content-location"] == f"/runs/{run_id}/events"
            assert answer.headers["content-type"].startswith(media_type)
            read = await served.client.get(f"/runs/{run_id}/events", headers={"Accept": media_type})
            assert read.content == answer.content


async def test_the_body_wins_over_accept() -> None:
    async with serving() as served:
        body = {"input": "Hello.", "stream": False}
        answer = await served.client.post("/runs", json=body, headers=EVENTS)
        assert (answer.status_code, answer.json()["team_id"]) == (202, "team")


async def test_a_member_id_opens_its_team_runs_stream() -> None:
    cast = Cast(delegating_to("writer"), {"writer": saying("A tale.")})
    async with serving(cast) as served:
        run = await served.finish()
        member = await served.client.get(f"/runs/{run['members'][0]['run_id']}/events")
        assert member.content == (await served.client.get(run["links"]["events"])).content


async def test_head_never_opens_a_stream() -> None:
    async with serving(stuck()) as served:
        path = f"/runs/{await served.start()}/events"
        answer = await served.client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert served.services.readers.count == 0


# --- heartbeats -----------------------------------------------------------------------------------


async def test_a_silent_stream_pings_and_every_parser_reads_on() -> None:
    held = anyio.Event()
    services = services_for(stuck(held), readers=Readers(heartbeat_s=0.02))
    async with serving(services=services) as served:
        path = f"/runs/{await served.start()}/events"
        async with served.open(path) as connection:
            await connection.until(b": ping\n\r\n")
            await connection.until(b": ping\n\r\n")
            held.set()
            assert b": ping" not in (await connection.until(b"TeamRunContent")).splitlines()[-1]
        async with aconnect_sse(served.client, "GET", path) as source:
            events = [event async for event in source.aiter_sse()]
        assert [event.event for event in events][-1] == "TeamRunCompleted"
        assert all(json.loads(event.data) for event in events)


async def test_pings_before_an_event_leave_it_whole() -> None:
    held = anyio.Event()
    services = services_for(stuck(held), readers=Readers(heartbeat_s=0.02))
    async with serving(services=services) as served:
        body = {"input": "Hello.", "stream": True}
        async with aconnect_sse(served.client, "POST", "/runs", json=body) as source:
            seen: list[str] = []
            async for event in source.aiter_sse():
                seen.append(event.event)
                if event.event == "TeamRunContent" and not held.is_set():
                    async with served.open(f"/runs/{event.json()['run_id']}/events") as other:
                        await other.until(b": ping\n\r\n")
                    held.set()
        assert seen == ["TeamRunStarted", "TeamRunContent", "TeamRunContent", "TeamRunCompleted"]


async def test_ndjson_pings_with_an_empty_line() -> None:
    services = services_for(stuck(), readers=Readers(heartbeat_s=0.02))
    async with serving(services=services) as served:
        path = f"/runs/{await served.start()}/events"
        async with served.open(path, "Accept: application/x-ndjson") as connection:
            await connection.until(b"\r\n1\r\n\n\r\n")


# --- cursors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "query", "answers"),
    [
        (None, None, 1),
        ("", None, 1),
        ("", "", 1),
        ("0", None, 1),
        ("2", None, 3),
        ("2", "3", 3),
        ("", "3", 4),
        (None, "2", 3),
        ("002", None, 3),
        ("5", None, 204),
        ("6", None, 204),
        ("9" * 18, None, 204),
        ("9" * 19, None, 400),
        ("-1", None, 400),
        ("1.0", None, 400),
        ("x", "1", 400),
        ("\u0662", None, 400),
        (None, "%D9%A2", 400),
        (None, "1_0", 400),
        (None, "+1", 400),
    ],
)
async def test_a_cursor_tells_where_to_read_on(
    header: str | None, query: str | None, answers: int
) -> None:
    async with serving() as served:
        path = await events_path(served)
        headers = {} if header is None else {b"Last-Event-ID": header.encode()}
        target = path if query is None else f"{path}?last_event_id={query}"
        answer = await served.client.get(target, headers=headers)
        if answers == 400:
            assert_problem(answer, 400, "bad_cursor")
        elif answers == 204:
            assert (answer.status_code, answer.content) == (204, b"")
        else:
            assert laws.parse(answer.content)[0]["seq"] == answers


@pytest.mark.parametrize(("header", "first"), [(" 2 ", 3), ("2\t", 3), ("  ", 4)])
async def test_white_space_around_a_cursor_is_no_part_of_it(header: str, first: int) -> None:
    async with serving() as served:
        path = await events_path(served)
        given = f"Last-Event-ID:{header}"
        async with served.open(f"{path}?last_event_id=3", given) as connection:
            answer = await connection.until(b"\nevent: ")
        assert re.findall(rb"^id: (\d+)", answer, re.MULTILINE) == [b"%d" % first]


async def test_a_cursor_beyond_an_unfinished_log_is_none() -> None:
    async with serving(stuck()) as served:
        run_id = await served.start()
        await has_spoken(served, run_id)
        answer = await served.client.get(f"/runs/{run_id}/events?last_event_id=3")
        assert_problem(answer, 400, "bad_cursor")


async def test_reading_on_at_any_event_gives_the_same_bytes() -> None:
    cast = Cast(delegating_to("writer"), {"writer": saying(*"A tale of many words.")})
    async with serving(cast) as served:
        path = await events_path(served)
        frames = frames_of((await served.client.get(path)).content)
        for seq in range(1, len(frames)):
            answer = await served.client.get(path, headers={"Last-Event-ID": str(seq)})
            assert frames_of(answer.content) == frames[seq:]


async def test_many_readers_of_a_live_run_see_the_same_bytes() -> None:
    held = anyio.Event()
    async with serving(stuck(held)) as served:
        path = f"/runs/{await served.start()}/events"
        streams: list[bytes] = []

        async def read() -> None:
            async with served.open(path, "Connection: close") as connection:
                head = await connection.until(b"\r\n\r\n" + b"11\r\n" + OPENING)
                assert head.startswith(b"HTTP/1.1 200 ")
                held.set()
                streams.append(dechunked((await connection.rest()).removeprefix(b"\r\n")))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(read)
        assert len(streams) == 20
        assert len(set(streams)) == 1


# --- limits and outages ---------------------------------------------------------------------------


async def test_a_run_has_only_so_many_readers() -> None:
    services = services_for(stuck(), readers=Readers(max_per_run=1))
    async with serving(services=services) as served:
        path = f"/runs/{await served.start()}/events"
        async with served.open(path) as connection:
            await connection.until(OPENING)
            for headers in (EVENTS, {"Accept": "*/*"}):
                busy = await served.client.get(path, headers=headers)
                assert (busy.status_code, busy.content) == (200, BUSY)
            lines = await served.client.get(path, headers=LINES)
            assert_problem(lines, 429, "too_many_readers")
            assert (await served.client.head(path)).status_code == 200
            other = f"/runs/{await served.start()}/events"
            async with served.open(other) as another:
                await another.until(OPENING)


async def test_a_repeated_post_finds_its_run_with_as_many_readers_as_it_may_have() -> None:
    services = services_for(stuck(), readers=Readers(max_per_run=1))
    async with serving(services=services) as served:
        body = {"input": "Hello.", "stream": True}
        headers = {"Idempotency-Key": "one"}
        async with served.client.stream("POST", "/runs", json=body, headers=headers) as first:
            again = await served.client.post("/runs", json=body, headers=headers)
            assert_problem(again, 429, "too_many_readers")
            run = (await served.client.get(f"/runs/{first.headers['x-run-id']}")).json()
            assert (run["status"], run["cancel"]) == ("running", None)


async def test_waits_take_no_streams_place_and_a_wait_without_room_is_answered_at_once() -> None:
    held = anyio.Event()
    services = services_for(stuck(held), readers=Readers(max_readers=1, max_per_run=1))
    async with serving(services=services) as served:
        path = f"/runs/{await served.start()}"
        async with (
            served.open(f"{path}?wait=50", "Connection: close") as waiting,
            served.open(f"{path}/events") as stream,
        ):
            await stream.until(OPENING)
            with anyio.fail_after(5):
                while services.readers.has_room_to_wait:
                    await served.client.get("/livez")
            with anyio.fail_after(5):
                answer = await served.client.get(f"{path}?wait=50")
            assert (answer.status_code, answer.json()["status"]) == (200, "running")
            held.set()
            assert b'"status":"completed"' in await waiting.rest()
        assert services.readers.has_room_to_wait


async def test_a_replica_has_only_so_many_readers_and_tells_browsers_when_to_come_back() -> None:
    services = services_for(stuck(), readers=Readers(max_readers=1))
    async with serving(services=services) as served:
        path = f"/runs/{await served.start()}/events"
        async with served.open(path) as connection:
            await connection.until(OPENING)
            assert_problem(await served.client.get(path, headers=LINES), 503, "overloaded")
            busy = await served.client.get(path, headers=EVENTS)
            assert (busy.status_code, busy.content) == (200, BUSY)
            assert busy.headers["content-type"].startswith("text/event-stream")
            streamed = await served.client.post("/runs", json={"input": "x", "stream": True})
            assert_problem(streamed, 503, "overloaded")
            assert len((await served.client.get("/runs")).json()["runs"]) == 1


async def test_a_store_outage_does_not_close_a_browsers_stream_for_ever() -> None:
    async with serving(services=services_for(Cast(saying("x")), store=SilentStore())) as served:
        answer = await served.client.get(f"{NO_RUN}/events")
        assert (answer.status_code, answer.content) == (200, BUSY)


class FragileStore(MemoryStore):
    """Answers until it breaks."""

    broken = False

    async def read(self, run_id: str, after: int, limit_bytes: int) -> Page:
        """Read, or give up."""
        if self.broken:
            raise StoreUnavailable("no answer")
        return await super().read(run_id, after, limit_bytes)


async def test_an_outage_in_mid_stream_ends_the_stream_and_not_the_run() -> None:
    store, more, end = FragileStore(), anyio.Event(), anyio.Event()
    cast = Cast(lambda _: [Say("Once "), Until(more), Say("upon "), Until(end), Say("a time.")])
    async with serving(services=services_for(cast, store=store)) as served:
        body = b'{"input": "x", "stream": true, "on_disconnect": "cancel"}'
        headers = ("Content-Type: application/json", "Connection: close")
        async with served.open("/runs", *headers, method="POST", body=body) as connection:
            await connection.until(b"TeamRunContent")
            store.broken = True
            more.set()
            assert (await connection.rest()).endswith(b"\r\n0\r\n\r\n")
        (run,) = (await served.client.get("/runs")).json()["runs"]
        assert (run["status"], run["cancel"]) == ("running", None)
        end.set()
        assert (await served.ended(run["run_id"])).status == "completed"


async def test_names_of_a_stream_are_in_the_order_of_the_log() -> None:
    async with serving() as served:
        stream = (await served.client.get(await events_path(served))).content
        said = ["TeamRunContent"] * 3
        assert names(laws.parse(stream)) == ["TeamRunStarted", *said, "TeamRunCompleted"]
