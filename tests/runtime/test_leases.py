"""Dead replicas' runs get their end, old runs go, a store away for a while loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import anyio
import anyio.lowlevel
import pytest

from app.domain.errors import LeaseLost, StoreUnavailable
from app.domain.events import Entry, Origin, RunContent, RunStarted, ToolCallStarted, encode
from app.domain.run import Cancel, Run, RunRequest
from app.models.scripted import Pause, Say, Step
from app.observer.facts import AbandonedRunEnded, StoreBack, StoreLost
from app.observer.telling import Observers
from app.ports import LossListener, ModelRequest
from app.runtime.clock import SystemClock
from app.runtime.leases import keep_leases, keep_sweeping
from app.runtime.run_log import Limits
from app.stores.memory import MemoryStore
from tests import laws
from tests.observer.test_telling import Listening
from tests.runtime.playing import Cast, names, playing, saying

pytestmark = pytest.mark.anyio

NOW = "2026-11-22T09:57:12.123Z"


class Inherited(MemoryStore):
    """Holds a run that a dead replica left in the middle of a member's answer."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[Run] = []
        self.renewals = 0
        self.is_down = False

    async def die(self) -> Run:
        run = await self.create(RunRequest("run", "team", "Team", "x", NOW, 900))
        member = Origin("member", "a", "A", None, "run")
        said = [
            (run.origin, RunStarted("m", mode="coordinate")),
            (run.origin, ToolCallStarted("c", "delegate_task_to_member", "{}", 1)),
            (member, RunStarted("m", task="t", tool_call_id="c")),
            (member, RunContent("half", 1)),
        ]
        self.append("run", [encode(seq, NOW, *each) for seq, each in enumerate(said, 1)])
        self.left.append(run)
        return run

    async def renew(self) -> None:
        self.renewals += 1
        if self.is_down:
            raise StoreUnavailable("it was unplugged")

    async def claim_abandoned(self) -> Sequence[Run]:
        left, self.left = self.left, []
        return left


@pytest.mark.parametrize("asked", [False, True], ids=["interrupted", "was asked to stop"])
async def test_a_dead_replicas_run_is_closed_innermost_first(asked: bool) -> None:
    store = Inherited()
    run = await store.die()
    if asked:
        await store.request_cancel("run", Cancel(NOW, "enough"))
    async with playing(Cast(saying("x")), store=store) as stage, anyio.create_task_group() as group:
        group.start_soon(keep_leases, store, stage.runner, 0.01, Observers())
        events = await stage.log(run)
        group.cancel_scope.cancel()
    if asked:
        assert names(events)[4:] == [
            "TeamRunCancelRequested",
            "RunCancelled",
            "TeamToolCallCompleted",
            "TeamRunCancelled",
        ]
    else:
        assert names(events)[4:] == ["RunError", "TeamToolCallCompleted", "TeamRunError"]
        assert events[-1]["error"]["code"] == "interrupted"
    assert events[-3]["content"] == "half"


async def test_leases_are_kept_through_an_outage() -> None:
    store = Inherited()
    store.is_down = True
    observers = Observers(listening := Listening())
    async with (
        playing(Cast(saying("x")), store=store, observers=observers) as stage,
        anyio.create_task_group() as group,
    ):
        group.start_soon(keep_leases, store, stage.runner, 0.003, observers)
        with anyio.fail_after(5):
            while store.renewals < 3:
                await anyio.lowlevel.checkpoint()
            store.is_down = False
            run = await store.die()
        assert (await stage.log(run))[-1]["event"] == "TeamRunError"
        with anyio.fail_after(5):
            while len(listening.told) < 3:
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    lost, back, ended = listening.told
    assert lost == StoreLost()
    assert isinstance(back, StoreBack)
    assert ended == AbandonedRunEnded(run)


async def test_runs_whose_time_is_over_are_swept() -> None:
    async with playing(Cast(saying("x"))) as stage, anyio.create_task_group() as group:
        run = await stage.start()
        await stage.log(run)
        group.start_soon(keep_sweeping, stage.store, SystemClock(), 0.01)
        with anyio.fail_after(5):
            while await stage.store.load(run.run_id) is not None:
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()


# --- a store that fails for a while ---------------------------------------------------------------


class Flaky(MemoryStore):
    """Is away for some appends; those of `lost` were stored, but nobody was told."""

    def __init__(self, away: Sequence[int] = (), lost: Sequence[int] = ()) -> None:
        super().__init__()
        self.appends = 0
        self._away = away
        self._lost = lost
        self._told: tuple[Entry, ...] = ()

    def append(self, run_id: str, entries: Sequence[Entry]) -> Awaitable[None] | None:  # type: ignore[override] # memory's is narrower
        self.appends += 1
        if self.appends in self._away:
            raise StoreUnavailable("it was unplugged")
        if self._told and self._told == tuple(entries):
            return None  # a repeat of what is stored, as a store must recognise it
        super().append(run_id, entries)
        self._told = tuple(entries)
        if self.appends in self._lost:
            raise StoreUnavailable("its answer was lost")
        return None


@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("kind", ["away", "lost"])
async def test_a_short_outage_is_not_noticed(kind: str, at: int) -> None:
    store = Flaky(**{kind: [at, at + 1]}) if kind == "away" else Flaky(lost=[at])
    async with playing(Cast(saying("a", "b", "c")), store=store) as stage:
        events = await stage.log(await stage.start())
    assert (events[-1]["event"], events[-1]["content"]) == ("TeamRunCompleted", "abc")
    assert len(events) == 5


async def test_a_long_outage_ends_the_run_once_when_the_store_is_back() -> None:
    store = Flaky(away=range(3, 6))
    limits = Limits(store_patience_s=0.05)
    cast = Cast(lambda _: [Say("a"), Say("b"), Pause(3600)])
    async with playing(cast, limits, store=store) as stage:
        events = await stage.log(await stage.start())
        assert stage.open_streams == 0
    assert events[-1]["error"]["code"] == "store_unavailable"
    assert events[-1]["content"] == "ab"  # what was said is stored before the end


async def test_who_has_to_go_does_not_wait_for_a_store_that_stays_away() -> None:
    store = Flaky(away=range(3, 10_000))
    cast = Cast(lambda _: [Say("a"), Say("b"), Pause(3600)])
    async with playing(cast, store=store) as stage:
        run = await stage.start()
        with anyio.fail_after(5):
            while store.appends < 3:
                await anyio.lowlevel.checkpoint()
        with anyio.fail_after(4):
            await stage.runner.drain(0)
            while stage.runner.load.running:
                await anyio.lowlevel.checkpoint()
        assert stage.open_streams == 0
    assert not run.status.is_final  # whoever opens the store next ends it


async def test_a_cancel_does_not_wait_for_a_store_that_is_away() -> None:
    store = Flaky(away=range(3, 5))
    asked = asyncio.Event()

    def leader(_: ModelRequest) -> list[Step]:
        asked.set()
        return [Say("a"), Say("b"), Pause(3600)]

    async with playing(Cast(leader), store=store) as stage:
        run = await stage.start()
        with anyio.fail_after(5):
            await asked.wait()
            while store.appends < 3:
                await anyio.lowlevel.checkpoint()
        await stage.runner.cancel(run.run_id, None, "request")
        with anyio.fail_after(1):
            while stage.open_streams:
                await anyio.lowlevel.checkpoint()
        events = await stage.log(run)
    assert names(events)[-2:] == ["TeamRunCancelRequested", "TeamRunCancelled"]


class Fencing(MemoryStore):
    """Gives the run to another replica after some appends."""

    appends = 0

    def append(self, run_id: str, entries: Sequence[Entry]) -> None:
        self.appends += 1
        if self.appends > 2:
            raise LeaseLost("another replica has it")
        super().append(run_id, entries)


async def test_a_run_that_was_taken_over_writes_nothing_more_and_closes_its_model() -> None:
    store = Fencing()
    cast = Cast(lambda _: [Say("a"), Say("b"), Pause(3600)])
    async with playing(cast, store=store) as stage:
        run = await stage.start()
        with anyio.fail_after(5):
            while stage.runner.load.running or stage.runner.load.pending or store.appends < 3:
                await anyio.lowlevel.checkpoint()
        assert stage.open_streams == 0
        frames = (await store.read(run.run_id, 0, 1 << 20)).frames
    assert names(laws.parse(frames)) == ["TeamRunStarted", "TeamRunContent"]


async def test_a_run_that_is_lost_while_its_model_is_silent_is_given_up_at_once() -> None:
    class Losing(MemoryStore):
        def on_loss(self, listener: LossListener) -> None:
            self.tell = listener

    store = Losing()
    async with playing(Cast(lambda _: [Pause(3600)]), store=store) as stage:
        run = await stage.start()
        with anyio.fail_after(5):
            while not stage.open_streams:
                await anyio.lowlevel.checkpoint()
            store.tell(run.run_id)
            while stage.open_streams or stage.runner.load.running:
                await anyio.lowlevel.checkpoint()
