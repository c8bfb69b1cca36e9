"""A service with keys, as its operator sets it up."""

from __future__ import annotations

from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests import laws
from tests.durability.server import tcp_valkey
from tests.service import Service, service

pytestmark = pytest.mark.anyio

KEYS = {"API_KEYS": "acme:first,rival:other", "MODEL": "scripted:", "PORT": "0"}
ANYWHERE = {"Host": "runs.example"}


def client_of(running: Service, key: str | None = None) -> httpx.AsyncClient:
    return running.client(**({} if key is None else {"Authorization": f"Bearer {key}"}))


async def test_with_keys_any_host_is_served_and_a_hundred_runs_of_a_tenant() -> None:
    keys = KEYS | {"STORE_URL": "memory:", "MAX_RUNNING_RUNS": "1", "DRAIN_TIMEOUT_S": "0"}
    async with service(**keys) as running, client_of(running, "first") as client:
        answers = [
            (await client.post("/runs", json={"input": "x"}, headers=ANYWHERE)).status_code
            for _ in range(104)
        ]
        assert answers[:100] == [202] * 100
        assert 429 in answers[100:]
        async with client_of(running, "other") as other:
            assert (await other.post("/runs", json={"input": "x"})).status_code == 202
        assert (await client.get("/runs", headers=ANYWHERE)).status_code == 200
        nobody = await client.get("/runs", headers=ANYWHERE | {"Authorization": "Bearer x"})
        assert nobody.status_code == 401


async def test_a_ticket_is_good_after_a_restart_and_its_tenants_end_ends_it(
    tmp_path: Path,
) -> None:
    script = tmp_path / "script.yaml"
    script.write_text("agents: [{turns: [[{say: Done.}]]}]")
    keys = KEYS | {"MODEL": f"scripted:{script}", "STORE_URL": f"sqlite:{tmp_path / 'runs.db'}"}
    async with service(**keys) as running, client_of(running, "first") as client:
        run = (await client.post("/runs?wait=30", json={"input": "x"})).json()
        link = run["links"]["events"]
    rotated = keys | {"API_KEYS": "acme:second,rival:other"}
    async with service(**rotated) as running, client_of(running) as client:
        answer = await client.get(link)
        assert answer.status_code == 200
        assert "TeamRunCompleted" in answer.text
    removed = keys | {"API_KEYS": "rival:other"}
    async with service(**removed) as running, client_of(running) as client:
        assert (await client.get(link)).status_code == 401


async def test_signing_keys_are_changed_replica_by_replica_and_nobody_is_cut_off() -> None:
    """First known to all, then used by all, then the old one is removed; as the README says."""
    orders = ["old", "old,new", "new,old", "new"]
    with tcp_valkey() as valkey:
        async with AsyncExitStack() as stack:
            shared = KEYS | {"STORE_URL": valkey.url, "DRAIN_TIMEOUT_S": "0"}
            replicas = [
                await stack.enter_async_context(service(**shared, SIGNING_KEYS=keys))
                for keys in orders
            ]
            owner = await stack.enter_async_context(client_of(replicas[1], "first"))
            run = (await owner.post("/runs", json={"input": "x"})).json()
            for one, other in (*pairwise(replicas), *pairwise(reversed(replicas))):
                async with client_of(one, "first") as asking, client_of(other) as reading:
                    link = (await asking.get(f"/runs/{run['run_id']}")).json()["links"]["events"]
                    assert (await reading.head(link)).status_code == 200
            first = replicas[0]
            async with client_of(first, "first") as asking:
                link = (await asking.get(f"/runs/{run['run_id']}")).json()["links"]["events"]
            async with client_of(first) as reading, reading.stream("GET", link) as stream:
                received = b""
                async for chunk in stream.aiter_raw():
                    received += chunk
                    if received.count(b"\n\n") >= 3:
                        first.stop()  # it restarts with the new keys; the stream ends cleanly
            whole = received[: received.rindex(b"\n\n") + 2]
            await owner.delete(f"/runs/{run['run_id']}?wait=20")
            cursor = str(laws.parse(whole)[-1]["seq"])
            async with client_of(replicas[2]) as reading:
                rest = await reading.get(link, headers={"Last-Event-ID": cursor})
                log = await reading.get(link)
            assert whole + rest.content.removeprefix(b"retry: 2000\n: ok\n") == log.content
            laws.check(laws.parse(log.content))
