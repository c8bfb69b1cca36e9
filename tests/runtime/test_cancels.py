"""Stop means stop: at every place where a run can be, for the team and for one member."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from itertools import count

import anyio
import anyio.lowlevel
import pytest

from app.domain.errors import CancelIsDue
from app.domain.events import Entry
from app.domain.run import Cancel, Run
from app.domain.status import Status
from app.models.scripted import Call, Pause, RetrySoon, Say, Script, Until
from app.ports import FlagListener, Retry, ToolCall, ToolResult, ToolSpec
from app.runtime.runner import Capacity
from app.stores.memory import MemoryStore
from tests.runtime.playing import Cast, Stage, delegating_to, names, playing, saying

pytestmark = pytest.mark.anyio

FOREVER = 3600.0
RETRY = Retry(1, FOREVER, "rate_limited", 429)
SILENT: Script = lambda _: [Pause(FOREVER)]  # noqa: E731 - a script, said in one line
HALF: Script = lambda _: [Say("half"), Pause(FOREVER)]  # noqa: E731 - as above
WAITING: Script = lambda _: [RetrySoon(RETRY)]  # noqa: E731 - as above


def text_of_members(run: Run) -> list[str]:
    return [member.content for member in run.members.values()]


async def has_asked(stage: Stage, who: str) -> None:
    """Wait until an agent's model was called."""
    with anyio.fail_after(10):
        while not stage.cast.models[who].open:
            await anyio.lowlevel.checkpoint()


async def test_while_pending() -> None:
    async with playing(Cast(SILENT), capacity=Capacity(running=1)) as stage:
        await stage.start()
        waiting = await stage.start()
        await stage.runner.cancel(waiting.run_id, "no", "request")
        assert names(await stage.log(waiting)) == ["TeamRunCancelRequested", "TeamRunCancelled"]
        assert len(stage.cast.models["leader"].requests) <= 1


async def test_before_the_first_step_of_its_task() -> None:
    async with playing(Cast(SILENT)) as stage:
        run = await stage.start()
        await stage.runner.cancel(run.run_id, None, "request")
        assert run.status is Status.CANCELLING
        assert (await stage.log(run))[-1]["event"] == "TeamRunCancelled"
        assert not stage.cast.models["leader"].requests


@pytest.mark.parametrize(
    ("script", "said"),
    [(SILENT, ""), (HALF, "half"), (WAITING, "")],
    ids=["silence", "text", "retry"],
)
async def test_in_the_leaders_turn(script: Script, said: str) -> None:
    async with playing(Cast(script)) as stage:
        run = await stage.start()
        await has_asked(stage, "leader")
        await stage.until(run, lambda: run.content == said)
        assert await stage.runner.cancel(run.run_id, "enough", "request") is run
        assert run.status is Status.CANCELLING
        events = await stage.log(run)
        assert stage.open_streams == 0
    assert names(events)[-2:] == ["TeamRunCancelRequested", "TeamRunCancelled"]
    assert (events[-1]["content"], events[-1]["reason"]) == (said, "enough")
    assert run.cancel is not None
    assert run.cancel.reason == "enough"


@pytest.mark.parametrize("script", [SILENT, HALF, WAITING], ids=["silence", "text", "retry"])
async def test_with_two_members_at_work(script: Script) -> None:
    cast = Cast(delegating_to("a", "b"), {"a": script, "b": HALF})
    async with playing(cast) as stage:
        run = await stage.start()
        await has_asked(stage, "a")
        await stage.until(run, lambda: "half" in text_of_members(run))
        await stage.runner.cancel(run.run_id, None, "request")
        events = await stage.log(run)
        assert stage.open_streams == 0
    assert names(events)[-6:] == [
        "TeamRunCancelRequested",
        "RunCancelled",
        "TeamToolCallCompleted",
        "RunCancelled",
        "TeamToolCallCompleted",
        "TeamRunCancelled",
    ]
    assert "RunCancelRequested" not in names(events)


async def test_one_member_alone_and_the_leader_reads_that_it_was_stopped() -> None:
    finish = anyio.Event()
    cast = Cast(delegating_to("a", "b"), {"a": HALF, "b": lambda _: [Until(finish), Say("whole")]})
    async with playing(cast) as stage:
        run = await stage.start()
        await stage.until(run, lambda: "half" in text_of_members(run))
        (member,) = [m for m in run.members.values() if m.origin.id == "a"]
        assert await stage.runner.cancel(member.run_id, "that one", "request") is member
        assert (member.status.value, run.status.value) == ("cancelling", "running")
        await stage.until(run, lambda: member.status.is_final)
        finish.set()
        events = await stage.log(run)
    own = [event["event"] for event in events if event["run_id"] == member.run_id]
    assert own == ["RunStarted", "RunContent", "RunCancelRequested", "RunCancelled"]
    result = next(
        json.loads(item.output)
        for item in cast.models["leader"].requests[1].conversation
        if isinstance(item, ToolResult) and "half" in item.output
    )
    assert (result["status"], result["content"], result["error"]) == ("cancelled", "half", None)
    assert events[-1]["event"] == "TeamRunCompleted"
    closed = [e for e in events if e["event"] == "TeamToolCallCompleted"]
    assert sorted(e["status"] for e in closed) == ["cancelled", "completed"]


async def test_a_member_and_then_its_team_before_it_could_end() -> None:
    cast = Cast(delegating_to("a"), {"a": HALF})
    async with playing(cast) as stage:
        run = await stage.start()
        await stage.until(run, lambda: "half" in text_of_members(run))
        (member,) = run.members.values()
        await stage.runner.cancel(member.run_id, "member", "request")
        await stage.runner.cancel(run.run_id, "team", "request")
        events = await stage.log(run)
    assert events[-1]["reason"] == "team"
    assert member.cancel is not None
    assert member.cancel.reason == "member"


async def test_a_member_of_a_run_that_is_being_stopped_was_asked_already() -> None:
    cast = Cast(delegating_to("a"), {"a": HALF})
    async with playing(cast) as stage:
        run = await stage.start()
        await stage.until(run, lambda: "half" in text_of_members(run))
        (member,) = run.members.values()
        await stage.runner.cancel(run.run_id, "team", "request")
        assert (await stage.runner.cancel(member.run_id, "late", "request")).status == "cancelling"
        assert "RunCancelRequested" not in names(await stage.log(run))


async def test_the_first_reason_stays_however_often_it_is_asked() -> None:
    async with playing(Cast(HALF)) as stage:
        run = await stage.start()
        await stage.until(run, lambda: run.content == "half")
        for reason in ("first", "second", "third"):
            await stage.runner.cancel(run.run_id, reason, "request")
        events = await stage.log(run)
        assert (await stage.runner.cancel(run.run_id, "late", "request")).status == "cancelled"
    assert events[-1]["reason"] == "first"
    assert names(events).count("TeamRunCancelRequested") == 1


async def test_too_late_changes_nothing() -> None:
    async with playing(Cast(saying("x"))) as stage:
        run = await stage.start()
        events = await stage.log(run)
        assert (await stage.runner.cancel(run.run_id, "late", "request")).status == "completed"
        assert run.cancel is None
        assert run.last_event_id == len(events)


async def test_a_cancel_overrules_a_drain_that_interrupts() -> None:
    async with playing(Cast(HALF)) as stage:
        run = await stage.start()
        await stage.until(run, lambda: run.content == "half")
        await stage.runner.cancel(run.run_id, "enough", "request")
        await stage.runner.drain(0)  # interrupts what is left: the flag is up already
        events = await stage.log(run)
    assert (events[-1]["event"], events[-1]["reason"]) == ("TeamRunCancelled", "enough")


class Stubborn:
    """A tool that must clean up before it can be left."""

    spec = ToolSpec("stubborn", "", {"type": "object", "properties": {}})
    cleaned = False

    async def __call__(self, call: ToolCall) -> ToolResult:
        try:
            await anyio.sleep(FOREVER)
        finally:
            self.cleaned = True
        raise AssertionError


async def test_during_a_tool() -> None:
    tool = Stubborn()
    cast = Cast(
        delegating_to("a"),
        {"a": lambda _: [Call("stubborn", {})]},
        tools={"stubborn": tool},
    )
    async with playing(cast) as stage:
        run = await stage.start()
        await stage.until(run, lambda: any(m.open_calls for m in run.members.values()))
        await stage.runner.cancel(run.run_id, None, "request")
        events = await stage.log(run)
    assert tool.cleaned
    assert names(events)[-5:] == [
        "TeamRunCancelRequested",
        "ToolCallCompleted",
        "RunCancelled",
        "TeamToolCallCompleted",
        "TeamRunCancelled",
    ]


class CancelsAfter(MemoryStore):
    """Raises the flag inside the very append that stores an event: no instant lies in between."""

    def __init__(self, seq: int) -> None:
        super().__init__()
        self.seq = seq

    def append(self, run_id: str, entries: Sequence[Entry]) -> None:
        super().append(run_id, entries)
        if entries[-1].seq >= self.seq:
            asking = self.request_cancel(
                run_id, Cancel("2026-11-22T09:57:12.123Z", f"after {self.seq}")
            )
            with suppress(StopIteration):
                asking.send(None)


async def test_at_every_event_of_a_run_the_log_obeys_the_laws() -> None:
    for seq in count(1):
        cast = Cast(delegating_to("a", "b"), {"a": saying("x", "y"), "b": saying("z")})
        async with playing(cast, store=CancelsAfter(seq)) as stage:
            run = await stage.start()
            events = await stage.log(run)
            assert stage.open_streams == 0
        if run.status is Status.COMPLETED:
            break
        assert events[-1]["event"] == "TeamRunCancelled"
    assert seq == len(events) > 10


class Deaf(MemoryStore):
    """Never tells of a flag; that is only seen in the run, and in what is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = 0

    def on_flag(self, listener: FlagListener) -> None:
        pass

    def append(self, run_id: str, entries: Sequence[Entry]) -> None:
        try:
            super().append(run_id, entries)
        except CancelIsDue:
            self.refusals += 1
            if self.refusals > 10:
                raise RuntimeError("asked for ever") from None
            raise


async def test_a_member_that_ends_learns_of_a_flag_that_nobody_told_of() -> None:
    goes_on = anyio.Event()
    cast = Cast(delegating_to("a"), {"a": lambda _: [Say("half"), Until(goes_on)]})
    async with playing(cast, store=(store := Deaf())) as stage:
        run = await stage.start()
        await stage.until(run, lambda: "half" in text_of_members(run))
        await stage.runner.cancel(run.run_id, "enough", "request")
        goes_on.set()
        events = await stage.log(run)
    assert names(events)[-3:] == ["RunCancelled", "TeamToolCallCompleted", "TeamRunCancelled"]
    assert store.refusals == 1
