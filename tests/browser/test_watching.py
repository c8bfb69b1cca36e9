"""Start a team, watch it work, look back at what it did."""

from __future__ import annotations

import re
from pathlib import Path

import anyio
import pytest
from playwright.async_api import Page, expect

from app.domain.errors import ModelFailed
from app.domain.events import Usage
from app.models.scripted import Call, Fail, Report, Say, Step, Think, Until
from app.ports import ModelRequest
from tests.api.serving import serving
from tests.browser.seen import expect_part, expect_state, lane, part, press_start, start, written
from tests.runtime.playing import Cast, delegating_to, has_result, saying
from tests.service import service

pytestmark = [pytest.mark.anyio, pytest.mark.system]

FIGURES_SHOWN = {
    "elapsed": r"^\d+\.\d s$",
    "tokens": r"^≈ [1-9]\d*$",
    "rate": r"^≈ \d+\.\d$",
    "events": "^15$",
}
HOSTILE = (
    "<img src=x onerror=alert(1)><script>document.title='owned'</script>\n"
    "</textarea></p></div> &lt;b&gt; ${1+1} {{2*2}}\r\n"
    '"><a href="javascript:alert(1)">link</a>\u2028\u202eright to left\u202c \x00\x1b[31m'
)


async def test_a_team_is_chosen_started_and_seen_at_work(page: Page) -> None:
    more, end = anyio.Event(), anyio.Event()
    cast = Cast(
        delegating_to("writer", "editor", then="Our tale."),
        {
            "writer": lambda _: [Say("Once "), Say("upon"), Until(more), Say(" a time.")],
            "editor": lambda _: [Until(end), Report(Usage(7, 5, 12)), Say("Mended.")],
        },
    )
    async with serving(cast) as served:
        url = f"http://localhost:{served.port}"
        await page.goto(url)
        about = page.locator("#about-team")
        for words in ("coordinate", "Leader", "Writer", "Editor", "scripted:"):
            await expect(about).to_contain_text(words)
        await start(page, url)
        await expect(written(page, "Writer")).to_have_text("Once upon")
        await expect(lane(page, "Writer").locator(".piece.task")).to_have_text("Go.")
        for name, state in {"Leader": "waiting", "Writer": "writing", "Editor": "thinking"}.items():
            await expect_state(page, name, state)
        await expect_part(page, "status", "running")
        await expect_part(page, "connection", "live")
        await expect(page.locator(".step .who")).to_have_text(
            ["Leader → Writer", "Leader → Editor"]
        )
        await expect(page.locator(".step .task")).to_have_text(["Go.", "Go."])
        more.set()
        await expect(written(page, "Writer")).to_have_text("Once upon a time.")
        await expect_state(page, "Writer", "done")
        await expect(page.locator(".step .state").first).to_contain_text("done")
        end.set()
        await expect(written(page, "Leader")).to_have_text("Our tale.")
        for name in ("Leader", "Writer", "Editor"):
            await expect_state(page, name, "done")
        await expect_part(page, "status", "completed")
        await expect_part(page, "connection", "ended")
        await expect(part(page, "stop")).to_be_hidden()
        for name, form in FIGURES_SHOWN.items():
            await expect(part(page, name)).to_have_text(re.compile(form))
        bars = page.locator('.timeline li:has-text("Writer") rect[data-state="writing"]')
        await expect(bars).to_have_count(1)


async def test_a_finished_run_opens_from_its_address_as_it_was(page: Page) -> None:
    cast = Cast(
        lambda request: (
            [Say("The end.")]
            if has_result(request)
            else [
                Think("Who could? "),
                Say("I ask the writer."),
                *delegating_to("writer")(request),
            ]
        ),
        {"writer": saying("A ", "tale.\n\nThe second\n  paragraph.")},
    )
    async with serving(cast) as served:
        run = await served.finish()
        await page.goto(f"http://localhost:{served.port}/?run={run['run_id']}")
        await expect_part(page, "connection", "ended")
        await expect(written(page, "Leader")).to_have_text(["I ask the writer.", "The end."])
        await expect(lane(page, "Leader").locator(".piece.thinking")).to_have_text("Who could? ")
        told = await written(page, "Writer").text_content()
        assert told == "A tale.\n\nThe second\n  paragraph."
        assert "second\n  paragraph." in await written(page, "Writer").inner_text()
        await expect_part(page, "events", str(run["last_event_id"]))


async def test_the_address_of_a_member_run_leads_to_its_team(page: Page) -> None:
    cast = Cast(delegating_to("writer"), {"writer": saying("A tale.")})
    async with serving(cast) as served:
        run = await served.finish()
        await page.goto(f"http://localhost:{served.port}/?run={run['members'][0]['run_id']}")
        await page.wait_for_url(f"**/?run={run['run_id']}")
        await expect(written(page, "Writer")).to_have_text("A tale.")


async def test_an_address_of_no_run_says_so(page: Page) -> None:
    async with serving() as served:
        await page.goto(f"http://localhost:{served.port}/?run=<b>none</b>")
        await expect(page.get_by_role("heading", name="There is no such run")).to_be_visible()
        await page.get_by_role("link", name="Back to the start").click()
        await expect(page.get_by_role("heading", name="Watch a team work")).to_be_visible()


async def test_tools_and_broadcasts_are_steps_between_lanes(page: Page) -> None:
    cast = Cast(
        lambda request: (
            [Say("The end.")]
            if has_result(request)
            else [Call("delegate_task_to_members", {"task": "All of you."}), Call("nothing", "{")]
        ),
        {"writer": saying("A tale."), "editor": saying("Mended.")},
        mode="broadcast",
    )
    async with serving(cast) as served:
        run = await served.finish()
        await page.goto(f"http://localhost:{served.port}/?run={run['run_id']}")
        await expect_part(page, "connection", "ended")
        steps = page.locator(".step .who")
        await expect(steps).to_have_text(["Leader → Writer, Editor", "Leader → nothing"])
        await expect(page.locator(".step .state").nth(1)).to_contain_text("failed")


async def test_in_a_routed_run_the_members_text_is_the_answer_and_counted_once(page: Page) -> None:
    end = anyio.Event()
    cast = Cast(
        lambda _: [Call("delegate_task_to_member", {"member_id": "writer"})],
        {"writer": lambda _: [Say("Four " * 40), Until(end), Say("words.")]},
        mode="route",
    )
    async with serving(cast) as served:
        await start(page, f"http://localhost:{served.port}")
        await expect(written(page, "Leader")).to_have_text("Four " * 40)
        await expect_part(page, "tokens", "≈ 50")
        await expect_part(page, "mode", "route")
        end.set()
        await expect_part(page, "connection", "ended")
        for name in ("Leader", "Writer"):
            await expect(written(page, name)).to_have_text("Four " * 40 + "words.")
        await expect(page.locator(".step .who")).to_have_text(["Leader → Writer"])


async def test_a_failure_is_told_with_what_was_said(page: Page) -> None:
    failed = ModelFailed("model_error", "The provider failed.")
    async with serving(Cast(lambda _: [Say("Once upon"), Fail(failed)])) as served:
        await start(page, f"http://localhost:{served.port}")
        await expect_part(page, "status", "error")
        await expect_part(page, "notice", "The provider failed.")
        await expect_state(page, "Leader", "failed")
        await expect(written(page, "Leader")).to_have_text("Once upon")


@pytest.mark.parametrize("is_reloaded", [False, True], ids=["live", "reloaded"])
async def test_hostile_text_stays_text(page: Page, *, is_reloaded: bool) -> None:
    def leader(request: ModelRequest) -> list[Step]:
        call = Call("delegate_task_to_member", {"member_id": "writer", "task": HOSTILE})
        return [Say(HOSTILE)] if has_result(request) else [Think(HOSTILE), call]

    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    async with serving(Cast(leader, {"writer": saying(HOSTILE)})) as served:
        url = f"http://localhost:{served.port}"
        await page.goto(url)
        await page.get_by_label("Input").fill(HOSTILE)
        await press_start(page)
        await expect_part(page, "connection", "ended")
        if is_reloaded:
            await page.reload()
            await expect_part(page, "connection", "ended")
        for name in ("Leader", "Writer"):
            told = await written(page, name).evaluate("piece => piece.textContent")
            assert told == HOSTILE
        marked = page.locator("#run img, #run script, #run .piece a, #runs img")
        await expect(marked).to_have_count(0)
        await expect(page.locator("#runs .words").first).to_contain_text("<img src=x")
        assert await page.title() != "owned"
        assert not dialogs


async def test_runs_are_listed_with_their_status_filtered_and_opened(page: Page) -> None:
    hold = anyio.Event()
    cast = Cast(lambda request: [Say("Hm."), *([Until(hold)] if "wait" in str(request) else [])])
    async with serving(cast) as served:
        done = await served.finish(input="Be quick.")
        await served.start(input="Please wait.")
        await page.goto(f"http://localhost:{served.port}")
        words = page.locator("#runs .words")
        await expect(words).to_have_text(["Please wait.", "Be quick."])
        await expect(page.locator("#runs .badge")).to_have_text(["running", "completed"])
        await page.get_by_label("Status").select_option("completed")
        await expect(words).to_have_text(["Be quick."])
        await page.get_by_label("Status").select_option("error")
        await expect(page.get_by_text("None yet.")).to_be_visible()
        await page.get_by_label("Status").select_option("")
        await page.get_by_role("link", name="Be quick.").click()
        await page.wait_for_url(f"**/?run={done['run_id']}")
        await expect(written(page, "Leader")).to_have_text("Hm.")
        await page.go_back()
        await expect(page.locator("#welcome")).to_be_visible()
        await expect(page.locator("#run")).to_be_hidden()
        hold.set()


TWO_TEAMS = """
teams:
  - {id: one, name: First Team, members: [{id: writer, name: Writer}]}
  - id: two
    name: Second Team
    description: Hands it on.
    mode: broadcast
    members: [{id: reader, name: Reader}, {id: critic, name: Critic}]
"""


async def test_another_team_can_be_chosen_and_its_runs_alone_be_listed(
    page: Page, tmp_path: Path
) -> None:
    teams_file = tmp_path / "teams.yaml"
    teams_file.write_text(TWO_TEAMS)
    settings = {"MODEL": "scripted:", "STORE_URL": "memory:", "TEAMS_FILE": str(teams_file)}
    async with service(**settings) as running:
        await start(page, running.url)
        await expect_part(page, "team", "First Team")
        await page.get_by_label("Team", exact=True).select_option("Second Team")
        about = page.locator("#about-team")
        for words in ("Hands it on.", "broadcast", "Reader", "Critic"):
            await expect(about).to_contain_text(words)
        await page.get_by_label("Input").fill("For the second.")
        await press_start(page)
        await expect_part(page, "team", "Second Team")
        await expect(written(page, "Critic")).to_contain_text("In the valley")
        await expect(page.locator("#runs li")).to_have_count(2)
        await page.get_by_label("Team of the runs").select_option("Second Team")
        await expect(page.locator("#runs .words")).to_have_text(["For the second."])


async def test_a_member_that_nobody_asked_does_not_wait_for_ever(page: Page) -> None:
    cast = Cast(delegating_to("writer"), {"writer": saying("A tale."), "editor": saying("No.")})
    async with serving(cast) as served:
        await start(page, f"http://localhost:{served.port}")
        await expect_part(page, "connection", "ended")
        await expect_state(page, "Writer", "done")
        await expect_state(page, "Editor", "not asked")


async def test_more_runs_than_a_page_are_shown_on_demand(page: Page) -> None:
    async with serving() as served:
        for number in range(25):
            await served.finish(input=f"Run {number}")
        await page.goto(f"http://localhost:{served.port}")
        await expect(page.locator("#runs li")).to_have_count(20)
        await page.get_by_role("button", name="Older runs").click()
        await expect(page.locator("#runs li")).to_have_count(25)
        await expect(page.get_by_role("button", name="Older runs")).to_be_hidden()


async def test_the_page_teaches_the_curl_commands_for_what_it_did(page: Page) -> None:
    async with serving() as served:
        url = f"http://localhost:{served.port}"
        await page.goto(url)
        commands = page.locator("#curl code")
        await page.get_by_label("Input").fill("It's me.")
        await expect(commands).to_have_text(
            [
                f"curl {url}/teams",
                f"curl {url}/runs",
                f"""curl --json '{{"team":"team","input":"It'\\''s me."}}' {url}/runs""",
            ]
        )
        run_id = await start(page, url)
        await page.locator("#curl summary").click()
        await expect(commands.nth(3)).to_have_text(f"curl -N {url}/runs/{run_id}/events")


async def test_what_the_service_refuses_is_told_where_it_was_asked(page: Page) -> None:
    async with serving() as served:
        await page.goto(f"http://localhost:{served.port}")
        await page.get_by_label("Input").fill("   ")
        await press_start(page)
        await expect(page.get_by_role("alert").first).to_contain_text("input")
        await expect(page.locator("#welcome")).to_be_visible()
