"""What the figures say after runs that ended in every way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest

from app.domain.errors import ModelFailed
from app.domain.events import Usage
from app.domain.run import Run
from app.domain.team import AgentSpec, TeamSpec
from app.models.scripted import Call, Fail, Report, RetrySoon, Say, Step, Until
from app.observer.facts import LeaseLost, ReaderGone, StoreBack, StoreFailed, StoreLost
from app.observer.telling import Observers
from app.ports import ModelRequest, Retry
from app.runtime.runner import Capacity
from app.telemetry.metrics import Metrics
from tests.runtime.playing import Cast, Stage, delegating_to, has_result, playing, saying
from tests.telemetry.exposed import Exposed

pytestmark = pytest.mark.anyio

TEAM = {"team": "team", "mode": "coordinate"}
SPEC = TeamSpec(id="team", name="Team", mode="coordinate", members=(AgentSpec(id="a", name="A"),))


@dataclass
class Counted:
    """A stage, and what is counted on it."""

    stage: Stage
    metrics: Metrics

    async def play(self) -> Run:
        """Let a run come to its end."""
        run = await self.stage.start()
        await self.stage.log(run)
        await self.forgotten()
        return run

    async def forgotten(self) -> None:
        """Wait until nothing is left to be done for any run."""
        with anyio.fail_after(10):
            while self.stage.runner.load.running:
                await anyio.lowlevel.checkpoint()

    @property
    def figures(self) -> Exposed:
        return Exposed(self.metrics.exposition())


@asynccontextmanager
async def counting(cast: Cast, capacity: Capacity | None = None) -> AsyncIterator[Counted]:
    metrics = Metrics([SPEC])
    async with playing(cast, capacity=capacity, observers=Observers(metrics)) as stage:
        yield Counted(stage, metrics)


async def test_a_run_that_answers_is_counted_with_its_tokens_by_agent() -> None:
    def leader(request: ModelRequest) -> list[Step]:
        step = Say("End.") if has_result(request) else None
        call = Call("delegate_task_to_member", {"member_id": "a", "task": "Go."})
        return [step or call, Report(Usage(10, 5, 15))]

    member: list[Step] = [Say("Once "), Say("upon."), Report(Usage(100, 20, 120))]
    async with counting(Cast(leader, {"a": lambda _: member})) as counted:
        run = await counted.play()
        figures = counted.figures
    assert figures.value("runs_total", status="completed", **TEAM) == 1
    assert figures.value("runs_total") == 1
    assert figures.value("run_duration_seconds_count", **TEAM) == 1
    assert figures.value("time_to_first_token_seconds_count", **TEAM) == 1
    spent = {"team": "team", "model": "scripted:a", "member": "a"}
    assert figures.value("tokens_total", type="input", **spent) == 100
    assert figures.value("tokens_total", type="output", **spent) == 20
    assert figures.value("tokens_total", type="input", member="", model="scripted:leader") == 20
    assert figures.value("tokens_total") == run.usage.total_tokens
    assert figures.value("model_calls_total", outcome="completed") == 3
    assert figures.value("tool_calls_total", tool="delegate_task_to_member") == 1
    assert figures.value("store_append_events_sum") == run.last_event_id
    assert figures.value("store_append_seconds_count") <= run.last_event_id
    assert figures.value("cancel_seconds_count") == 0


async def test_a_stop_is_timed_to_the_flag_each_connection_and_the_end() -> None:
    stuck: list[Step] = [Say("Once "), Until(anyio.Event())]
    cast = Cast(delegating_to("a", "b"), {"a": lambda _: stuck, "b": lambda _: stuck})
    async with counting(cast) as counted:
        run = await counted.stage.start()
        await counted.stage.until(run, lambda: run.last_event_id >= 7)
        before = anyio.current_time()
        await counted.stage.runner.cancel(run.run_id, None, "request")
        await counted.stage.log(run)
        await counted.forgotten()
        took, figures = anyio.current_time() - before, counted.figures
    seen, closed, ended = (
        {"scope": "team", "step": step} for step in ("flag_seen", "upstream_closed", "final_event")
    )
    assert [figures.value("cancel_seconds_count", **each) for each in (seen, closed, ended)] == [
        1,
        2,
        1,
    ]
    final = figures.value("cancel_seconds_sum", **ended)
    assert figures.value("cancel_seconds_sum", **seen) < final <= took
    assert figures.value("cancel_seconds_sum", **closed) < 2 * final
    assert figures.value("cancel_seconds_count", scope="member") == 0
    assert figures.value("runs_total", status="cancelled", **TEAM) == 1
    assert figures.value("tokens_total", member="a", type="output") == len("Once ") // 4
    assert figures.value("tokens_total") == run.usage.total_tokens


async def test_a_members_stop_is_timed_by_itself() -> None:
    stuck: list[Step] = [Say("Once "), Until(anyio.Event())]
    async with counting(Cast(delegating_to("a"), {"a": lambda _: stuck})) as counted:
        run = await counted.stage.start()
        await counted.stage.until(run, lambda: run.last_event_id >= 4)
        await counted.stage.runner.cancel(next(iter(run.members)), None, "request")
        await counted.stage.log(run)
        await counted.forgotten()
        figures = counted.figures
    assert figures.value("cancel_seconds_count", scope="team") == 0
    for step in ("flag_seen", "upstream_closed", "final_event"):
        assert figures.value("cancel_seconds_count", scope="member", step=step) == 1
    assert figures.value("runs_total", status="completed", **TEAM) == 1


async def test_a_pending_run_that_is_stopped_has_no_connection_to_close() -> None:
    cast = Cast(lambda _: [Until(anyio.Event())])
    async with counting(cast, Capacity(running=1)) as counted:
        first, second = await counted.stage.start(), await counted.stage.start()
        for run in (second, first):
            await counted.stage.runner.cancel(run.run_id, None, "request")
            await counted.stage.log(run)
        await counted.forgotten()
        figures = counted.figures
    assert figures.value("cancel_seconds_count", scope="team", step="final_event") == 2
    assert figures.value("cancel_seconds_count", scope="team", step="upstream_closed") == 1
    assert figures.value("time_to_first_token_seconds_count", **TEAM) == 0


async def test_failures_and_retries_are_counted_by_code() -> None:
    steps: list[Step] = [
        RetrySoon(Retry(1, 0.0, "rate_limited", 429)),
        RetrySoon(Retry(2, 0.0, "server_error", 500)),
        Fail(ModelFailed("model_error", "It failed.", upstream_status=500)),
    ]
    async with counting(Cast(lambda _: steps)) as counted:
        await counted.play()
        figures = counted.figures
    assert figures.value("model_retries_total", code="rate_limited", model="scripted:leader") == 1
    assert figures.value("model_retries_total", code="server_error") == 1
    assert figures.value("model_errors_total", code="model_error", model="scripted:leader") == 1
    assert figures.value("model_calls_total", outcome="error") == 1
    assert figures.value("runs_total", status="error", **TEAM) == 1


async def test_what_a_model_makes_up_makes_no_series() -> None:
    def leader(request: ModelRequest) -> list[Step]:
        if has_result(request):
            return [Say("End.")]
        to = ({"member_id": name, "task": "x"} for name in names)
        return [*(Call("delegate_task_to_member", each) for each in to), *map(Call, names)]

    async with counting(Cast(leader, {"a": saying("x")})) as counted:
        names = ["first"]
        await counted.play()
        before = counted.figures.series
        names = [f'made up {number}"\n{{}}' for number in range(20)]
        await counted.play()
        figures = counted.figures
    assert figures.series == before
    assert figures.value("tool_calls_total", tool="unknown", outcome="error") == 21


def test_what_happens_to_readers_leases_and_the_store_is_counted() -> None:
    metrics = Metrics([SPEC])
    for fact in (
        LeaseLost("run"),
        StoreFailed(),
        StoreLost(),
        ReaderGone("run", "dropped", 10, 1.0),
        ReaderGone("run", "left", 10, 1.0),
    ):
        metrics.note(fact)
    figures = Exposed(metrics.exposition())
    for name in ("leases_lost_total", "store_failures_total", "readers_gone_total"):
        assert figures.value(name) == (2 if "readers" in name else 1)
    assert figures.value("readers_gone_total", end="dropped") == 1
    assert figures.value("store_up") == 0
    metrics.note(StoreBack(3.0))
    assert Exposed(metrics.exposition()).value("store_up") == 1


def test_applications_in_one_process_have_figures_of_their_own() -> None:
    one, other = Metrics([SPEC]), Metrics([SPEC])
    one.note(LeaseLost("run"))
    assert Exposed(one.exposition()).value("leases_lost_total") == 1
    assert Exposed(other.exposition()).value("leases_lost_total") == 0


def test_nothing_is_said_of_when_a_series_began() -> None:
    assert "_created" not in Exposed(Metrics([SPEC]).exposition()).text
