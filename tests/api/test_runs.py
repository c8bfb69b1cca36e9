from __future__ import annotations

import re

import anyio
import pytest

from app.domain.errors import ModelFailed
from app.domain.events import Usage
from app.models.scripted import Fail, Report, Say, Until
from app.ports import ModelRequest
from app.runtime.runner import Capacity
from tests.api.serving import Served, services_for, serving
from tests.api.test_problems import assert_problem
from tests.runtime.playing import Cast, delegating_to, saying

pytestmark = pytest.mark.anyio

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def stuck(event: anyio.Event | None = None) -> Cast:
    """A run that says one word and then nothing, until somebody sets the event."""
    held = event or anyio.Event()
    return Cast(lambda _: [Say("Once "), Until(held), Say("more.")])


async def has_spoken(served: Served, run_id: str) -> None:
    run = await served.run(run_id)
    with anyio.fail_after(10), served.services.store.watch(run_id) as hint:
        while not run.content:
            await hint.wait()


# --- POST -----------------------------------------------------------------------------------------


async def test_a_post_is_answered_with_the_run_and_where_it_is() -> None:
    async with serving(stuck()) as served:
        body = {"input": "Hello.", "metadata": {"k": "v"}, "team": "team"}
        answer = await served.client.post("/runs", json=body)
        assert answer.status_code == 202
        run = answer.json()
        run_id = run["run_id"]
        assert UUID4.fullmatch(run_id)
        assert TIME.fullmatch(run["created_at"])
        assert answer.headers["location"] == f"/runs/{run_id}"
        path = f"/runs/{run_id}"
        assert run == {
            "run_id": run_id,
            "team_id": "team",
            "status": "pending",
            "input": "Hello.",
            "content": "",
            "finish_reason": None,
            "members": [],
            "usage": {
                "input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "estimated": False
            },
            "error": None,
            "cancel": None,
            "session_id": None,
            "metadata": {"k": "v"},
            "created_at": run["created_at"],
            "started_at": None,
            "finished_at": None,
            "last_event_id": 0,
            "links": {"self": path, "events": f"{path}/events", "cancel": path},
        }  # fmt: skip


async def test_a_post_that_waits_is_answered_with_the_final_run() -> None:
    usage = Usage(3, 2, 5)
    async with serving(Cast(lambda _: [Say("Once "), Say("more."), Report(usage)])) as served:
        answer = await served.client.post("/runs?wait=10", json={"input": "Hello."})
        assert answer.status_code == 200
        run = answer.json()
        assert (run["status"], run["content"], run["finish_reason"]) == (
            "completed",
            "Once more.",
            "stop",
        )
        assert run["usage"]["total_tokens"] == 5
        assert run["last_event_id"] == 4
        assert run == (await served.client.get(run["links"]["self"])).json()


async def test_a_post_whose_time_is_over_is_answered_with_the_run_as_it_stands() -> None:
    async with serving(stuck()) as served:
        answer = await served.client.post("/runs?wait=0.05", json={"input": "Hello."})
        assert (answer.status_code, answer.json()["status"]) == (202, "running")


async def test_any_text_comes_back_as_it_went_in() -> None:
    text = "\x00\r\n\u2028\U0001f600é\"\\'<script>"
    async with serving(Cast(saying(text))) as served:
        run = await served.finish(input=text, metadata={"é": "\u2029"})
        assert (run["input"], run["content"], run["metadata"]) == (text, text, {"é": "\u2029"})


# --- GET ------------------------------------------------------------------------------------------


async def test_a_get_that_waits_is_answered_as_soon_as_the_run_is_final() -> None:
    event = anyio.Event()
    async with serving(stuck(event)) as served:
        run_id = await served.start()
        early = await served.client.get(f"/runs/{run_id}?wait=0.05")
        assert (early.status_code, early.json()["status"]) == (200, "running")
        async with anyio.create_task_group() as group:

            async def waiting() -> None:
                answer = await served.client.get(f"/runs/{run_id}?wait=50")
                assert answer.json()["status"] == "completed"

            group.start_soon(waiting)
            await has_spoken(served, run_id)
            event.set()


async def test_a_failed_run_tells_why() -> None:
    failure = ModelFailed("model_error", "The model refused.", upstream_status=500)
    async with serving(Cast(lambda _: [Say("Once"), Fail(failure)])) as served:
        run = await served.finish()
        assert (run["status"], run["content"], run["finish_reason"]) == ("error", "Once", None)
        assert run["error"] == {
            "code": "model_error",
            "message": "The model refused.",
            "upstream_status": 500,
            "upstream_code": None,
        }


async def test_a_members_run_is_found_under_its_own_id() -> None:
    cast = Cast(delegating_to("writer"), {"writer": saying("A ", "tale.")})
    async with serving(cast) as served:
        run = await served.finish()
        (member,) = run["members"]
        path = f"/runs/{member['run_id']}"
        links = {"self": path, "events": f"{path}/events", "cancel": path}
        assert (await served.client.get(path)).json() == {**member, "links": links}
        assert (member["status"], member["content"], member["task"]) == (
            "completed",
            "A tale.",
            "Go.",
        )
        assert (member["parent_run_id"], member["agent_id"]) == (run["run_id"], "writer")


# --- DELETE ---------------------------------------------------------------------------------------


async def test_a_delete_is_taken_once_and_answered_as_often_as_asked() -> None:
    async with serving(stuck()) as served:
        run_id = await served.start()
        await has_spoken(served, run_id)
        taken = await served.client.delete(f"/runs/{run_id}?reason=first")
        again = await served.client.delete(f"/runs/{run_id}?reason=second&wait=10")
        later = await served.client.delete(f"/runs/{run_id}")
        assert (taken.status_code, taken.json()["status"]) == (202, "cancelling")
        assert (again.status_code, again.json()["status"]) == (200, "cancelled")
        assert (later.status_code, later.json()) == (200, again.json())
        assert again.json()["cancel"]["reason"] == "first"
        assert again.json()["cancel"]["by"] == "request"
        assert again.json()["content"] == "Once "
        assert again.json()["last_event_id"] == 4


async def test_a_delete_that_waits_is_answered_with_the_cancelled_run() -> None:
    async with serving(stuck()) as served:
        run_id = await served.start()
        answer = await served.client.delete(f"/runs/{run_id}?wait=10")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert answer.json()["cancel"]["reason"] is None


async def test_a_pending_run_can_be_stopped() -> None:
    services = services_for(stuck(), capacity=Capacity(running=1, pending=1))
    async with serving(services=services) as served:
        await has_spoken(served, await served.start())
        pending = await served.start()
        answer = await served.client.delete(f"/runs/{pending}?wait=10")
        assert (answer.status_code, answer.json()["last_event_id"]) == (200, 2)
        assert answer.json()["started_at"] is None


async def test_a_delete_that_comes_too_late_is_answered_with_the_final_run() -> None:
    async with serving() as served:
        run = await served.finish()
        answer = await served.client.delete(run["links"]["cancel"])
        assert_problem(answer, 409, "run_finished")
        assert answer.json()["run"] == run


async def test_a_member_is_stopped_alone() -> None:
    held = anyio.Event()
    cast = Cast(
        delegating_to("writer", then="Without it."),
        {"writer": lambda _: [Say("A "), Until(held), Say("tale.")]},
    )
    async with serving(cast) as served:
        run_id = await served.start()
        run = await served.run(run_id)
        with anyio.fail_after(10), served.services.store.watch(run_id) as hint:
            while not any(member.content for member in run.members.values()):
                await hint.wait()
        (member_id,) = run.members
        answer = await served.client.delete(f"/runs/{member_id}?reason=enough&wait=10")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert answer.json()["content"] == "A "
        assert answer.json()["parent_run_id"] == run_id
        whole = (await served.client.get(f"/runs/{run_id}?wait=10")).json()
        assert (whole["status"], whole["content"]) == ("completed", "Without it.")


# --- the list -------------------------------------------------------------------------------------


async def test_runs_are_listed_newest_first_and_page_by_page() -> None:
    async with serving() as served:
        ids = [(await served.finish(input="x" * 201))["run_id"] for _ in range(5)]
        listed: list[str] = []
        query = "limit=2"
        for size in (2, 2, 1):
            page = (await served.client.get(f"/runs?{query}")).json()
            assert len(page["runs"]) == size
            listed += [run["run_id"] for run in page["runs"]]
            query = f"limit=2&after={page['next']}"
        assert page["next"] is None
        assert listed == ids[::-1]


async def test_an_items_long_parts_are_cut_or_left_out() -> None:
    async with serving() as served:
        await served.finish(input="x" * 200)
        await served.finish(input="\U0001f600" * 201)
        long, short = (await served.client.get("/runs")).json()["runs"]
        assert (long["input"], long["input_truncated"]) == ("\U0001f600" * 200, True)
        assert (short["input"], short["input_truncated"]) == ("x" * 200, False)
        full = (await served.client.get(short["links"]["self"])).json()
        assert full.keys() - short.keys() == {"content", "members"}
        assert short.keys() - full.keys() == {"input_truncated"}


async def test_the_list_can_be_narrowed() -> None:
    def by_input(request: ModelRequest) -> list[Fail | Say]:
        broken = "break" in str(request.conversation)
        return [Fail(ModelFailed("model_error", "No."))] if broken else [Say("Yes.")]

    async with serving(Cast(by_input)) as served:
        failed = (await served.finish(input="break"))["run_id"]
        done = (await served.finish(input="go"))["run_id"]
        for query, expected in (
            ("status=error", [failed]),
            ("status=completed", [done]),
            ("status=completed&status=error", [done, failed]),
            ("status=running", []),
            ("team=team", [done, failed]),
            ("team=another", []),
            ("session_id=s", []),
            ("unknown=1&after=", [done, failed]),
        ):
            page = (await served.client.get(f"/runs?{query}")).json()
            assert [run["run_id"] for run in page["runs"]] == expected, query
