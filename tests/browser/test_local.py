"""The page with the real model that comes with the service; how soon it is seen is printed."""

from __future__ import annotations

import time

import pytest
from playwright.async_api import Page, expect

from tests.browser.seen import expect_part, part, start
from tests.figures import FIGURES
from tests.service import service

pytestmark = [pytest.mark.anyio, pytest.mark.system]


async def test_a_team_on_the_local_model_is_seen_at_work_and_stopped(page: Page) -> None:
    async with service(MODEL="local:smollm2", STORE_URL="memory:") as running:
        begun = time.monotonic()
        await start(page, running.url)
        await expect(page.locator(".step").first).to_be_visible(timeout=30_000)
        delegated_s = time.monotonic() - begun
        await expect(page.locator(".piece.text").first).not_to_be_empty(timeout=30_000)
        text_s = time.monotonic() - begun
        await expect(part(page, "tokens")).to_contain_text("≈")
        await expect_part(page, "status", "running")
        await part(page, "stop").click()
        await expect_part(page, "status", "cancelled")
        await expect_part(page, "connection", "ended")
        await expect(part(page, "notice")).to_contain_text("Stopped in")
    FIGURES.append(
        f"page, local model: delegation seen {delegated_s:.1f} s and text {text_s:.1f} s after the"
        " page was opened and Start pressed"
    )
