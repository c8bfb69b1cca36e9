"""Replicas over one store and one upstream, and somebody outside who talks to all of them."""

from __future__ import annotations

import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import anyio
import httpx

from tests.service import Service, service
from tests.upstream import Upstream, in_turn

ANSWER_S = 10.0
"""After how long without a byte an answer counts as unknown."""
SEED = 4
_LIMITS = httpx.Limits(max_connections=None, keepalive_expiry=1)
"""Idle connections go before a server closes them, which might be while they are used again."""


class Replica:
    """A service that may be killed, frozen and started again; `url` is where it is now."""

    running: Service

    def __init__(self, settings: dict[str, str]) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self.is_up = False

    @property
    def url(self) -> str:
        return self.running.url

    async def start(self) -> None:
        """Start it, and return when it takes requests."""
        self.running = await self._stack.enter_async_context(service(**self._settings))
        self.is_up = True

    async def kill(self) -> None:
        """End it at once, without a word."""
        self.is_up = False
        self.running.stop(signal.SIGKILL)
        await self._stack.aclose()

    async def gone(self) -> int:
        """Wait for its own end; return its exit status."""
        status = await self.running.ended()
        self.is_up = False
        await self._stack.aclose()
        return status

    def freeze(self) -> None:
        """Stop it in its tracks."""
        self.running.stop(signal.SIGSTOP)

    def wake(self) -> None:
        """Let a frozen one go on."""
        self.running.stop(signal.SIGCONT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.is_up:
            self.wake()
        await self._stack.aclose()


@dataclass
class Stand:
    """What a test talks to; `client` takes whole addresses, whichever replica they name."""

    upstream: Upstream
    client: httpx.AsyncClient
    chance: random.Random
    settings: dict[str, str]
    stack: AsyncExitStack
    replicas: list[Replica] = field(default_factory=list)

    def join(self) -> Replica:
        """Add a replica that is to be started; it ends with the stand."""
        replica = Replica(self.settings)
        self.stack.push_async_exit(replica)
        self.replicas.append(replica)
        return replica

    @property
    def url(self) -> str:
        """Any replica's address; where none is up, an old one."""
        up = [replica for replica in self.replicas if replica.is_up]
        return self.chance.choice(up or self.replicas).url

    async def start(self, url: str, **body: Any) -> str:
        """Start a run there; return its id."""
        response = await self.client.post(f"{url}/runs", json={"input": "Go.", **body})
        assert response.status_code == 202, response.text
        return str(response.json()["run_id"])

    async def settled(self, url: str, run_id: str, wait_s: float = 20) -> dict[str, Any]:
        """Return a run as somebody sees it there when it has ended, or after a while.

        A broken connection is no answer, and 503 the advice to ask again.
        """
        address, timeout_s = f"{url}/runs/{run_id}", wait_s + ANSWER_S
        with anyio.fail_after(wait_s + 2 * ANSWER_S):
            while True:
                with suppress(httpx.TransportError):
                    answer = await self.client.get(
                        address, params={"wait": wait_s}, timeout=timeout_s
                    )
                    if answer.status_code != 503:
                        break
        assert answer.status_code == 200, answer.text
        run: dict[str, Any] = answer.json()
        return run

    async def run_ids(self) -> list[str]:
        """The ids of all runs there are, as the list tells them."""
        run_ids: list[str] = []
        after = ""
        while True:
            answer = await self.client.get(
                f"{self.url}/runs", params={"limit": 100, "after": after}
            )
            assert answer.status_code == 200, answer.text
            page = answer.json()
            run_ids += [run["run_id"] for run in page["runs"]]
            if not page["next"]:
                return run_ids
            after = page["next"]


@asynccontextmanager
async def stand(store_url: str, replicas: int = 1, **settings: str) -> AsyncIterator[Stand]:
    """Open everything; what the upstream says is its `script`, nothing at first."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream(in_turn([])))
        settings = {
            "STORE_URL": store_url,
            "MODEL": "openai:test",
            "OPENAI_BASE_URL": upstream.base_url,
            "OPENAI_API_KEY": "sk-test",
            "HEARTBEAT_S": "1",
            "DRAIN_TIMEOUT_S": "0",
        } | settings
        client = await stack.enter_async_context(
            httpx.AsyncClient(timeout=ANSWER_S, limits=_LIMITS, trust_env=False)
        )
        chance = random.Random(SEED)  # noqa: S311 - no secret, a test that can be repeated
        made = Stand(upstream, client, chance, settings, stack)
        async with anyio.create_task_group() as starting:
            for _ in range(replicas):
                starting.start_soon(made.join().start)
        yield made
