"""Who gets the figures, and that they are what a client on the other end of the wire measures."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from app.api.services import ApiLimits
from app.domain.access import ApiKey, Keys
from tests.api.serving import Served, services_for, serving
from tests.durability.server import tcp_valkey
from tests.figures import FIGURES
from tests.runtime.playing import Cast, saying
from tests.service import Service, Watcher, service
from tests.telemetry.exposed import Exposed
from tests.upstream import CallTool, Fail, Hold, Json, Plan, Say, Upstream, instructions_of
from tests.upstream import results_of as answers_in

pytestmark = pytest.mark.anyio

TEAMS = """
teams:
  - id: team
    name: Team
    model: openai:leader
    members: [{id: writer, name: Writer, model: openai:writer, instructions: Write.}]
"""


# --- who gets them --------------------------------------------------------------------------------


@asynccontextmanager
async def with_keys() -> AsyncIterator[Served]:
    keys = Keys(ApiKey.read(f"{tenant}:key-of-{tenant}") for tenant in ("operator", "acme"))
    services = services_for(
        Cast(saying("x")), keys=keys, limits=ApiLimits(allowed_hosts=None), figures=b"a 1\n"
    )
    async with serving(services=services) as served:
        yield served


async def test_where_there_are_keys_the_operator_gets_the_figures() -> None:
    async with (
        with_keys() as served,
        served.client_with(Authorization="Bearer key-of-operator") as c,
    ):
        answer, head = await c.get("/metrics"), await c.head("/metrics")
    assert (answer.status_code, answer.text) == (200, "a 1\n")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert (head.status_code, head.content) == (200, b"")


async def test_other_tenants_find_what_they_find_under_an_unknown_path() -> None:
    async with with_keys() as served, served.client_with(Authorization="Bearer key-of-acme") as c:
        for method in ("GET", "HEAD"):
            figures, nothing = [await c.request(method, path) for path in ("/metrics", "/metricz")]
            assert figures.status_code == nothing.status_code == 404
            assert figures.content == nothing.content.replace(b"metricz", b"metrics")
            own = {"date": "", "x-request-id": ""}
            assert {**figures.headers, **own} == {**nothing.headers, **own}


async def test_without_a_key_there_is_401_where_there_are_keys() -> None:
    async with with_keys() as served:
        assert (await served.client.get("/metrics")).status_code == 401


async def test_where_there_are_no_keys_everybody_gets_them() -> None:
    async with serving() as served:
        assert (await served.client.get("/metrics")).status_code == 200


# --- that they are true ---------------------------------------------------------------------------


def script(body: Json, number: int) -> Plan:
    """The first two calls are turned away; then the leader delegates, and the writer is stuck."""
    if number <= 2:
        return [Fail(429, "rate_limit_exceeded")]
    if "Write." in instructions_of(body):
        return [Say(*["word "] * 5), Hold()]
    if answers_in(body):
        return [Say("The end.")]
    return [CallTool("delegate_task_to_member", '{"member_id":"writer","task":"Go."}')]


async def figures_of(client: httpx.AsyncClient) -> Exposed:
    return Exposed((await client.get("/metrics")).content)


async def no_more_readers(client: httpx.AsyncClient) -> Exposed:
    """Return the figures as soon as no stream is open."""
    with anyio.fail_after(10):
        while (figures := await figures_of(client)).value("readers"):
            await anyio.lowlevel.checkpoint()
    return figures


@asynccontextmanager
async def in_front_of(upstream: Upstream, folder: Path, **others: str) -> AsyncIterator[Service]:
    (folder / "teams.yaml").write_text(TEAMS)
    settings = {
        "OPENAI_API_KEY": "none",
        "OPENAI_BASE_URL": upstream.base_url,
        "TEAMS_FILE": str(folder / "teams.yaml"),
        "STORE_URL": f"sqlite:{folder / 'runs.db'}",
    }
    async with service(**{**settings, **others}) as running:
        yield running


async def test_the_figures_are_what_a_client_outside_measured(tmp_path: Path) -> None:
    async with (
        Upstream(script) as upstream,
        in_front_of(upstream, tmp_path) as running,
        running.client() as client,
        anyio.create_task_group() as group,
    ):
        posted = time.perf_counter()
        run = (await client.post("/runs", json={"input": "x"})).json()
        watcher = Watcher(client, run["run_id"])
        group.start_soon(watcher.read)
        await watcher.until("event: RunContent\n", times=5)
        first = time.perf_counter() - posted
        during = await figures_of(client)
        asked = time.perf_counter()
        await client.delete(f"/runs/{run['run_id']}")
        closed = await upstream.exchanges[3].closed() - asked
        await watcher.over()
        ended = time.perf_counter() - asked
        whole = time.perf_counter() - posted
        final = (await client.get(f"/runs/{run['run_id']}")).json()
        after = await no_more_readers(client)
    assert (during.value("running"), during.value("pending"), during.value("readers")) == (1, 0, 1)
    assert (after.value("running"), after.value("readers")) == (0, 0)
    assert after.value("runs_total", team="team", mode="coordinate", status="cancelled") == 1
    assert after.value("runs_total") == 1
    assert after.value("run_duration_seconds_sum") <= whole
    assert 0 < after.value("time_to_first_token_seconds_sum") <= first
    assert after.value("tokens_total", type="input") == final["usage"]["input_tokens"]
    assert after.value("tokens_total", type="output") == final["usage"]["output_tokens"]
    assert after.value("model_retries_total", model="openai:leader", code="rate_limited") == 2
    assert after.value("store_append_events_sum") == final["last_event_id"]
    assert after.value("sent_bytes_total") == watcher.received_bytes
    assert after.value("readers_gone_total", end="completed") == 1
    assert after.value("process_resident_memory_bytes") > 0
    told = {
        step: after.value("cancel_seconds_sum", scope="team", step=step)
        for step in ("flag_seen", "upstream_closed", "final_event")
    }
    assert after.value("cancel_seconds_count", scope="team") == 3
    assert told["flag_seen"] <= told["upstream_closed"] <= told["final_event"] <= ended
    FIGURES.append(
        f"cancel, outside | inside: connection closed {closed * 1e3:.2f} ms |"
        f" {told['upstream_closed'] * 1e3:.2f}, final event {ended * 1e3:.2f} |"
        f" {told['final_event'] * 1e3:.2f}"
    )


async def test_a_stop_asked_for_elsewhere_is_timed_by_the_replica_that_does_it(
    tmp_path: Path,
) -> None:
    """The two processes share a clock, which is written down in whole milliseconds."""
    with tcp_valkey() as valkey:
        async with (
            Upstream(script) as upstream,
            in_front_of(upstream, tmp_path, STORE_URL=valkey.url) as owner,
            in_front_of(upstream, tmp_path, STORE_URL=valkey.url) as other,
            owner.client() as client,
            other.client() as elsewhere,
        ):
            run = (await client.post("/runs", json={"input": "x"})).json()
            await (await upstream.arrived(4)).wrote(5)
            asked = time.perf_counter()
            stopped = await elsewhere.delete(f"/runs/{run['run_id']}?wait=10")
            took = time.perf_counter() - asked
            assert stopped.json()["status"] == "cancelled"
            there, here = await figures_of(client), await figures_of(elsewhere)
    for step in ("flag_seen", "upstream_closed", "final_event"):
        assert there.value("cancel_seconds_count", scope="team", step=step) == 1
        assert there.value("cancel_seconds_sum", scope="team", step=step) <= took + 0.001
    assert here.value("cancel_seconds_count") == 0
    assert there.value("runs_total", status="cancelled") == 1
    assert here.value("runs_total") == 0
