"""Pictures of the page, to be looked at: on a desk and on a phone, in the light and in the dark.

They go to the folder that the environment variable ALBUM names, else to a temporary one. The
README's is made with `PICTURES=tests/browser .venv/bin/pytest tests/browser/test_pictures.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from playwright.async_api import Page, Route, expect

from app.domain.errors import ModelFailed
from app.models.scripted import Fail, Say, Step, Until
from tests.api.keyed import keyed
from tests.api.serving import serving
from tests.browser.png import with_palette
from tests.browser.seen import expect_part, expect_state, part, start, written
from tests.browser.wire import wired
from tests.runtime.playing import Cast
from tests.service import service

pytestmark = [pytest.mark.anyio, pytest.mark.system]

Scheme = Literal["light", "dark"]
BOTH_SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])
README_PICTURE = "page.png"
MOST_BYTES = 150_000

TASK = "Write a short story about a dragon who learns to code."
REVIEW = "Review the story: keep her voice, mend the ending."
PLAN = "I'll have the story written first, then reviewed.\n"
STORY = (
    "Ember was the smallest dragon of the valley, and the only one who was afraid of her own fire."
    " So she sat in the ruined library and turned the pages with the tips of her claws.\n\n"
    "One evening a traveller left a machine there. When she touched it, a line appeared: hello,"
    " who are you? Her first program counted sheep."
)
MENDED = (
    "Her voice stays; I let the flood come early.\n\n"
    "The river rose in the night. One line was missing, and the machine was cold. So Ember did"
    " what she had never dared to do. She breathed, very gently,"
)


def script() -> dict[str, Any]:
    def ask(member: str, task: str) -> dict[str, Any]:
        return {
            "call": "delegate_task_to_member",
            "arguments": {"member_id": member, "task": task},
        }

    storyteller, editor = ask("storyteller", TASK), ask("editor", REVIEW)
    return {
        "pace_s": 0.02,
        "agents": [
            {
                "match": "who leads a team",
                "turns": [[{"say": PLAN}, {"pause": 0.3}, storyteller], [{"pause": 0.4}, editor]],
            },
            {"match": "creative", "turns": [[{"pause": 0.6}, {"say": STORY}]]},
            {"turns": [[{"pause": 0.7}, {"say": MENDED}, {"pause": 600}]]},
        ],
    }


def settings(folder: Path) -> dict[str, str]:
    """A team whose second member stops in the middle of a sentence, so that pictures hold still."""
    (folder / "script.json").write_text(json.dumps(script()))
    shipped = Path(__file__).parents[2] / "app" / "teams" / "storytelling.yaml"
    model = {"name": "example-model", "provider": "scripted", "model": str(folder / "script.json")}
    teams = f"{shipped.read_text('utf-8')}\nmodels: {json.dumps([model])}\n"
    (folder / "teams.yaml").write_text(teams)
    return {
        "TEAMS_FILE": str(folder / "teams.yaml"),
        "MODEL": "example-model",
        "STORE_URL": "memory:",
    }


class Album:
    """Takes pictures of a page on a desk and on a phone."""

    def __init__(self, page: Page, folder: Path, scheme: Scheme) -> None:
        self._page = page
        self._folder = folder
        self._scheme = scheme

    async def open(self) -> None:
        await self._page.emulate_media(color_scheme=self._scheme, reduced_motion="reduce")

    async def take(self, name: str) -> None:
        for size, width, height in (("desktop", 1280, 900), ("phone", 390, 844)):
            await self._page.set_viewport_size({"width": width, "height": height})
            path = self._folder / f"{size}-{self._scheme}-{name}.png"
            await self._page.screenshot(path=path, full_page=size == "phone")
        await self._page.set_viewport_size({"width": 1280, "height": 900})


@pytest.fixture
async def album(page: Page, tmp_path: Path, scheme: Scheme) -> Album:
    album = Album(page, Path(os.environ.get("ALBUM", tmp_path)), scheme)
    await album.open()
    return album


async def hold_stops(page: Page) -> anyio.Event:
    """Let no DELETE through until the event is set."""
    go_on = anyio.Event()

    async def hold(route: Route) -> None:
        if route.request.method == "DELETE":
            await go_on.wait()
        await route.continue_()

    await page.route("**/runs/*", hold)
    return go_on


@BOTH_SCHEMES
async def test_a_team_at_work_and_stopped_can_be_shown(
    page: Page, album: Album, scheme: Scheme, tmp_path: Path
) -> None:
    async with service(**settings(tmp_path)) as running:
        await page.goto(running.url)
        await expect(page.locator("#curl li")).to_have_count(3)
        await album.take("start")
        await start(page, running.url)
        await expect_state(page, "EditorAgent", "writing")
        await expect(written(page, "EditorAgent")).to_contain_text("very gently,")
        await expect(page.locator("#runs li")).to_have_count(1)
        if scheme == "light":
            await take_for_the_readme(page, Path(os.environ.get("PICTURES", tmp_path)))
        await album.take("working")
        go_on = await hold_stops(page)
        await page.get_by_role("button", name="Stop EditorAgent").click()
        await part(page, "stop").click()
        await expect_part(page, "status", "cancelling")
        await album.take("stopping")
        go_on.set()
        await expect_part(page, "connection", "ended")
        await album.take("stopped")


async def take_for_the_readme(page: Page, folder: Path) -> None:
    await page.set_viewport_size({"width": 1280, "height": 960})
    picture = with_palette(await page.screenshot())
    assert len(picture) < MOST_BYTES
    (folder / README_PICTURE).write_bytes(picture)


@BOTH_SCHEMES
async def test_what_went_wrong_can_be_shown(page: Page, album: Album) -> None:
    failed = ModelFailed("model_error", "The model's provider answered with the status 503.")
    end, never = anyio.Event(), anyio.Event()
    steps: Mapping[str, list[Step]] = {
        "Fail.": [Say(PLAN), Fail(failed)],
        "Be quick.": [Say(PLAN), Until(end), Say("Done.")],
        TASK: [Say(STORY), Until(never)],
    }
    cast = Cast(
        lambda request: next(done for asked, done in steps.items() if asked in str(request))
    )
    async with serving(cast) as served, wired(served.port) as wire:
        failing = await served.finish(input="Fail.")
        await page.goto(f"{wire.url}/?run={failing['run_id']}")
        await expect_part(page, "connection", "ended")
        await album.take("failed")
        slow = await served.start(input="Be quick.")
        await page.goto(f"{wire.url}/?run={slow}")
        await expect_part(page, "connection", "live")
        wire.freeze()  # the page does not hear of the end
        end.set()
        await served.ended(slow)
        await part(page, "stop").click()
        await expect(part(page, "notice")).to_contain_text("Too late")
        await album.take("too-late")
        endless = await served.start(input=TASK)
        await page.goto(f"{wire.url}/?run={endless}")
        await expect_part(page, "connection", "live")
        await expect(page.locator("#runs .badge")).to_have_text(["running", "completed", "error"])
        wire.cut()
        await expect(part(page, "connection")).to_contain_text("reconnecting")
        await album.take("reconnecting")
        wire.mend()
        await page.goto(wire.url)
        await expect(page.locator("#runs li")).to_have_count(3)
        await album.take("runs")


@BOTH_SCHEMES
async def test_the_question_for_a_key_can_be_shown(page: Page, album: Album) -> None:
    async with keyed(Cast(lambda _: [Say("Once.")])) as made:
        await page.goto(str(made.served.client.base_url))
        await page.get_by_label("Key", exact=True).fill("wrong")
        await page.get_by_role("button", name="Use it").click()
        await expect(page.locator("#key-problem")).to_be_visible()
        await album.take("key")
