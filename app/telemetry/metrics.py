"""The figures of this process, for Prometheus; `figures.py` tells which.

Each application has a registry of its own. Counters begin at 0 for whatever is known when the
process starts, so that the first of a kind shows as an increase.

A cancel's times count from the moment at which this process was asked to stop the run; where
another one was asked, from the time that it wrote down, by the clocks of two machines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.domain.team import TeamSpec
from app.observer.facts import (
    AbandonedRunEnded,
    CancelSeen,
    DrainBegan,
    Fact,
    FirstToken,
    LeaseLost,
    ReaderEnd,
    ReaderGone,
    Retried,
    StoreBack,
    StoreFailed,
    StoreLost,
)
from app.observer.telling import Observer
from app.observer.work import MemberWork, ModelCall, RunWork, Stop, ToolUse, Work
from app.telemetry.distributions import Distribution
from app.telemetry.figures import FIGURES, PREFIX, Figure

_GONE: Final = "other"
"""A team that is not in the teams file any more, and has left a run to be ended."""

_STATUSES: Final = ("completed", "cancelled", "error")
_SCOPES: Final = ("team", "member")
_STEPS: Final = ("flag_seen", "upstream_closed", "final_event")

_COUNTED: Final[Mapping[type[Fact], str]] = {
    AbandonedRunEnded: "abandoned_runs_total",
    LeaseLost: "leases_lost_total",
    StoreFailed: "store_failures_total",
}

Reading = Callable[[], float]
"""Tells a figure when somebody wants to know it."""


class Metrics(Observer):
    """Counts what it is told."""

    def __init__(self, teams: Iterable[TeamSpec]) -> None:
        self._modes = {team.id: team.mode for team in teams}
        self._registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._distributions: dict[str, Distribution] = {}
        for figure in FIGURES:
            self._declare(figure)
        self._begin()
        self._append_seconds = self._distributions["store_append_seconds"].observe
        self._append_events = self._distributions["store_append_events"].observe
        self.observe_lag = self._distributions["event_loop_lag_seconds"].observe
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def read(self, readings: Mapping[str, Reading]) -> None:
        """Have figures be what these tell at the time."""
        for name, reading in readings.items():
            if name in self._gauges:
                self._gauges[name].set_function(reading)
            else:
                self._registry.register(_Total(name, reading))

    def exposition(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(_WithoutCreated(self._registry))

    # --- what is told -----------------------------------------------------------------------------

    def ended(self, work: Work) -> None:
        """Count it."""
        match work:
            case RunWork():
                self._count_run(work.request.team_id, str(work.outcome))
                self._time("run_duration_seconds", work)
            case ModelCall():
                self._count_call(work)
            case ToolUse():
                self._counters["tool_calls_total"].labels(work.name, work.outcome).inc()
            case MemberWork(stop=Stop(scope="team")):
                return  # its team's end is what was asked for
        if work.stop is not None and work.outcome == "cancelled":
            step = "upstream_closed" if isinstance(work, ModelCall) else "final_event"
            self._count_stop(work.stop, step)

    def note(self, fact: Fact) -> None:
        """Count it."""
        match fact:
            case FirstToken(call, of_run):
                first = self._histograms["model_time_to_first_token_seconds"]
                first.labels(call.model).observe(call.seconds)
                if of_run:
                    self._time("time_to_first_token_seconds", call.place.team_run)
            case Retried(call, code=code):
                self._counters["model_retries_total"].labels(call.model, code).inc()
            case CancelSeen(stop=stop):
                self._count_stop(stop, "flag_seen")
            case AbandonedRunEnded(run):
                self._count_run(run.request.team_id, run.status.value)
            case ReaderGone(end=end):
                self._counters["readers_gone_total"].labels(end).inc()
            case StoreLost() | StoreBack():
                self._gauges["store_up"].set(isinstance(fact, StoreBack))
            case DrainBegan():
                self._gauges["draining"].set(1)
        if (name := _COUNTED.get(type(fact))) is not None:
            self._counters[name].inc()

    def appended(self, events: int, seconds: float) -> None:
        """Count it."""
        self._append_seconds(seconds)
        self._append_events(events)

    # --- how it is counted ------------------------------------------------------------------------

    def _count_run(self, team_id: str, status: str) -> None:
        """Count a run that ended; one that was lost is counted where it ends."""
        if status in _STATUSES:
            labels = *self._team(team_id), status
            self._counters["runs_total"].labels(*labels).inc()

    def _count_call(self, call: ModelCall) -> None:
        self._counters["model_calls_total"].labels(call.model, call.outcome).inc()
        if call.outcome == "error":
            self._counters["model_errors_total"].labels(call.model, call.code).inc()
        place = call.place
        member = "" if isinstance(place, RunWork) else place.origin.id
        whose = place.team_run.request.team_id, member, call.model
        tokens = self._counters["tokens_total"]
        tokens.labels(*whose, "input").inc(call.usage.input_tokens)
        tokens.labels(*whose, "output").inc(call.usage.output_tokens)

    def _count_stop(self, stop: Stop, step: str) -> None:
        seconds = time.monotonic() - stop.asked_at
        self._histograms["cancel_seconds"].labels(stop.scope, step).observe(seconds)

    def _time(self, name: str, work: RunWork) -> None:
        self._histograms[name].labels(*self._team(work.request.team_id)).observe(work.seconds)

    def _team(self, team_id: str) -> tuple[str, str]:
        """Return the labels `team` and `mode`."""
        return (team_id, self._modes[team_id]) if team_id in self._modes else (_GONE, _GONE)

    # --- what there is to count -------------------------------------------------------------------

    def _declare(self, figure: Figure) -> None:
        name, sentence, labels = PREFIX + figure.name, figure.sentence, figure.labels
        if figure.kind == "gauge":
            self._gauges[figure.name] = Gauge(name, sentence, registry=self._registry)
        elif figure.kind == "counter" and figure.is_pushed:
            self._counters[figure.name] = Counter(name, sentence, labels, registry=self._registry)
        elif figure.kind == "histogram" and labels:
            self._histograms[figure.name] = Histogram(
                name, sentence, labels, registry=self._registry, buckets=figure.bounds
            )
        elif figure.kind == "histogram":
            distribution = Distribution(name, sentence, figure.bounds)
            self._distributions[figure.name] = distribution
            self._registry.register(distribution)

    def _begin(self) -> None:
        for team_id in self._modes:
            labels = self._team(team_id)
            self._histograms["run_duration_seconds"].labels(*labels)
            self._histograms["time_to_first_token_seconds"].labels(*labels)
            for status in _STATUSES:
                self._counters["runs_total"].labels(*labels, status)
        for scope in _SCOPES:
            for step in _STEPS:
                self._histograms["cancel_seconds"].labels(scope, step)
        for end in get_args(ReaderEnd):
            self._counters["readers_gone_total"].labels(end)
        self._gauges["store_up"].set(1)


class _Total(Collector):
    """A counter that is read where it is kept."""

    def __init__(self, name: str, reading: Reading) -> None:
        self._figure = next(each for each in FIGURES if each.name == name)
        self._reading = reading

    def collect(self) -> Iterator[Metric]:
        figure = self._figure
        yield CounterMetricFamily(PREFIX + figure.name, figure.sentence, self._reading())


class _WithoutCreated(CollectorRegistry):
    """A registry's figures without the time at which each began: a second series for each."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._whole = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._whole.collect():
            metric.samples = [each for each in metric.samples if not each.name.endswith("_created")]
            yield metric
