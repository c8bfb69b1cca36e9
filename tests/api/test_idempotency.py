"""The same key and the same JSON give the same run, however often and however many at once."""

from __future__ import annotations

import anyio
import httpx
import pytest

from app.models.scripted import Say, Until
from app.runtime.runner import Capacity
from tests.api.serving import services_for, serving
from tests.runtime.playing import Cast, saying

pytestmark = pytest.mark.anyio

KEY = {"Idempotency-Key": "one"}


async def finished(client: httpx.AsyncClient, run_id: str) -> dict[str, object]:
    run = (await client.get(f"/runs/{run_id}", params={"wait": 10})).json()
    assert run["status"] == "completed"
    return dict(run)


async def test_a_repeated_request_is_answered_with_the_run_as_it_stands() -> None:
    release = anyio.Event()
    cast = Cast(lambda _: [Until(release), Say("x")])
    async with serving(cast) as served:
        first = await served.client.post("/runs", json={"input": "x"}, headers=KEY)
        again = await served.client.post("/runs", json={"input": "x"}, headers=KEY)
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["run_id"] == again.json()["run_id"]
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["location"] == first.headers["location"]
        release.set()
        await finished(served.client, first.json()["run_id"])
        late = await served.client.post("/runs", json={"input": "x"}, headers=KEY)
        assert (late.status_code, late.json()["content"]) == (200, "x")
        assert len(cast.models["leader"].requests) == 1


async def test_a_replayed_stream_begins_with_the_first_event() -> None:
    async with serving(Cast(saying("a", "b"))) as served:
        body = {"input": "x", "stream": True}
        first = await served.client.post("/runs", json=body, headers=KEY)
        again = await served.client.post("/runs", json=body, headers=KEY)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["x-run-id"] == first.headers["x-run-id"]
        assert again.content == first.content


async def test_fifty_at_once_start_one_run() -> None:
    cast = Cast(saying("x"))
    async with serving(cast) as served:
        answers: list[httpx.Response] = []

        async def post() -> None:
            answers.append(await served.client.post("/runs", json={"input": "x"}, headers=KEY))

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(post)
        assert {answer.status_code for answer in answers} <= {200, 202}
        assert len({answer.json()["run_id"] for answer in answers}) == 1
        replays = [answer for answer in answers if "idempotency-replayed" in answer.headers]
        assert len(replays) == 49
        await finished(served.client, answers[0].json()["run_id"])
        assert len(cast.models["leader"].requests) == 1


async def test_equal_json_is_the_same_request_and_other_json_is_refused() -> None:
    async with serving(Cast(saying("x"))) as served:
        start = served.client.post
        json = {**KEY, "Content-Type": "application/json"}
        first = await start("/runs", content=b'{"input":"x","team":"team"}', headers=json)
        same = await start(
            "/runs", content=b'{ "team": "team",\n "input": "\\u0078"}', headers=json
        )
        assert same.json()["run_id"] == first.json()["run_id"]
        other = await start("/runs", content=b'{"input":"y"}', headers=json)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_refused_request_leaves_its_key_free() -> None:
    services = services_for(Cast(saying("x")), capacity=Capacity(running=1, pending=0))
    async with serving(services=services) as served:
        refused = await served.client.post("/runs", json={"input": ""}, headers=KEY)
        unknown = await served.client.post("/runs", json={"input": "x", "team": "no"}, headers=KEY)
        assert (refused.status_code, unknown.status_code) == (422, 404)
        started = await served.client.post("/runs", json={"input": "x"}, headers=KEY)
        assert started.status_code == 202
        assert "idempotency-replayed" not in started.headers
