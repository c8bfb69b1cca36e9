from __future__ import annotations

import pytest

from tests.api.serving import services_for, serving
from tests.api.test_problems import SilentStore
from tests.runtime.playing import Cast, saying

pytestmark = pytest.mark.anyio


async def test_a_replica_that_works_is_alive_and_ready() -> None:
    async with serving() as served:
        alive, ready = await served.client.get("/livez"), await served.client.get("/readyz")
        assert (alive.status_code, alive.text) == (200, "process: alive\n")
        assert (ready.status_code, ready.text) == (200, "store: ok\nruns: accepted\n")
        assert ready.headers["content-type"].startswith("text/plain")


async def test_a_draining_replica_is_alive_and_not_ready() -> None:
    async with serving() as served:
        await served.services.runner.drain(0)
        ready = await served.client.get("/readyz")
        assert (ready.status_code, ready.text) == (503, "store: ok\nruns: draining, 0 left\n")
        assert (await served.client.get("/livez")).status_code == 200


async def test_a_replica_without_its_store_is_not_ready() -> None:
    async with serving(services=services_for(Cast(saying("x")), store=SilentStore())) as served:
        ready = await served.client.get("/readyz")
        assert (ready.status_code, ready.text) == (503, "store: unavailable\nruns: accepted\n")


async def test_probes_are_answered_under_any_host() -> None:
    async with serving() as served:
        headers = {"Host": "10.0.0.7:8000"}
        assert (await served.client.get("/livez", headers=headers)).status_code == 200
        assert (await served.client.get("/teams", headers=headers)).status_code == 403
