"""Who is told hears everything, and can do no harm."""

from __future__ import annotations

import asyncio

import pytest

from app.domain.errors import ModelFailed, RunFailed
from app.domain.events import Origin
from app.domain.run import RunRequest
from app.observer.facts import Fact, LeaseLost
from app.observer.telling import Observer, Observers
from app.observer.work import ModelCall, Outcome, RunWork, Work
from app.telemetry.metrics import Metrics
from tests.runtime.playing import Cast, delegating_to, names, playing, saying

REQUEST = RunRequest("run", "team", "Team", "x", "2026-11-22T09:57:12.123Z", 900)


def call() -> ModelCall:
    return ModelCall(RunWork(REQUEST, Origin("run", "team", "Team")), "scripted:", 1)


class Listening(Observer):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def began(self, work: Work) -> None:
        self.told.append("began")

    def ended(self, work: Work) -> None:
        self.told.append(work.outcome)

    def note(self, fact: Fact) -> None:
        self.told.append(fact)


class Broken(Observer):
    """Fails whatever it is told."""

    def began(self, work: Work) -> None:
        raise RuntimeError("broken")

    def ended(self, work: Work) -> None:
        raise RuntimeError("broken")

    def note(self, fact: Fact) -> None:
        raise RuntimeError("broken")


def test_one_that_fails_harms_neither_the_others_nor_the_work() -> None:
    listening = Listening()
    observers = Observers(Broken(), listening)
    with observers.doing(call()):
        observers.note(LeaseLost("run"))
    assert listening.told == ["began", LeaseLost("run"), "completed"]


@pytest.mark.anyio
async def test_a_run_is_none_the_worse_for_it() -> None:
    cast = Cast(delegating_to("a"), {"a": saying("x")})
    async with playing(cast, observers=Observers(Broken())) as stage:
        events = await stage.log(await stage.start())
    assert names(events)[-1] == "TeamRunCompleted"


@pytest.mark.parametrize(
    ("error", "outcome", "code"),
    [
        (RunFailed("turn_limit", "x"), "error", "turn_limit"),
        (ModelFailed("model_timeout", "x"), "error", "model_timeout"),
        (ValueError("x"), "error", "internal_error"),
        (asyncio.CancelledError(), "cancelled", None),
    ],
)
def test_what_passes_through_names_the_outcome(
    error: BaseException, outcome: Outcome, code: str | None
) -> None:
    work = call()
    with pytest.raises(type(error)), Observers().doing(work):
        raise error
    assert (work.outcome, work.code) == (outcome, code)


def test_an_outcome_that_was_named_stays() -> None:
    work = call()
    work.outcome = "lost"
    with pytest.raises(ValueError, match="x"), Observers().doing(work):
        raise ValueError("x")
    assert work.outcome == "lost"


def test_batches_are_told_only_to_those_who_count_them() -> None:
    metrics = Metrics([])
    Observers(Broken(), metrics).appended(3, 0.001)
    assert b"team_runs_store_append_events_sum 3.0" in metrics.exposition()
