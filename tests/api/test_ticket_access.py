"""Tickets over HTTP: which answers carry them, and what they open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tests.api.keyed import KEY_OF
from tests.api.serving import serving
from tests.api.tenants import ROUTES, TENANTS, Scene, status_of, two_at_work

pytestmark = pytest.mark.anyio


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with two_at_work() as made:
        yield made


@pytest.mark.parametrize("tenant", KEY_OF)
async def test_every_answer_about_one_run_carries_a_ticket_that_opens_its_events(
    scene: Scene, tenant: str
) -> None:
    mine, run_id = scene.keyed.clients[tenant], scene.run_of[tenant]["run_id"]
    member_id = await scene.member_of(tenant)
    answers = [
        await mine.get(f"/runs/{run_id}"),
        await mine.get(f"/runs/{member_id}"),
        await mine.delete(f"/runs/{run_id}?purge=true"),
        await mine.delete(f"/runs/{run_id}"),
        await mine.delete(f"/runs/{run_id}?wait=10"),
        await mine.delete(f"/runs/{member_id}"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 409, 202, 200, 200]
    views = [scene.run_of[tenant], *(answer.json() for answer in answers)]
    for view in views:
        link = view.get("run", view)["links"]["events"]
        assert "?ticket=" in link
        assert await status_of(scene.anybody(), "GET", link) == 200
        assert await status_of(scene.anybody(), "HEAD", link) == 200


async def test_lists_and_streams_carry_no_ticket(scene: Scene) -> None:
    listed = await scene.keyed.clients["acme"].get("/runs")
    assert "ticket" not in listed.text
    async with scene.keyed.clients["acme"].stream(
        "POST", "/runs", json={"input": "x", "stream": True}
    ) as streamed:
        assert streamed.headers["content-location"].endswith("/events")


async def test_without_keys_there_are_no_tickets_and_none_is_looked_at() -> None:
    async with serving() as served:
        run = await served.finish()
        assert run["links"]["events"] == f"/runs/{run['run_id']}/events"
        answer = await served.client.get(f"/runs/{run['run_id']}/events?ticket=x")
        assert answer.status_code == 200


@pytest.mark.parametrize(("tenant", "other"), TENANTS)
async def test_a_ticket_opens_that_runs_events_and_nothing_else(
    scene: Scene, tenant: str, other: str
) -> None:
    ticket = scene.run_of[tenant]["links"]["events"].partition("?")[2]
    own, foreign = (scene.run_of[each]["run_id"] for each in (tenant, other))
    member = await scene.member_of(tenant)
    for method, path in ROUTES:
        for run_id in (own, member, foreign, str(uuid4())):
            url = f"{path.format(run_id=run_id, team_id='team')}?{ticket}"
            is_it = path.endswith("/events") and run_id == own
            assert await status_of(scene.anybody(), method, url) == (200 if is_it else 401), url


async def test_an_expired_a_forged_and_another_runs_ticket_are_the_same_401(scene: Scene) -> None:
    run = scene.run_of["acme"]
    good = run["links"]["events"].partition("ticket=")[2]
    another = (await scene.keyed.start("acme"))["links"]["events"].partition("ticket=")[2]
    rivals = await scene.keyed.tickets.issue("rival", await scene.keyed.served.run(run["run_id"]))
    path = f"/runs/{run['run_id']}/events"
    assert await status_of(scene.anybody(), "GET", f"{path}?ticket={good}") == 200
    answers = [
        await scene.anybody().get(f"{path}?ticket={shown}")
        for shown in (
            another,
            good[:-5] + "AAAAA",
            good + "x",
            "",
            "%00",
            "%ff",
            "🎫",
            "x" * 10_240,
        )
    ]
    scene.time.ahead_s = 3700
    answers.append(await scene.anybody().get(f"{path}?ticket={good}"))
    scene.time.ahead_s = 0
    assert {(answer.status_code, answer.content) for answer in answers} == {
        (401, answers[0].content)
    }
    # signed by us, for a run that is not that tenant's: as if there were none
    assert await status_of(scene.anybody(), "GET", f"{path}?ticket={rivals}") == 404


async def test_a_key_wins_over_a_ticket(scene: Scene) -> None:
    url = scene.run_of["acme"]["links"]["events"]
    shown = {"Authorization": "Bearer key-of-nobody"}
    assert (await scene.anybody().get(url, headers=shown)).status_code == 401
    assert await status_of(scene.keyed.clients["rival"], "GET", url) == 404
    path = url.partition("?")[0]
    assert await status_of(scene.keyed.clients["acme"], "GET", f"{path}?ticket=x") == 200
