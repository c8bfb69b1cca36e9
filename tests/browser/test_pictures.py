"""Pictures of the page, to be looked at: on a desk and on a phone, in the light and in the dark.

They go to the folder that the environment variable PICTURES names, else to a temporary one. The
README's is made with `PICTURES=tests/browser .venv/bin/pytest tests/browser/test_pictures.py`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Page, expect

from tests.browser.png import with_palette
from tests.browser.seen import expect_part, expect_state, part, start, written
from tests.service import service

pytestmark = [pytest.mark.anyio, pytest.mark.system]

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


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_can_be_shown(
    page: Page, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    folder = Path(os.environ.get("PICTURES", tmp_path))
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    async with service(**settings(tmp_path)) as running:

        async def take(name: str) -> None:
            for size, width, height in (("desktop", 1280, 900), ("phone", 390, 844)):
                await page.set_viewport_size({"width": width, "height": height})
                path = tmp_path / f"{size}-{scheme}-{name}.png"
                await page.screenshot(path=path, full_page=size == "phone")
            await page.set_viewport_size({"width": 1280, "height": 900})

        await page.goto(running.url)
        await expect(page.locator("#curl li")).to_have_count(3)
        await take("start")
        await start(page, running.url)
        await expect_state(page, "EditorAgent", "writing")
        await expect(written(page, "EditorAgent")).to_contain_text("very gently,")
        await expect(page.locator("#runs li")).to_have_count(1)
        if scheme == "light":
            await page.set_viewport_size({"width": 1280, "height": 960})
            picture = with_palette(await page.screenshot())
            assert len(picture) < MOST_BYTES
            (folder / README_PICTURE).write_bytes(picture)
        await take("working")
        await page.get_by_role("button", name="Stop EditorAgent").click()
        await expect_state(page, "EditorAgent", "stopped")
        await part(page, "stop").click()
        await expect_part(page, "connection", "ended")
        await take("stopped")
