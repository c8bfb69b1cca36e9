"""A page of another origin: where it is allowed it starts, watches and stops a run by a key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from playwright.async_api import Page

from app.api.services import ApiLimits
from app.models.scripted import Say, Until
from tests.api.keyed import KEY_OF, keyed
from tests.runtime.playing import Cast

pytestmark = [pytest.mark.anyio, pytest.mark.system]

START_WATCH_STOP = """async ({ service, key }) => {
    const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json" };
    const body = JSON.stringify({ input: "x" });
    const answer = await fetch(`${service}/runs`, { method: "POST", headers, body });
    const run = await answer.json();
    const seen = [];
    const source = new EventSource(service + run.links.events);
    const over = new Promise((resolve) => source.addEventListener("TeamRunCancelled", resolve));
    source.addEventListener("TeamRunContent", async (message) => {
        seen.push(JSON.parse(message.data).content);
        const stopped = await fetch(service + run.links.cancel, { method: "DELETE", headers });
        seen.push(stopped.status);
    });
    seen.push((await over).type);
    source.close();
    return { seen, location: answer.headers.get("Location"), run_id: run.run_id };
}"""

TRY = """async ({ service, key, method }) => {
    const headers = { Authorization: `Bearer ${key}` };
    return fetch(`${service}/runs`, { method, headers }).then(() => "read", (error) => error.name);
}"""

BLANK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<!doctype html>"


@asynccontextmanager
async def elsewhere() -> AsyncIterator[str]:
    """Serve an empty page; yield its origin."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(BLANK)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}"


def speaking() -> Cast:
    return Cast(lambda _: [Say("Once "), Until(anyio.Event())])


async def test_an_allowed_page_starts_watches_and_stops_a_run(page: Page) -> None:
    async with elsewhere() as origin:
        limits = ApiLimits(allowed_hosts=None, allowed_origins=frozenset({origin}))
        async with keyed(speaking(), limits=limits) as made:
            given = {"service": str(made.served.client.base_url).rstrip("/"), "key": KEY_OF["acme"]}
            await page.goto(origin)
            told: dict[str, Any] = await page.evaluate(START_WATCH_STOP, given)
            assert sorted(map(str, told["seen"])) == ["202", "Once ", "TeamRunCancelled"]
            assert told["location"] == f"/runs/{told['run_id']}"
            run = await made.served.ended(told["run_id"])
            assert (run.status, run.request.tenant) == ("cancelled", "acme")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_another_page_reads_and_changes_nothing_even_with_a_key(
    page: Page, method: str
) -> None:
    async with elsewhere() as origin, keyed(speaking()) as made:
        run = await made.start("acme")
        given = {
            "service": str(made.served.client.base_url).rstrip("/"),
            "key": KEY_OF["acme"],
            "method": method,
        }
        await page.goto(origin)
        assert await page.evaluate(TRY, given) == "TypeError"
        runs = (await made.clients["acme"].get("/runs")).json()["runs"]
        assert [(one["run_id"], one["cancel"]) for one in runs] == [(run["run_id"], None)]


async def test_the_services_own_page_works_with_a_real_key(page: Page) -> None:
    async with keyed(Cast(lambda _: [Say("Once "), Say("upon.")])) as made:
        await page.goto(str(made.served.client.base_url))
        await page.get_by_label("Key", exact=True).fill(KEY_OF["acme"])
        await page.get_by_role("button", name="Use it").click()
        await page.get_by_label("Input").press("Control+Enter")
        await page.get_by_text("Once upon.").first.wait_for()
        queries = await page.evaluate("performance.getEntriesByType('resource').map((e) => e.name)")
        assert KEY_OF["acme"] not in "".join(queries)
