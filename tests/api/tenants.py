"""Two tenants and every route: what the tests of access share."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx

from app.models.scripted import Say, Until
from tests.api.keyed import KEY_OF, Keyed, keyed
from tests.api.test_openapi import DOCUMENT
from tests.runtime.playing import Cast, delegating_to

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


@asynccontextmanager
async def two_at_work() -> AsyncIterator[Scene]:
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
    """Return everything about an answer but its time and number, and the id that was asked for."""
    own = {"date", "x-request-id"}
    headers = {name: value for name, value in answer.headers.items() if name not in own}
    return answer.status_code, answer.content.replace(run_id.encode(), b"ID"), headers
