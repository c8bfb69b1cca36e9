"""A replica as a process of its own, to be frozen or killed: `python -m tests.stores.replica URL`.

Starts a run, prints its id and writes to it for as long as it may; then prints why it may no more.
"""

from __future__ import annotations

import sys

import anyio

from app.domain.errors import TeamRunsError
from app.domain.events import RunContent, RunStarted
from app.stores.redis import RedisStore
from tests.contract.test_store import request_for, write


async def main(url: str, lease_ttl_s: float) -> None:
    async with RedisStore(url, lease_ttl_s) as store:
        lost: list[str] = []
        store.on_loss(lost.append)
        run = await store.create(request_for())
        await write(store, run, RunStarted("m"))
        print(run.run_id, flush=True)  # noqa: T201 - read by the test
        try:
            while True:
                await write(store, run, RunContent("on ", 1))
                await anyio.sleep(0.01)
        except TeamRunsError as error:
            print(type(error).__name__, *lost, flush=True)  # noqa: T201 - read by the test


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], float(sys.argv[2]))
