"""By keyboard alone, with a screen reader, on a phone, in the dark."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Literal

import anyio
import pytest
from playwright.async_api import Page, expect

from app.models.scripted import Pause, Say, Until
from tests.api.serving import serving
from tests.browser.casts import two_who_never_end
from tests.browser.seen import expect_part, expect_state, holds, part, start, written
from tests.runtime.playing import Cast, delegating_to

pytestmark = [pytest.mark.anyio, pytest.mark.system]

PHONE = (390, 844)
DESKTOP = (1280, 900)


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has the focus has this name; every stop on the way must be seen."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if await focused.count() and name == (
            await focused.get_attribute("aria-label") or (await focused.inner_text()).strip()
        ):
            outline = await focused.evaluate("element => getComputedStyle(element).outlineStyle")
            assert outline != "none"
            return
    raise AssertionError(f"Tab never leads to {name}")


async def test_a_run_is_started_watched_and_stopped_by_keyboard_alone(page: Page) -> None:
    async with serving(two_who_never_end()) as served:
        await page.goto(f"http://localhost:{served.port}")
        await expect(page.locator("#team option")).to_have_count(1)
        await page.keyboard.press("Tab")
        await expect(page.locator(":focus")).to_have_text("Skip to the run")
        await tab_to(page, "Start")
        await page.keyboard.press("Enter")
        await expect(page.locator("#run-title")).to_be_focused()
        await expect(written(page, "Writer")).to_have_text("Once upon")
        await tab_to(page, "Stop Writer")
        await page.keyboard.press("Enter")
        await expect_state(page, "Writer", "stopped")
        await expect(page.locator(":focus")).to_have_attribute("aria-label", "What Writer writes")
        await page.keyboard.press("Shift+Tab")
        await tab_to(page, "Stop Editor")
        await page.locator("#run-title").focus()
        await tab_to(page, "Stop")
        await page.keyboard.press("Space")
        await expect_part(page, "status", "cancelled")
        await expect(page.locator("#run-title")).to_be_focused()


async def test_control_enter_starts_from_the_input(page: Page) -> None:
    async with serving() as served:
        await page.goto(f"http://localhost:{served.port}")
        await page.get_by_label("Input").press("Control+Enter")
        await expect_part(page, "connection", "ended")


RECORD_ANNOUNCEMENTS = """() => {
    window.said = [];
    new MutationObserver(() => {
        window.said.push(document.getElementById('announcer').textContent);
    }).observe(document.getElementById('announcer'), { childList: true });
}"""


async def test_a_screen_reader_hears_states_and_never_every_token(page: Page) -> None:
    steps = [step for _ in range(150) for step in (Pause(0.01), Say("word "))]
    cast = Cast(delegating_to("writer"), {"writer": lambda _: steps})
    async with serving(cast) as served:
        url = f"http://localhost:{served.port}"
        await page.goto(url)
        await page.evaluate(RECORD_ANNOUNCEMENTS)
        await page.get_by_label("Input").press("Control+Enter")
        await expect_part(page, "connection", "ended")
        await holds(page, "window.said.at(-1)?.includes('Writer: done.')")
        said = await page.evaluate("window.said")
        assert "The run: completed." in said[-1]
        assert len(said) <= 4
        assert "word" not in " ".join(said)
        live = page.locator("[aria-live], [role=log], [role=status]")
        assert await live.evaluate_all("all => all.map((one) => one.id)") == ["announcer"]


async def test_a_screen_reader_hears_what_became_of_a_stop(page: Page) -> None:
    async with serving(two_who_never_end()) as served:
        await page.goto(f"http://localhost:{served.port}")
        await page.evaluate(RECORD_ANNOUNCEMENTS)
        await page.get_by_label("Input").press("Control+Enter")
        await expect(written(page, "Editor")).to_have_text("Once upon")
        await page.get_by_role("button", name="Stop Writer").click()
        await holds(page, "/Writer: stopped\\. Stopped in \\d+ ms/.test(window.said.at(-1))")
        await part(page, "stop").click()
        await holds(page, "/The run: cancelled\\. Stopped in \\d+ ms/.test(window.said.at(-1))")


Scheme = Literal["light", "dark"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_a_scan_for_barriers_finds_none(
    page: Page, size: tuple[int, int], scheme: Scheme
) -> None:
    await page.set_viewport_size({"width": size[0], "height": size[1]})
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    async with serving(two_who_never_end()) as served:
        url = f"http://localhost:{served.port}"
        await page.goto(url)
        await expect(page.locator("#curl li")).to_have_count(3)
        assert await barriers(page) == []
        await start(page, url)
        await expect(written(page, "Editor")).to_have_text("Once upon")
        await page.locator("#curl summary").click()
        await page.locator(".step summary").first.click()
        assert await barriers(page) == []
        await page.get_by_role("button", name="Stop Writer").click()
        await expect_state(page, "Writer", "stopped")
        await part(page, "stop").click()
        await expect_part(page, "connection", "ended")
        assert await barriers(page) == []
        assert await is_no_wider_than_the_window(page)


async def barriers(page: Page) -> list[str]:
    """Run axe-core; return what it finds, serious or not."""
    axe = files("axe_playwright_python") / "axe.min.js"
    await page.evaluate(axe.read_text("utf-8"))
    found: dict[str, Any] = await page.evaluate("axe.run()")
    return [
        f"{one['impact']}: {one['id']}: {[node['html'] for node in one['nodes']]}"
        for one in found["violations"]
    ]


async def is_no_wider_than_the_window(page: Page) -> bool:
    width = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return bool(width <= 0)


@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1280, 1920])
async def test_no_width_needs_sideways_scrolling(page: Page, width: int) -> None:
    never = anyio.Event()
    cast = Cast(
        delegating_to("writer"),
        {"writer": lambda _: [Say("w" * 300 + " " + "語" * 90), Until(never)]},
    )
    await page.set_viewport_size({"width": width, "height": 800})
    async with serving(cast) as served:
        await page.goto(f"http://localhost:{served.port}")
        assert await is_no_wider_than_the_window(page)
        await start(page, f"http://localhost:{served.port}")
        await expect_state(page, "Writer", "writing")
        assert await is_no_wider_than_the_window(page)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_stop_is_within_reach_however_far_down_one_reads(
    page: Page, size: tuple[int, int]
) -> None:
    never = anyio.Event()
    cast = Cast(
        delegating_to("writer", "editor"),
        {name: lambda _: [Say("line\n" * 200), Until(never)] for name in ("writer", "editor")},
    )
    await page.set_viewport_size({"width": size[0], "height": size[1]})
    async with serving(cast) as served:
        await start(page, f"http://localhost:{served.port}")
        await expect_state(page, "Editor", "writing")
        await page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        await expect(page.locator(".figures")).not_to_be_in_viewport()
        await expect(part(page, "stop")).to_be_in_viewport(ratio=1)
        await part(page, "stop").click()
        await expect_part(page, "status", "cancelled")
