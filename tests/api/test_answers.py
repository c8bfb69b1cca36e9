"""Real answers over HTTP, held to the OpenAPI document: every route, status, header and event."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from app.api.readers import Readers
from app.api.services import ApiLimits
from app.domain.errors import ModelFailed, StoreUnavailable
from app.domain.events import EVENT_NAMES
from app.domain.run import Cancel, MemberRun, Run, RunRequest
from app.models.scripted import Call, Fail, RetrySoon, Say, Script, Step, Think, Until
from app.ports import Filter, ModelRequest, Retry, ToolCall, ToolResult, ToolSpec
from app.runtime.runner import Capacity
from app.stores.memory import MemoryStore
from tests.api.described import Judge
from tests.api.keyed import KEY_OF, keyed
from tests.api.serving import Served, services_for, serving
from tests.api.test_openapi import DOCUMENT
from tests.api.test_problems import REFUSALS
from tests.api.test_runs import has_spoken, stuck
from tests.runtime.playing import Cast, delegating_to, has_result, saying

pytestmark = pytest.mark.anyio

EVENTS = {"Accept": "text/event-stream"}
LINES = {"Accept": "application/x-ndjson"}
NO_RUN = "/runs/00000000-0000-4000-8000-000000000000"
OF_NO_OPERATION = {"not_found", "method_not_allowed"}
NEEDS_NO_STORE = {"readMetrics", "listTeams", "getTeam", "readDocs", "readOpenApi"}

# --- runs in which everything happens -------------------------------------------------------------


class Counting:
    """A tool that answers."""

    spec = ToolSpec("count", "Counts.", {"type": "object"})

    async def __call__(self, call: ToolCall) -> ToolResult:
        """Answer."""
        return ToolResult(call.call_id, "4")


RETRY = RetrySoon(Retry(1, 0.0, "rate_limited", 429, "slow_down"))


def leads(request: ModelRequest) -> list[Step]:
    if "fail" in str(request.conversation):
        return [Say("x"), Fail(ModelFailed("model_error", "It failed.", upstream_status=500))]
    if has_result(request):
        return [Say("The end.")]
    delegations = delegating_to("writer", "broken", "held")(request)
    return [Think("hm"), RETRY, Say("Let me see."), *delegations]


def writes(request: ModelRequest) -> list[Step]:
    if has_result(request):
        return [Say("A tale.")]
    return [Think("hm"), RETRY, Call("count", {})]


def everything_happens() -> Cast:
    members: dict[str, Script] = {
        "writer": writes,
        "broken": lambda _: [Fail(ModelFailed("model_timeout", "It fell silent."))],
        "held": lambda _: [Say("A "), Until(anyio.Event())],
    }
    return Cast(leads, members, tools={"count": Counting()})


async def held_member(served: Served, run_id: str) -> str:
    """Wait until the member that never ends has spoken, and the others are done."""
    run = await served.run(run_id)
    with anyio.fail_after(10), served.services.store.watch(run_id) as hint:
        while True:
            members = {member.origin.id: member for member in run.members.values()}
            others = [one for id_, one in members.items() if id_ != "held"]
            others_ended = len(others) == 2 and all(one.status.is_final for one in others)
            if others_ended and members["held"].content:
                return members["held"].run_id
            await hint.wait()


async def test_every_event_of_real_streams_has_its_schema() -> None:
    judge = Judge(DOCUMENT)
    async with serving(everything_happens()) as served:
        first, second = await served.start(), await served.start(session_id="s")
        member = await held_member(served, first)
        judge.check(await served.client.delete(f"/runs/{member}?reason=enough&wait=10"))
        await held_member(served, second)
        judge.check(await served.client.delete(f"/runs/{second}?wait=10"))
        failed = (await served.finish(input="fail"))["run_id"]
        for run_id in (first, second, failed):
            judge.check(await served.client.get(f"/runs/{run_id}?wait=10"))
            for accepted in (EVENTS, LINES):
                judge.check(await served.client.get(f"/runs/{run_id}/events", headers=accepted))
    for media_type in ("text/event-stream", "application/x-ndjson"):
        assert {name for kind, name in judge.events_seen if kind == media_type} == {*EVENT_NAMES}


# --- every answer ---------------------------------------------------------------------------------


class Failing(MemoryStore):
    """A store that raises one error, whatever it is asked."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def create(self, request: RunRequest) -> Run:
        """Raise it."""
        raise self._error

    async def load(self, run_id: str) -> Run | None:
        """Raise it."""
        raise self._error

    async def list(self, which: Filter) -> Sequence[Run]:
        """Raise it."""
        raise self._error

    async def request_cancel(self, run_id: str, cancel: Cancel) -> Run | MemberRun | None:
        """Raise it."""
        raise self._error

    async def ping(self) -> None:
        """Raise it."""
        raise self._error


def on_every_route(**headers: str) -> list[dict[str, Any]]:
    """Return a good request for every operation, as keywords for a client."""
    return [
        {
            "method": method.upper(),
            "url": path.format(run_id=NO_RUN.removeprefix("/runs/"), team_id="team")
            + ("?all=true" if (method, path) == ("delete", "/runs") else ""),
            "headers": LINES | headers,
            **({"json": {"input": "x"}} if method == "post" else {}),
        }
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
    ]


@asynccontextmanager
async def judging(judge: Judge, served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a served API whose every answer is checked."""

    async def check(answer: httpx.Response) -> None:
        await answer.aread()
        judge.check(answer)

    hooks = {"response": [check]}
    async with httpx.AsyncClient(
        base_url=served.client.base_url, trust_env=False, timeout=15, event_hooks=hooks
    ) as client:
        yield client


async def good_answers(judge: Judge) -> None:
    async with serving() as served, judging(judge, served) as client:
        for request in on_every_route():
            await client.request(**request)
        run = (await client.post("/runs?wait=10", json={"input": "x"})).json()
        key = {"Idempotency-Key": "k"}
        for accepted in (EVENTS, LINES):
            body = {"input": "x", "stream": True}
            await client.post("/runs", json=body, headers=accepted | key)
        await client.post("/runs", json={"input": "y"}, headers=key)
        path = run["links"]["self"]
        await client.get(path)
        await client.delete(path)
        await client.get(f"{path}/events", headers={"Last-Event-ID": "99"})
        await client.get("/runs?limit=2")
        await served.services.runner.drain(0)
        await client.post("/runs", json={"input": "x"})
        await client.get("/readyz")


async def answers_about_a_run_that_is_stopped(judge: Judge) -> None:
    async with serving(stuck()) as served, judging(judge, served) as client:
        run_id = (await client.post("/runs?wait=0.05", json={"input": "x"})).json()["run_id"]
        await has_spoken(served, run_id)
        await client.delete(f"/runs/{run_id}?reason=enough")
        await client.get("/runs")
        await client.delete(f"/runs/{run_id}?wait=10")
        await client.get(f"/runs/{run_id}")


async def refusals(judge: Judge) -> None:
    async with serving() as served, judging(judge, served) as client:
        for method, path, headers, body, _, code in REFUSALS:
            if code not in OF_NO_OPERATION:
                await client.request(method, path, headers=headers, content=body)
        for request in on_every_route(Host="evil.example"):
            await client.request(**request)


async def refusals_of_a_busy_replica(judge: Judge) -> None:
    limits = ApiLimits(max_body_bytes=20, read_timeout_s=0.05)
    services = services_for(
        stuck(),
        limits=limits,
        readers=Readers(max_readers=2, max_per_run=1),
        capacity=Capacity(running=1, pending=0),
    )

    async with serving(services=services) as served, judging(judge, served) as client:
        path = f"/runs/{await served.start(input='x')}/events"
        await client.post("/runs", json={"input": "x"})
        await client.post("/runs", json={"input": "x" * 20})
        judge.check(await answer_to_half_a_body(served))
        async with served.open(path) as one:
            await one.until(b": ok")
            await client.get(path, headers=LINES)
            with served.services.readers.join("another"):
                await client.get(path)
                await client.get(path, headers=LINES)


async def answer_to_half_a_body(served: Served) -> httpx.Response:
    """Do what no client library does."""
    headers = ("Content-Type: application/json", "Content-Length: 10")
    async with served.open("/runs", *headers, method="POST") as connection:
        head, _, body = (await connection.rest()).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return httpx.Response(
        int(first.split()[1]),
        headers=[(line.split(": ")[0], line.split(": ")[1]) for line in lines],
        content=body,
        request=httpx.Request("POST", f"{served.client.base_url}/runs"),
    )


async def answers_to_tenants(judge: Judge) -> None:
    async with (
        keyed(stuck(), capacity=Capacity(per_tenant=1)) as made,
        judging(judge, made.served) as client,
    ):
        for request in on_every_route():
            await client.request(**request)
        client.headers["Authorization"] = f"Bearer {KEY_OF['acme']}"
        run = (await client.post("/runs", json={"input": "x"})).json()
        await client.post("/runs", json={"input": "x"})
        path = run["links"]["self"]
        await client.get("/metrics")
        await client.delete(f"{path}?purge=true")
        await client.delete("/runs?all=true")
        await client.delete(f"{path}?wait=10")
        await client.delete(f"{path}?purge=true")


async def answers_over_a_failing_store(judge: Judge, error: Exception) -> None:
    services = services_for(Cast(saying("x")), store=Failing(error))
    async with serving(services=services) as served, judging(judge, served) as client:
        for request in on_every_route():
            if "readyz" not in request["url"] or isinstance(error, StoreUnavailable):
                await client.request(**request)
        if isinstance(error, StoreUnavailable):
            await client.get(f"{NO_RUN}/events", headers=EVENTS)


async def test_every_answer_that_can_be_had_is_the_described_one() -> None:
    judge = Judge(DOCUMENT)
    await good_answers(judge)
    await answers_about_a_run_that_is_stopped(judge)
    await refusals(judge)
    await refusals_of_a_busy_replica(judge)
    await answers_to_tenants(judge)
    for error in (StoreUnavailable("no answer"), RuntimeError("broken")):
        await answers_over_a_failing_store(judge, error)
    described = {
        (operation["operationId"], int(status))
        for methods in DOCUMENT["paths"].values()
        for operation in methods.values()
        for status in operation["responses"]
    }
    assert judge.seen == described - {(name, 500) for name in NEEDS_NO_STORE}


async def test_the_document_is_served_as_it_is_committed() -> None:
    async with serving() as served:
        answer = await served.client.get("/openapi.json")
        assert answer.json() == DOCUMENT
        assert json.loads(answer.content.decode("ascii")) == DOCUMENT
