"""What a service says of itself while its store does not answer, and when it does again."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import anyio
import httpx

from tests.durability.stand import Stand

FAILS_WITHIN_S: Final = 2.0
SLACK_S: Final = 2.0
"""What a busy machine may add: as long again."""
BACK_S: Final = 20.0


async def fails_closed(stand: Stand, run_id: str) -> float:
    """Ask every replica for what needs the store; return how long the slowest refusal took.

    Asked are for a new run, and for the end of one that has not ended.
    """
    took: list[float] = []

    async def refuses(method: str, path: str, **body: Any) -> None:
        begin = anyio.current_time()
        response = await stand.client.request(method, path, **body)
        took.append(anyio.current_time() - begin)
        assert response.status_code == 503, response.text
        assert response.json()["code"] == "store_unavailable"
        assert int(response.headers["Retry-After"]) > 0

    async with anyio.create_task_group() as asking:
        for replica in stand.replicas:
            asking.start_soon(
                partial(refuses, "POST", f"{replica.url}/runs", json={"input": "Go."})
            )
            asking.start_soon(refuses, "DELETE", f"{replica.url}/runs/{run_id}")
            asking.start_soon(_says_so, stand.client, replica.url)
    assert max(took) < FAILS_WITHIN_S + SLACK_S
    return max(took)


async def _says_so(client: httpx.AsyncClient, url: str) -> None:
    assert (await client.get(f"{url}/livez")).status_code == 200
    ready = await client.get(f"{url}/readyz")
    assert (ready.status_code, "store: unavailable" in ready.text) == (503, True), ready.text


async def all_back(stand: Stand) -> float:
    """Return after how many seconds every replica is ready and takes runs again."""
    begin = anyio.current_time()
    with anyio.fail_after(BACK_S):
        for replica in stand.replicas:
            while not await _takes_runs(stand.client, replica.url):  # noqa: ASYNC110 - seen outside
                await anyio.sleep(0.05)
    return anyio.current_time() - begin


async def _takes_runs(client: httpx.AsyncClient, url: str) -> bool:
    if (await client.get(f"{url}/readyz")).status_code != 200:
        return False
    return (await client.post(f"{url}/runs", json={"input": "Go."})).status_code == 202
