"""Nobody reads, stops, starts or lists what is not theirs; whatever is shown for a key."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest

from app.models.scripted import Say, Until
from app.runtime.runner import Capacity
from tests.api.keyed import KEY_OF, Keyed, keyed
from tests.api.serving import serving
from tests.api.test_openapi import DOCUMENT
from tests.runtime.playing import Cast, delegating_to, saying

pytestmark = pytest.mark.anyio

TENANTS = [("acme", "rival"), ("rival", "acme")]
OPEN_PATHS = {"/livez", "/readyz", "/docs", "/openapi.json"}
ROUTES = [
    (method.upper(), path)
    for path, methods in DOCUMENT["paths"].items()
    for method in methods
    if path not in OPEN_PATHS
]
ROUTES += [("HEAD", path) for method, path in ROUTES if method == "GET"]
OF_A_RUN = [(method, path) for method, path in ROUTES if "{run_id}" in path]
QUERIES = {
    ("DELETE", "/runs"): ["?session_id=s", "?all=true"],
    ("DELETE", "/runs/{run_id}"): ["", "?reason=why", "?wait=0.01", "?purge=true"],
    ("GET", "/runs/{run_id}"): ["", "?wait=0.01"],
    ("GET", "/runs/{run_id}/events"): ["", "?last_event_id=1", "?last_event_id=999"],
}
Fields = Sequence[tuple[bytes, bytes]]
WRONG: Mapping[str, Fields] = {
    "no key": [],
    "a wrong key": [(b"Authorization", b"Bearer key-of-nobody")],
    "an empty key": [(b"Authorization", b"Bearer")],
    "no scheme": [(b"Authorization", KEY_OF["acme"].encode())],
    "another scheme": [(b"Authorization", b"Basic " + KEY_OF["acme"].encode())],
    "a long key": [(b"Authorization", b"Bearer " + b"k" * 10_240)],
    "a key that is not ASCII": [(b"Authorization", "Bearer schlüssel-🔑".encode())],
    "a key in latin-1": [(b"Authorization", b"Bearer \xff\xfe")],
    "two keys": [(b"Authorization", f"Bearer {key}".encode()) for key in KEY_OF.values()],
}


def stuck() -> Cast:
    """A team of which nobody ever ends."""
    return Cast(delegating_to("writer"), {"writer": lambda _: [Say("Once "), Until(anyio.Event())]})


@dataclass
class Time:
    """The real time, or a later one."""

    ahead_s: float = 0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@dataclass
class Scene:
    """Two tenants, each with a run at work."""

    keyed: Keyed
    time: Time
    run_of: dict[str, dict[str, Any]]

    def anybody(self) -> httpx.AsyncClient:
        return self.keyed.served.client

    async def member_of(self, tenant: str) -> str:
        """Wait for the run's member to begin; return its run id."""
        run = await self.keyed.served.run(self.run_of[tenant]["run_id"])
        with (
            anyio.fail_after(10),
            self.keyed.served.services.store.watch(run.run_id) as hint,
        ):
            while not run.members:
                await hint.wait()
        return next(iter(run.members))


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    now = Time()
    async with keyed(stuck(), now=now) as made:
        runs = {tenant: await made.start(tenant, session_id="s") for tenant in KEY_OF}
        yield Scene(made, now, runs)


def sent(client: httpx.AsyncClient, method: str, url: str, headers: Fields = ()) -> httpx.Request:
    body = {"input": "x"} if method == "POST" else None
    return client.build_request(method, url, json=body, headers=headers)


async def status_of(client: httpx.AsyncClient, method: str, url: str) -> int:
    """Return an answer's status, without waiting for the end of a stream."""
    answer = await client.send(sent(client, method, url), stream=True)
    await answer.aclose()
    return answer.status_code


def without(run_id: str, answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """Return everything about an answer but its time, and the id that was asked for."""
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, answer.content.replace(run_id.encode(), b"ID"), headers


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


# --- tickets --------------------------------------------------------------------------------------


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
