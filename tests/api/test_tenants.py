"""Nobody reads, stops, starts or lists what is not theirs; whatever is shown for a key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from app.runtime.runner import Capacity
from tests.api.keyed import KEY_OF, keyed
from tests.api.tenants import (
    OF_A_RUN,
    OPEN_PATHS,
    QUERIES,
    ROUTES,
    TENANTS,
    WRONG,
    Fields,
    Scene,
    sent,
    status_of,
    stuck,
    two_at_work,
    without,
)
from tests.runtime.playing import Cast, saying

pytestmark = pytest.mark.anyio


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with two_at_work() as made:
        yield made


# --- keys -----------------------------------------------------------------------------------------


async def test_whatever_is_wrong_with_a_key_every_route_gives_the_same_answer(
    scene: Scene,
) -> None:
    run_id = scene.run_of["acme"]["run_id"]
    for method, path in ROUTES:
        url = path.format(run_id=run_id, team_id="team")
        for query in QUERIES.get((method, path), [""]):
            answers = set()
            for shown in WRONG.values():
                request = sent(scene.anybody(), method, url + query, headers=shown)
                answer = await scene.anybody().send(request)
                answers.add((answer.status_code, answer.content))
                assert answer.headers["www-authenticate"] == "Bearer"
            assert len(answers) == 1, (method, path)
            status, content = answers.pop()
            assert status == 401
            assert method == "HEAD" or b'"code":"unauthenticated"' in content


async def test_a_refused_request_changed_nothing(scene: Scene) -> None:
    for method, path in ROUTES:
        url = path.format(run_id=scene.run_of["acme"]["run_id"], team_id="team")
        await scene.anybody().send(sent(scene.anybody(), method, url))
    for tenant, run in scene.run_of.items():
        listed = (await scene.keyed.clients[tenant].get("/runs")).json()["runs"]
        assert [each["run_id"] for each in listed] == [run["run_id"]]
        assert listed[0]["cancel"] is None


@pytest.mark.parametrize("shown", WRONG.values(), ids=WRONG)
async def test_what_is_for_everybody_needs_no_key(scene: Scene, shown: Fields) -> None:
    for path in (*OPEN_PATHS, "/"):
        answer = await scene.anybody().get(path, headers=shown)
        assert answer.status_code == 200, path
        head = await scene.anybody().head(path, headers=shown)
        assert (head.status_code, head.content) == (200, b"")


async def test_an_unknown_path_is_404_with_a_key_or_without(scene: Scene) -> None:
    for client in (scene.anybody(), scene.keyed.clients["acme"]):
        for path in ("/x", "/runs/", "/runs/a/b", "/teams/", "/metrics/x", "/assets/nothing.js"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path


async def test_a_scheme_may_be_written_in_any_case(scene: Scene) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        shown = {"Authorization": f"{scheme} {KEY_OF['acme']}"}
        assert (await scene.anybody().get("/runs", headers=shown)).status_code == 200


# --- runs of others -------------------------------------------------------------------------------


@pytest.mark.parametrize(("tenant", "other"), TENANTS)
async def test_own_runs_are_served_and_those_of_others_answer_like_unknown_ones(
    scene: Scene, tenant: str, other: str
) -> None:
    mine = scene.keyed.clients[tenant]
    foreign = [scene.run_of[other]["run_id"], await scene.member_of(other)]
    own = [scene.run_of[tenant]["run_id"], await scene.member_of(tenant)]
    for method, path in OF_A_RUN:
        for query in QUERIES.get((method, path), [""]):
            unknown = str(uuid4())
            expected = without(
                unknown, await mine.request(method, path.format(run_id=unknown) + query)
            )
            assert expected[0] == 404
            for run_id in foreign:
                answer = await mine.request(method, path.format(run_id=run_id) + query)
                assert without(run_id, answer) == expected, (method, path, query)
    for method, path in OF_A_RUN:
        for run_id in own:
            assert await status_of(mine, method, path.format(run_id=run_id)) in (200, 202)
    untouched = await scene.keyed.served.run(foreign[0])
    assert (untouched.cancel, untouched.members[foreign[1]].cancel) == (None, None)


@pytest.mark.parametrize(("tenant", "other"), TENANTS)
async def test_a_list_shows_and_goes_on_behind_own_runs_only(
    scene: Scene, tenant: str, other: str
) -> None:
    mine, foreign = scene.keyed.clients[tenant], scene.run_of[other]["run_id"]
    for query in ("", "?session_id=s", "?team=team", "?status=running&status=pending"):
        listed = (await mine.get(f"/runs{query}")).json()["runs"]
        assert [run["run_id"] for run in listed] == [scene.run_of[tenant]["run_id"]]
    unknown = str(uuid4())
    answers = [await mine.get(f"/runs?after={run_id}") for run_id in (foreign, unknown)]
    assert without(foreign, answers[0]) == without(unknown, answers[1])
    assert answers[0].json()["code"] == "bad_cursor"


@pytest.mark.parametrize("query", ["?all=true", "?session_id=s"])
async def test_stopping_all_stops_own_runs_only(scene: Scene, query: str) -> None:
    answer = await scene.keyed.clients["acme"].delete(f"/runs{query}")
    assert (answer.status_code, answer.json()) == (
        202,
        {"runs": [scene.run_of["acme"]["run_id"]]},
    )
    assert (await scene.keyed.served.run(scene.run_of["rival"]["run_id"])).cancel is None


async def test_an_idempotency_key_is_its_tenants_own() -> None:
    async with keyed() as made:
        headers, started = {"Idempotency-Key": "k"}, dict[str, str]()
        for tenant, client in made.clients.items():
            for text in ("one", "one", "two"):
                answer = await client.post(
                    "/runs", json={"input": f"{tenant} {text}"}, headers=headers
                )
                expected = 422 if text == "two" else 202
                assert answer.status_code in (expected, 200 if expected == 202 else 422)
                if text == "one":
                    started.setdefault(tenant, answer.json()["run_id"])
                    assert answer.json()["run_id"] == started[tenant]
        assert started["acme"] != started["rival"]


async def test_a_session_is_its_tenants_own() -> None:
    cast = Cast(saying("Hi."))
    async with keyed(cast) as made:
        for tenant in ("acme", "rival", "acme"):
            body = {"input": f"{tenant} asks", "session_id": "s"}
            await made.clients[tenant].post("/runs?wait=10", json=body)
        first, foreign, second = (str(call.conversation) for call in cast.models["leader"].requests)
    assert "acme" not in foreign
    assert second.count("acme asks") == 2
    assert first.count("asks") == foreign.count("asks") == 1


async def test_teams_are_everybodys(scene: Scene) -> None:
    for client in scene.keyed.clients.values():
        assert (await client.get("/teams")).json()["teams"][0]["id"] == "team"
        assert (await client.get("/teams/team")).status_code == 200


@pytest.mark.parametrize("tries", [2, 3, 200])
async def test_a_tenant_over_its_limit_is_told_so_and_the_other_is_served(tries: int) -> None:
    async with keyed(stuck(), capacity=Capacity(per_tenant=2)) as made:
        for number in range(tries):
            answer = await made.clients["acme"].post("/runs", json={"input": "x"})
            assert answer.status_code == (202 if number < 2 else 429)
            if number >= 2:
                assert answer.json()["code"] == "too_many_runs"
                assert int(answer.headers["retry-after"]) > 0
        await made.start("rival")
        stopped = (await made.clients["acme"].delete("/runs?all=true")).json()["runs"]
        for run_id in stopped:
            await made.clients["acme"].get(f"/runs/{run_id}?wait=10")
        await made.start("acme")
