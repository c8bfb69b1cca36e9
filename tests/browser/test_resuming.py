"""Reloads, cuts, sleeps and restarts: the page goes on where it was, or says that it cannot."""

from __future__ import annotations

import re
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from playwright.async_api import Page, Route, expect

from app.models.scripted import Say, Until
from tests.api.serving import serving
from tests.browser.logs import WORDS, hand_made
from tests.browser.ports import free_port
from tests.browser.seen import expect_part, part, start, written
from tests.browser.waiting import until
from tests.browser.wire import wired
from tests.runtime.playing import Cast
from tests.service import service

pytestmark = [pytest.mark.anyio, pytest.mark.system]

RECORD_FRAMES = """
    window.frames_seen = [];
    const look = () => {
        const text = document.querySelector('.members .piece.text')?.textContent ?? '';
        if (text !== window.frames_seen.at(-1)) window.frames_seen.push(text);
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
"""


async def frames_seen(page: Page) -> list[str]:
    seen: list[str] = await page.evaluate("window.frames_seen")
    return [text for text in seen if text]


async def test_a_reload_in_mid_run_shows_no_gap_no_duplicate_and_no_flicker(page: Page) -> None:
    await page.add_init_script(RECORD_FRAMES)
    async with serving(Cast(lambda _: [])) as served:
        run = await hand_made(served.services.store)
        run.begin()
        run.write(500)
        url = f"http://localhost:{served.port}/?run={run.run_id}"
        await page.goto(url)
        for _ in range(5):
            await page.reload(wait_until="commit")
            with anyio.fail_after(20):
                while not await frames_seen(page):
                    run.write(20)
            run.write(100)
            await expect_part(page, "events", f"{run.length:,}")
            await expect_part(page, "connection", "live")
            seen = await frames_seen(page)
            assert len(seen[0]) > 500, "the text is there with the first frame that shows any"
            for before, after in pairwise(seen):
                assert after.startswith(before)
        whole = "".join(WORDS[place % len(WORDS)] for place in range(3, run.length))
        assert await written(page, "Writer").text_content() == whole
        run.answer(10)
        await expect_part(page, "connection", "ended")


async def test_the_page_survives_a_cut_network(page: Page) -> None:
    async with serving(Cast(lambda _: [])) as served, wired(served.port) as wire:
        run = await hand_made(served.services.store)
        run.begin()
        run.write(100)
        await page.goto(f"{wire.url}/?run={run.run_id}")
        await expect_part(page, "events", "103")
        await expect_part(page, "connection", "live")
        wire.cut()
        await expect_part(page, "connection", "reconnecting behind event 103")
        run.write(100)
        wire.mend()
        await expect_part(page, "events", "203")
        await expect_part(page, "connection", "live")
        await assert_whole(page, run.length)
        assert b"last-event-id: 103" in wire.requests[-1].lower()


async def assert_whole(page: Page, length: int) -> None:
    whole = "".join(WORDS[place % len(WORDS)] for place in range(3, length))
    assert await written(page, "Writer").text_content() == whole


async def test_a_connection_that_died_in_a_sleep_is_replaced(page: Page) -> None:
    await page.clock.install()
    async with serving(Cast(lambda _: [])) as served, wired(served.port) as wire:
        run = await hand_made(served.services.store)
        run.begin()
        run.write(100)
        await page.goto(f"{wire.url}/?run={run.run_id}")
        await expect_part(page, "events", "103")
        await expect_part(page, "connection", "live")
        wire.freeze()
        run.write(100)
        await page.clock.fast_forward("10:00")
        await expect_part(page, "events", "203")
        await assert_whole(page, run.length)


SHOW = """(isHidden) => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => isHidden });
    document.dispatchEvent(new Event('visibilitychange'));
}"""


async def test_a_tab_that_is_looked_at_again_replaces_what_died_behind_it(page: Page) -> None:
    await page.clock.install()
    async with serving(Cast(lambda _: [])) as served, wired(served.port) as wire:
        run = await hand_made(served.services.store)
        run.begin()
        run.write(100)
        await page.goto(f"{wire.url}/?run={run.run_id}")
        await expect_part(page, "events", "103")
        await page.evaluate(SHOW, True)
        wire.freeze()
        run.write(100)
        await page.clock.run_for("01:00")
        assert len(wire.requests) == 1, "nobody looks"
        await page.evaluate(SHOW, False)
        await expect_part(page, "events", "203")
        await assert_whole(page, run.length)
        assert len(wire.requests) == 2


async def test_a_network_that_is_back_is_used_at_once(page: Page) -> None:
    async with serving(Cast(lambda _: [])) as served, wired(served.port) as wire:
        run = await hand_made(served.services.store)
        run.begin()
        run.write(100)
        await page.goto(f"{wire.url}/?run={run.run_id}")
        await expect_part(page, "events", "103")
        wire.freeze()
        run.write(100)
        await page.evaluate("dispatchEvent(new Event('online'))")
        await expect_part(page, "events", "203")
        await expect_part(page, "connection", "live")
        await assert_whole(page, run.length)


FOLLOW = """async (run) => {
    const { Follower } = await import('/assets/follower.js');
    const findRun = async () => (await fetch(`/runs/${run.run_id}`)).json();
    return new Promise((resolve) => {
        const onState = (state) => state === 'ended' && resolve(state);
        const onEvent = (event) => resolve(event);
        const follower = new Follower(run.links, { findRun, onEvent, onState });
        follower.cursor = run.last_event_id;
        follower.open();
    });
}"""


async def test_a_reader_at_the_end_of_the_log_is_answered_with_204_and_stops(page: Page) -> None:
    async with serving() as served:
        run = await served.finish()
        await page.goto(f"http://localhost:{served.port}")
        async with page.expect_response("**/events*") as answer:
            assert await page.evaluate(FOLLOW, run) == "ended"
        assert (await answer.value).status == 204


async def test_nothing_is_asked_for_behind_the_final_event(page: Page) -> None:
    await page.add_init_script(
        """window.sources = [];
        window.EventSource = class extends EventSource {
            constructor(url) { super(url); window.sources.push(this); }
        };"""
    )
    async with serving() as served:
        await start(page, f"http://localhost:{served.port}")
        await expect_part(page, "connection", "ended")
        closed = await page.evaluate("window.sources.map((source) => source.readyState)")
        assert closed == [2]


async def test_an_overloaded_service_is_waited_for(page: Page) -> None:
    async with serving(Cast(lambda _: [Say("Done.")])) as served:
        run = await served.finish()
        busy: dict[str, Any] = {"body": "retry: 100\n: busy\n", "content_type": "text/event-stream"}
        left = [busy, busy]

        async def answer(route: Route) -> None:
            if left:
                await route.fulfill(**left.pop())
            else:
                await route.continue_()

        await page.route("**/events*", answer)
        await page.goto(f"http://localhost:{served.port}/?run={run['run_id']}")
        await expect_part(page, "connection", "ended")
        assert not left


async def test_a_service_that_forgot_the_run_is_told_as_such(page: Page) -> None:
    settings = {"MODEL": "scripted:", "STORE_URL": "memory:", "PORT": free_port()}
    async with service(**settings) as first:
        await start(page, first.url)
        await expect(written(page, "StorytellerAgent")).to_contain_text("In the valley")
        first.stop(signal.SIGKILL)
        await first.ended()
        await expect(part(page, "connection")).to_have_text(re.compile("^reconnecting behind "))
    async with service(**settings):
        await expect(part(page, "connection")).to_contain_text("does not know this run any more")
        await expect_part(page, "status", "lost")
        await expect(written(page, "StorytellerAgent")).to_contain_text("In the valley")
        await expect(part(page, "stop")).to_be_hidden()


async def test_a_killed_service_that_comes_back_tells_how_the_run_ended(
    page: Page, tmp_path: Path
) -> None:
    store = f"sqlite:{tmp_path / 'runs.db'}"
    settings = {"MODEL": "scripted:", "STORE_URL": store, "LEASE_TTL_S": "1"}
    settings["PORT"] = free_port()
    async with service(**settings) as first:
        run_id = await start(page, first.url)
        await expect(written(page, "StorytellerAgent")).to_contain_text("In the valley")
        first.stop(signal.SIGKILL)
        await first.ended()
        await expect(part(page, "connection")).to_have_text(re.compile("^reconnecting behind "))
        said = await written(page, "StorytellerAgent").text_content() or ""
    async with service(**settings) as second, second.client() as client:
        await expect(part(page, "connection")).to_have_text("ended", timeout=20_000)
        await expect_part(page, "status", "error")
        run = (await client.get(f"/runs/{run_id}")).json()
        assert run["error"]["code"] == "interrupted"
        await expect_part(page, "notice", run["error"]["message"])
        told = await written(page, "StorytellerAgent").text_content() or ""
        assert told == run["members"][0]["content"]
        assert told.startswith(said)


async def test_leaving_a_run_closes_its_stream(page: Page) -> None:
    never = anyio.Event()
    async with serving(Cast(lambda _: [Say("Once"), Until(never)])) as served:
        await start(page, f"http://localhost:{served.port}")
        await expect(written(page, "Leader")).to_have_text("Once")
        await page.get_by_role("link", name="team-runs").click()
        await expect(page.locator("#welcome")).to_be_visible()
        await until(lambda: served.services.readers.count == 0)
