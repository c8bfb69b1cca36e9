from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Sequence
from urllib.parse import unquote

import httpx
import pytest

from app.api.problems import KINDS
from app.api.services import ApiLimits
from app.domain.errors import StoreUnavailable
from app.domain.run import Run
from app.ports import Filter
from app.runtime.runner import Capacity
from app.stores.memory import MemoryStore
from tests.api.serving import JSON, services_for, serving
from tests.runtime.playing import Cast, saying

pytestmark = pytest.mark.anyio

NO_RUN = "/runs/00000000-0000-4000-8000-000000000000"
GO = b'{"input": "Hello."}'
HTML = {"Accept": "text/html"}
EVIL = "http://evil.example"

REFUSALS: list[tuple[str, str, dict[str, str], bytes, int, str]] = [
    ("GET", "/nowhere", {}, b"", 404, "not_found"),
    ("GET", "/runs/", {}, b"", 404, "not_found"),
    ("GET", "/a%20b%3Fc%23/%7B%22%7D", {}, b"", 404, "not_found"),
    ("GET", "/a//b:c@%5B%C3%A9", {}, b"", 404, "not_found"),
    ("DELETE", "/runs", {}, b"", 422, "invalid_request"),
    ("PATCH", "/runs", {}, b"", 405, "method_not_allowed"),
    ("POST", NO_RUN, {}, b"", 405, "method_not_allowed"),
    ("OPTIONS", "/runs", {}, b"", 405, "method_not_allowed"),
    ("GET", NO_RUN, {}, b"", 404, "run_not_found"),
    ("GET", NO_RUN.upper().lower() + "0", {}, b"", 404, "run_not_found"),
    ("GET", "/runs/1", {}, b"", 404, "run_not_found"),
    ("GET", "/runs/%00%FF", {}, b"", 404, "run_not_found"),
    ("DELETE", NO_RUN, {}, b"", 404, "run_not_found"),
    ("DELETE", "/runs/1", {}, b"", 404, "run_not_found"),
    ("GET", f"{NO_RUN}/events", {}, b"", 404, "run_not_found"),
    ("GET", "/teams/nobodys", {}, b"", 404, "team_not_found"),
    ("POST", "/runs", JSON, b'{"input": "x", "team": "nobodys"}', 404, "team_not_found"),
    ("POST", "/runs", JSON, b"nonsense", 400, "bad_request"),
    ("POST", "/runs", JSON, b"", 400, "bad_request"),
    ("POST", "/runs", {}, GO, 415, "unsupported_media_type"),
    ("POST", "/runs", {"Content-Type": "text/plain"}, GO, 415, "unsupported_media_type"),
    ("POST", "/runs", JSON, b"{}", 422, "invalid_request"),
    ("POST", "/runs?wait=51", JSON, GO, 422, "invalid_request"),
    ("POST", "/runs", {**JSON, "Idempotency-Key": "a b"}, GO, 422, "invalid_request"),
    ("POST", "/runs", {**JSON, "Idempotency-Key": "k" * 256}, GO, 422, "invalid_request"),
    ("POST", "/runs", {**JSON, "Idempotency-Key": ""}, GO, 422, "invalid_request"),
    ("POST", "/runs", JSON, b'{"input":"x","on_disconnect":"cancel"}', 422, "invalid_request"),
    ("GET", f"{NO_RUN}?wait=-1", {}, b"", 422, "invalid_request"),
    ("GET", f"{NO_RUN}?wait=soon", {}, b"", 422, "invalid_request"),
    ("GET", f"{NO_RUN}?wait=nan", {}, b"", 422, "invalid_request"),
    ("DELETE", f"{NO_RUN}?wait=51", {}, b"", 422, "invalid_request"),
    ("DELETE", f"{NO_RUN}?reason={'r' * 201}", {}, b"", 422, "invalid_request"),
    ("GET", "/runs?limit=0", {}, b"", 422, "invalid_request"),
    ("GET", "/runs?limit=101", {}, b"", 422, "invalid_request"),
    ("GET", "/runs?limit=1.5", {}, b"", 422, "invalid_request"),
    ("GET", "/runs?limit=1.0", {}, b"", 422, "invalid_request"),
    ("GET", "/runs?limit=1_0", {}, b"", 422, "invalid_request"),
    ("GET", "/runs?limit=%2010", {}, b"", 422, "invalid_request"),
    ("GET", "/runs?status=done", {}, b"", 422, "invalid_request"),
    ("GET", "/runs?after=1", {}, b"", 400, "bad_cursor"),
    ("GET", f"/runs?after={NO_RUN[6:]}", {}, b"", 400, "bad_cursor"),
    ("GET", f"{NO_RUN}/events", HTML, b"", 406, "not_acceptable"),
    ("GET", f"{NO_RUN}/events", {"Last-Event-ID": "-1"}, b"", 400, "bad_cursor"),
    ("GET", "/teams", {"Host": "evil.example"}, b"", 403, "host_not_allowed"),
    ("POST", "/runs", {**JSON, "Origin": EVIL}, GO, 403, "origin_not_allowed"),
    ("DELETE", NO_RUN, {"Origin": EVIL}, b"", 403, "origin_not_allowed"),
]


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"] == f"urn:team-runs:{code}"
    assert re.fullmatch(r"(?:[\w/!$&'()*+,;=.~-]|%[0-9A-F]{2})+", problem["instance"], re.ASCII)
    assert unquote(problem["instance"]) == answer.request.url.path
    assert problem["title"]
    assert problem["detail"]
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    assert ("errors" in problem) == (code == "invalid_request")


async def test_every_refusal_is_a_problem() -> None:
    async with serving() as served:
        for method, path, headers, body, status, code in REFUSALS:
            answer = await served.client.request(method, path, headers=headers, content=body)
            try:
                assert_problem(answer, status, code)
            except AssertionError as error:
                raise AssertionError(f"{method} {path}: {answer.text}") from error


async def test_a_405_names_the_methods_of_all_routes_with_this_path() -> None:
    async with serving() as served:
        for path, allowed in (
            ("/runs", "DELETE, GET, HEAD, POST"),
            (NO_RUN, "DELETE, GET, HEAD"),
            (f"{NO_RUN}/events", "GET, HEAD"),
            ("/livez", "GET, HEAD"),
        ):
            answer = await served.client.put(path)
            assert_problem(answer, 405, "method_not_allowed")
            assert answer.headers["allow"] == allowed


async def test_head_answers_like_get_without_a_body() -> None:
    async with serving() as served:
        run = await served.finish()
        run_path = f"/runs/{run['run_id']}"
        paths = ("/runs", run_path, "/teams", "/teams/team", "/livez", "/readyz", NO_RUN, "/x")
        for path in paths:
            head, get = await served.client.head(path), await served.client.get(path)
            assert (head.status_code, head.content) == (get.status_code, b"")
            own = {"date": "", "x-request-id": ""}
            assert dict(head.headers) | own == dict(get.headers) | own


class BrokenStore(MemoryStore):
    """A store with a defect, whose words must not leave the process."""

    async def list(self, which: Filter) -> Sequence[Run]:
        """Break."""
        raise RuntimeError(f"secret of {which}")


class SilentStore(MemoryStore):
    """A store that does not answer."""

    async def load(self, run_id: str) -> Run | None:
        """Give up."""
        raise StoreUnavailable(f"no answer about {run_id}")

    async def ping(self) -> None:
        """Give up."""
        raise StoreUnavailable("no answer")


async def test_what_nobody_foresaw_is_told_in_the_log_and_not_to_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    services = services_for(Cast(saying("x")), store=BrokenStore())
    async with serving(services=services) as served:
        answer = await served.client.get("/runs")
        assert_problem(answer, 500, "internal_error")
        assert "secret" not in answer.text
    broken = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.name for record in broken] == ["app.api.problems"]


async def test_a_store_that_is_silent_is_told_with_a_time_to_come_back() -> None:
    services = services_for(Cast(saying("x")), store=SilentStore())
    async with serving(services=services) as served:
        assert_problem(await served.client.get(NO_RUN), 503, "store_unavailable")
        lines = {"Accept": "application/x-ndjson"}
        answer = await served.client.get(f"{NO_RUN}/events", headers=lines)
        assert_problem(answer, 503, "store_unavailable")


async def test_a_full_replica_refuses_new_runs() -> None:
    services = services_for(Cast(saying("x")), capacity=Capacity(running=1, pending=-1))
    async with serving(services=services) as served:
        answer = await served.client.post("/runs", json={"input": "x"})
        assert_problem(answer, 503, "overloaded")


async def test_a_draining_replica_refuses_new_runs_and_serves_the_rest() -> None:
    async with serving() as served:
        run = await served.finish()
        await served.services.runner.drain(0)
        answer = await served.client.post("/runs", json={"input": "x"})
        assert_problem(answer, 503, "draining")
        assert (await served.client.get(f"/runs/{run['run_id']}")).json() == run
        assert (await served.client.get(f"/runs/{run['run_id']}/events")).status_code == 200


async def test_a_body_may_be_as_long_as_the_limit_told_or_not() -> None:
    limits = ApiLimits(max_body_bytes=100)
    fits = GO + b" " * (100 - len(GO))
    async with serving(services=services_for(Cast(saying("x")), limits=limits)) as served:

        async def pieces(body: bytes) -> AsyncIterator[bytes]:
            for start in range(0, len(body), 30):
                yield body[start : start + 30]

        for body, status in ((fits, 202), (fits + b" ", 413)):
            told = await served.client.post("/runs", content=body, headers=JSON)
            untold = await served.client.post("/runs", content=pieces(body), headers=JSON)
            assert (told.status_code, untold.status_code) == (status, status)
            assert "transfer-encoding" in untold.request.headers
        assert_problem(told, 413, "body_too_large")
        assert_problem(untold, 413, "body_too_large")


async def test_a_body_that_does_not_arrive_is_not_waited_for() -> None:
    limits = ApiLimits(read_timeout_s=0.05)
    async with serving(services=services_for(Cast(saying("x")), limits=limits)) as served:
        headers = ("Content-Type: application/json", "Content-Length: 10")
        async with served.open("/runs", *headers, method="POST") as connection:
            answer = await connection.rest()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"request_timeout"' in answer


async def test_a_client_that_leaves_in_mid_request_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as served:
        headers = ("Content-Type: application/json", "Content-Length: 10")
        async with served.open("/runs", *headers, method="POST") as connection:
            connection.leave()
        assert (await served.client.get("/livez")).status_code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_every_code_says_with_its_status_when_to_come_back() -> None:
    for code, kind in KINDS.items():
        assert (kind.retry_after_s is not None) == (kind.status in (429, 503)), code
