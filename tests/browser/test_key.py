"""A service that asks for a key: asked once, kept for the tab, never part of an address."""

from __future__ import annotations

import signal
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Page, expect

from tests.browser.ports import free_port
from tests.browser.seen import expect_part, part, press_start, written
from tests.service import service

pytestmark = [pytest.mark.anyio, pytest.mark.system]

KEY = "acme-key-of-the-browser-tests"
SETTINGS = {"MODEL": "scripted:", "STORE_URL": "memory:", "API_KEYS": f"acme:{KEY}"}
STORYTELLER = "StorytellerAgent"


async def enter(page: Page, key: str) -> None:
    await page.get_by_label("Key", exact=True).fill(key)
    await page.get_by_role("button", name="Use it").click()


def requested(page: Page) -> list[str]:
    """The addresses of all requests of the page from now on."""
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    return urls


def queries(urls: list[str]) -> list[dict[str, list[str]]]:
    """What the requests for events had behind the `?`."""
    return [parse_qs(urlsplit(url).query) for url in urls if "/events" in url]


async def test_a_key_is_asked_for_once_and_streams_open_with_tickets(page: Page) -> None:
    urls = requested(page)
    async with service(**SETTINGS) as running:
        await page.goto(running.url)
        await enter(page, "wrong")
        told = page.locator("#key-problem")
        await expect(told).to_have_text("The service does not know this key.")
        await enter(page, KEY)
        await press_start(page)
        await expect(written(page, STORYTELLER)).to_contain_text("In the valley")
        await page.reload()
        await expect(written(page, STORYTELLER)).to_contain_text("In the valley")
        await part(page, "stop").click()
        await expect_part(page, "connection", "ended")
        await expect(page.locator("#key-dialog")).to_be_hidden()
        assert all(query["ticket"] for query in queries(urls))
        assert not [url for url in urls if KEY in url]
        assert KEY not in await page.content()
        assert "$TEAM_RUNS_KEY" in (await page.locator("#curl").text_content() or "")


async def test_another_tab_has_to_be_told_the_key_again(page: Page) -> None:
    async with service(**SETTINGS) as running:
        await page.goto(running.url)
        await enter(page, KEY)
        await expect(page.locator("#team option")).to_have_count(1)
        other = await page.context.new_page()
        await other.goto(running.url)
        await expect(other.locator("#key-dialog")).to_be_visible()


async def test_the_key_can_be_forgotten(page: Page) -> None:
    async with service(**SETTINGS) as running:
        await page.goto(running.url)
        await enter(page, KEY)
        await page.get_by_role("button", name="Forget the key").click()
        await expect(page.locator("#key-dialog")).to_be_visible()


async def test_a_ticket_that_is_not_good_any_more_is_replaced(page: Page, tmp_path: Path) -> None:
    """The service comes back with another signing key, so the ticket of the open stream is void."""
    urls = requested(page)
    store = {"STORE_URL": f"sqlite:{tmp_path / 'runs.db'}", "LEASE_TTL_S": "1"}
    settings = {**SETTINGS, **store, "PORT": free_port()}
    async with service(SIGNING_KEYS="a" * 40, **settings) as first:
        await page.goto(first.url)
        await enter(page, KEY)
        await press_start(page)
        await expect(written(page, STORYTELLER)).to_contain_text("In the valley")
        first.stop(signal.SIGKILL)
        await first.ended()
    async with service(SIGNING_KEYS="b" * 40, **settings):
        await expect(part(page, "connection")).to_have_text("ended", timeout=20_000)
        await expect_part(page, "status", "error")
        await expect(page.locator("#key-dialog")).to_be_hidden()
    first_query, *_, last_query = queries(urls)
    assert first_query["ticket"] != last_query["ticket"]
    assert int(last_query["last_event_id"][0]) > 5
