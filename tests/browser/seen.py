"""What one sees on the page, by the words on it."""

from __future__ import annotations

import anyio
from playwright.async_api import Locator, Page, expect


def lane(page: Page, name: str) -> Locator:
    """An agent's lane; the leader's is called Leader."""
    return page.locator(".lane").filter(has=page.locator(".name", has_text=name))


def written(page: Page, name: str) -> Locator:
    return lane(page, name).locator(".piece.text")


def part(page: Page, name: str) -> Locator:
    """A part of the run: status, connection, notice, elapsed, tokens, rate, events, stop."""
    return page.locator(f'#run [data-part="{name}"]')


async def press_start(page: Page) -> None:
    await page.get_by_role("button", name="Start", exact=True).click()


async def start(page: Page, url: str) -> str:
    """Open the page, press Start; return the run's id when its address is shown."""
    await page.goto(url)
    await press_start(page)
    await page.wait_for_url("**/?run=*")
    return page.url.partition("run=")[2]


async def expect_state(page: Page, name: str, state: str) -> None:
    await expect(lane(page, name).locator(".badge")).to_have_text(state)


async def expect_part(page: Page, name: str, text: str) -> None:
    await expect(part(page, name)).to_have_text(text)


async def holds(page: Page, expression: str, within_s: float = 20) -> None:
    """Wait until an expression is true in the page, whose policy forbids playwright's own wait."""
    look = f"const look = () => ({expression}) ? resolve() : setTimeout(look, 5)"
    with anyio.fail_after(within_s):
        await page.evaluate(f"new Promise((resolve) => {{ {look}; look(); }})")
