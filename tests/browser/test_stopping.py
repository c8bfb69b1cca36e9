"""Stop, for the run and for one member: answered at once, kept, and told when too late."""

from __future__ import annotations

import re

import anyio
import pytest
from playwright.async_api import Page, Route, expect

from app.models.scripted import Say, Until
from tests.api.serving import serving
from tests.browser.casts import two_who_never_end
from tests.browser.seen import expect_part, expect_state, lane, part, start, written
from tests.browser.wire import wired
from tests.runtime.playing import Cast

pytestmark = [pytest.mark.anyio, pytest.mark.system]

STOPPED = re.compile(r"^Stopped in \d+ ms\. What was said is kept\.$")


async def test_the_run_is_stopped_and_what_was_said_is_kept(page: Page) -> None:
    async with serving(two_who_never_end()) as served:
        run_id = await start(page, f"http://localhost:{served.port}")
        for name in ("Writer", "Editor"):
            await expect(written(page, name)).to_have_text("Once upon")
        await part(page, "stop").click()
        await expect_part(page, "status", "cancelled")
        await expect(part(page, "notice")).to_have_text(STOPPED)
        for name in ("Leader", "Writer", "Editor"):
            await expect_state(page, name, "stopped")
        await expect(written(page, "Writer")).to_have_text("Once upon")
        await expect(page.locator(".step .state").first).to_contain_text("stopped")
        await expect(page.locator("#runs .badge")).to_have_text("cancelled")
        assert (await served.run(run_id)).status == "cancelled"


async def test_a_member_is_stopped_alone_and_the_others_go_on(page: Page) -> None:
    async with serving(two_who_never_end()) as served:
        run_id = await start(page, f"http://localhost:{served.port}")
        await expect(written(page, "Writer")).to_have_text("Once upon")
        await page.get_by_role("button", name="Stop Writer").click()
        await expect_state(page, "Writer", "stopped")
        await expect(lane(page, "Writer").locator(".notice")).to_have_text(STOPPED)
        await expect_state(page, "Editor", "writing")
        await expect_part(page, "status", "running")
        await page.get_by_role("button", name="Stop Editor").click()
        await expect(written(page, "Leader")).to_have_text("Our tale.")
        await expect_part(page, "status", "completed")
        assert (await served.run(run_id)).status == "completed"


async def test_stop_answers_within_a_frame_before_the_service_does(page: Page) -> None:
    async with serving(two_who_never_end()) as served:
        await start(page, f"http://localhost:{served.port}")
        await expect(written(page, "Writer")).to_have_text("Once upon")
        answered, asked = anyio.Event(), anyio.Event()

        async def hold(route: Route) -> None:
            asked.set()
            await answered.wait()
            await route.continue_()

        await page.route(f"**/runs/{page.url.partition('run=')[2]}", hold)
        told = await page.evaluate(
            """async () => {
                document.querySelector('[data-part="stop"]').click();
                await new Promise(requestAnimationFrame);
                return document.querySelector('#run > .notice').textContent;
            }"""
        )
        assert told == "Stopping…"
        await expect_part(page, "status", "cancelling")
        with anyio.fail_after(10):
            await asked.wait()
        answered.set()
        await expect_part(page, "status", "cancelled")


async def test_a_stop_that_comes_too_late_is_told_as_such(page: Page) -> None:
    end = anyio.Event()
    cast = Cast(lambda _: [Say("Done."), Until(end)])
    async with serving(cast) as served, wired(served.port) as wire:
        run_id = await start(page, wire.url)
        await expect(written(page, "Leader")).to_have_text("Done.")
        await expect_part(page, "connection", "live")  # the text may be from before it
        wire.freeze()  # the page does not hear of the end
        end.set()
        await served.ended(run_id)
        await part(page, "stop").click()
        told = "Too late: it had answered before the stop arrived."
        await expect_part(page, "notice", told)
        await expect_part(page, "status", "completed")  # over a connection that is not frozen
        await expect_part(page, "connection", "ended")
        await expect_part(page, "notice", told)


async def test_a_stop_that_cannot_be_sent_is_told_and_can_be_pressed_again(page: Page) -> None:
    async with serving(two_who_never_end()) as served, wired(served.port) as wire:
        await start(page, wire.url)
        await expect(written(page, "Writer")).to_have_text("Once upon")
        wire.cut()
        await part(page, "stop").click()
        await expect(part(page, "notice")).to_contain_text("Not stopped")
        wire.mend()
        await part(page, "stop").click()
        await expect_part(page, "status", "cancelled")
