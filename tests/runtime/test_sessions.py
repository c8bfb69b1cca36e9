"""What a leader remembers of its session: what was asked and answered, the newest that fits."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.domain.errors import ModelFailed, StoreUnavailable
from app.domain.run import Run
from app.models.scripted import Fail, Pause, Say, Script, Step
from app.ports import AssistantTurn, Filter, ModelRequest, UserText
from app.runtime.orders import Order
from app.runtime.run_log import Limits
from app.stores.memory import MemoryStore
from tests.runtime.playing import Cast, Stage, delegating_to, playing, saying

pytestmark = pytest.mark.anyio


def told(request: ModelRequest) -> list[str]:
    """The texts of a conversation, in order."""
    return [
        item.text for item in request.conversation if isinstance(item, UserText | AssistantTurn)
    ]


async def say(stage: Stage, input_: str, session: str | None = "s", tenant: str = "") -> list[str]:
    """Run to the end, and return what the leader was told."""
    seen = len(stage.cast.models["leader"].requests)
    run = await stage.start(Order(input_, session_id=session, tenant=tenant))
    await stage.log(run)
    return told(stage.cast.models["leader"].requests[seen])


async def test_a_run_is_told_its_sessions_runs_oldest_first() -> None:
    async with playing(Cast(saying("fine"))) as stage:
        await say(stage, "one")
        await say(stage, "two")
        assert await say(stage, "three") == ["one", "fine", "two", "fine", "three"]


async def test_a_session_is_its_tenants_and_its_own() -> None:
    async with playing(Cast(saying("fine"))) as stage:
        await say(stage, "one")
        assert await say(stage, "alone", None) == ["alone"]
        assert await say(stage, "elsewhere", "t") == ["elsewhere"]
        assert await say(stage, "somebody else", "s", tenant="other") == ["somebody else"]


async def test_a_stopped_answer_says_so_and_a_failed_run_says_nothing() -> None:
    def leader(request: ModelRequest) -> list[Step]:
        match told(request)[-1]:
            case "stop me":
                return [Say("half"), Pause(3600)]
            case "fail":
                return [Fail(ModelFailed("model_error", "It failed."))]
        return [Say("fine")]

    async with playing(Cast(leader)) as stage:
        run = await stage.start(Order("stop me", session_id="s"))
        await stage.until(run, lambda: run.content == "half")
        await stage.runner.cancel(run.run_id, None, "request")
        await stage.log(run)
        await say(stage, "fail")
        assert await say(stage, "next") == ["stop me", "half [stopped]", "next"]


async def test_the_newest_that_fit_are_told() -> None:
    async with playing(Cast(saying("12345")), Limits(session_max_chars=25)) as stage:
        for input_ in ("first", "secnd", "third"):
            await say(stage, input_)
        assert await say(stage, "last") == ["secnd", "12345", "third", "12345", "last"]


async def test_a_session_of_more_runs_than_a_page_is_told_whole() -> None:
    async with playing(Cast(saying("y"))) as stage:
        for number in range(60):
            await say(stage, str(number))
        assert (await say(stage, "last"))[::2] == [*map(str, range(60)), "last"]


class Forgetful(MemoryStore):
    """Removes a run when a list has come to it."""

    async def list(self, which: Filter) -> Sequence[Run]:
        page = await super().list(which)
        if len(page) == which.limit:
            await self.purge(page[-1].run_id)
        return page


async def test_a_session_of_which_runs_are_removed_meanwhile_is_told_as_far_as_it_goes() -> None:
    async with playing(Cast(saying("y")), store=Forgetful()) as stage:
        for number in range(51):
            await say(stage, str(number))
        assert (await say(stage, "last"))[::2] == [*map(str, range(1, 51)), "last"]


async def test_a_broken_tool_call_in_history_breaks_nothing() -> None:
    broken: Script = delegating_to("nobody")
    async with playing(Cast(broken)) as stage:
        await say(stage, "one")
        request = stage.cast.models["leader"].requests
        seen = len(request)
        await say(stage, "two")
        assert all(isinstance(i, UserText | AssistantTurn) for i in request[seen].conversation)
        assert not any(i.calls for i in request[seen].conversation if isinstance(i, AssistantTurn))


class Listless(MemoryStore):
    """Cannot list."""

    async def list(self, which: Filter) -> Sequence[Run]:
        raise StoreUnavailable("it was unplugged")


async def test_a_session_that_cannot_be_read_ends_the_run() -> None:
    limits = Limits(store_patience_s=0)
    async with playing(Cast(saying("x")), limits, store=Listless()) as stage:
        events = await stage.log(await stage.start(Order("x", session_id="s")))
    assert [event["event"] for event in events] == ["TeamRunError"]
    assert events[0]["error"]["code"] == "store_unavailable"
