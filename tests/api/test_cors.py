"""Pages of other origins: which may use the service, and what they may read."""

from __future__ import annotations

import httpx
import pytest

from app.api.services import ApiLimits
from tests.api.keyed import KEY_OF, Keyed, keyed
from tests.api.serving import services_for, serving
from tests.runtime.playing import Cast, saying

pytestmark = pytest.mark.anyio

OURS, FOREIGN = "https://pages.example", "https://evil.example"
LIMITS = ApiLimits(allowed_origins=frozenset({OURS, "http://localhost:3000"}))
ALLOWED = {"authorization", "content-type", "accept", "idempotency-key", "last-event-id"}
EXPOSED = {"x-run-id", "location", "content-location", "retry-after", "idempotency-replayed"}
OPEN = ApiLimits(allowed_hosts=None, allowed_origins=LIMITS.allowed_origins)


def names(answer: httpx.Response, header: str) -> set[str]:
    return {name.strip().lower() for name in answer.headers[header].split(",")}


def cors_of(answer: httpx.Response) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


async def preflight(made: Keyed, origin: str, path: str = "/runs") -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "authorization",
    }
    return await made.served.client.options(path, headers=headers)


async def test_a_preflight_of_an_allowed_page_is_told_what_it_may_send_without_a_key() -> None:
    async with keyed(limits=OPEN) as made:
        for path in ("/runs", "/runs/x", "/runs/x/events", "/teams"):
            answer = await preflight(made, OURS, path)
            assert (answer.status_code, answer.content) == (204, b"")
            assert answer.headers["access-control-allow-origin"] == OURS
            assert names(answer, "access-control-allow-methods") == {"get", "post", "delete"}
            assert names(answer, "access-control-allow-headers") == ALLOWED | {"traceparent"}
            assert answer.headers["vary"] == "Origin"
            assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", [FOREIGN, "null", "http://pages.example", OURS + ":444", OURS + ".evil.example"]
)
async def test_a_preflight_of_another_page_is_refused(origin: str) -> None:
    async with keyed(limits=OPEN) as made:
        answer = await preflight(made, origin)
        assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed")
        assert cors_of(answer) == set()


async def test_options_that_are_no_preflight_are_another_method() -> None:
    async with keyed(limits=OPEN) as made:
        answer = await made.served.client.options("/runs", headers={"Origin": OURS})
        assert answer.status_code == 405


async def test_an_allowed_page_may_read_every_answer_errors_and_streams_too() -> None:
    services = services_for(Cast(saying("Hi.")), limits=LIMITS)
    async with serving(services=services) as served:
        page = served.client_with(Origin=OURS)
        started = await page.post("/runs?wait=10", json={"input": "x"})
        path = started.json()["links"]["self"]
        answers = [
            started,
            await page.get(path),
            await page.get(f"{path}/events"),
            await page.get("/runs/x"),
            await page.post("/runs", json={}),
            await page.delete(path),
            await page.put("/runs"),
            await page.get("/livez"),
            await page.get("/nothing"),
            await page.get("/runs", headers={"X": "x" * 70_000}),
        ]
        codes = [200, 200, 200, 404, 422, 409, 405, 200, 404, 431]
        assert [answer.status_code for answer in answers] == codes
        for answer in answers:
            assert answer.headers["access-control-allow-origin"] == OURS
            assert names(answer, "access-control-expose-headers") == EXPOSED
            assert answer.headers["vary"] == "Origin"
            assert "access-control-allow-credentials" not in answer.headers
        await page.aclose()


async def test_a_refusal_for_want_of_a_key_can_be_read_by_an_allowed_page() -> None:
    async with keyed(limits=OPEN) as made:
        answer = await made.served.client.get("/runs", headers={"Origin": OURS})
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == OURS


async def test_another_page_may_read_nothing_and_change_nothing() -> None:
    async with keyed(limits=OPEN) as made:
        shown = {"Origin": FOREIGN, "Authorization": f"Bearer {KEY_OF['acme']}"}
        run = await made.start("acme")
        path = f"/runs/{run['run_id']}"
        for answer in (
            await made.served.client.post("/runs", json={"input": "x"}, headers=shown),
            await made.served.client.delete(path, headers=shown),
            await made.served.client.delete("/runs?all=true", headers=shown),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed")
            assert cors_of(answer) == set()
        read = await made.served.client.get(path, headers=shown)
        assert (read.status_code, cors_of(read)) == (200, set())
        assert read.headers["vary"] == "Origin"
        assert len((await made.clients["acme"].get("/runs")).json()["runs"]) == 1


async def test_the_services_own_page_needs_no_leave() -> None:
    async with keyed(limits=OPEN) as made:
        origin = f"http://localhost:{made.served.port}"
        answer = await made.clients["acme"].post(
            "/runs", json={"input": "x"}, headers={"Origin": origin}
        )
        assert answer.status_code == 202


async def test_every_answer_says_that_it_depends_on_the_origin() -> None:
    async with keyed(limits=OPEN) as made:
        for path in ("/", "/docs", "/livez", "/runs", "/nothing"):
            assert "origin" in names(await made.served.client.get(path), "vary")
