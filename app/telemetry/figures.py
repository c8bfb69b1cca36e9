"""Which figures there are, in one table; the README shows it.

Labels are ids of the teams file, models' names and closed enumerations alone, so there is a bound
to the series whatever clients ask for and models say: no tenant, no run id, no text. `member` is
empty for a team's leader. All begin with `team_runs_`; times are in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

PREFIX: Final = "team_runs_"

FAST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""For what should take milliseconds."""
SLOW_S: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0)
"""For what a model's speed decides."""
STORE_S: Final = (0.0001, 0.00025, 0.0005, *FAST_S)
EVENTS: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0)


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric: `name` without the prefix, `bounds` of a histogram's buckets.

    One that is not pushed is read where it is kept.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    sentence: str
    labels: tuple[str, ...] = ()
    bounds: Sequence[float] = ()
    is_pushed: bool = True


def _counter(name: str, sentence: str, *labels: str) -> Figure:
    return Figure(name, "counter", sentence, labels)


def _gauge(name: str, sentence: str) -> Figure:
    return Figure(name, "gauge", sentence)


def _histogram(name: str, sentence: str, bounds: Sequence[float], *labels: str) -> Figure:
    return Figure(name, "histogram", sentence, labels, bounds)


FIGURES: Final[Sequence[Figure]] = (
    _counter("runs_total", "Runs that ended.", "team", "mode", "status"),
    _gauge("running", "Runs that this process works on."),
    _gauge("pending", "Runs that wait for their turn."),
    _histogram(
        "run_duration_seconds", "From a run's admission to its end.", SLOW_S, "team", "mode"
    ),
    _histogram(
        "time_to_first_token_seconds",
        "From a run's admission to the first text or reasoning of any of its agents.",
        SLOW_S,
        *("team", "mode"),
    ),
    _counter(
        "tokens_total",
        "Tokens of model calls, as reported, else estimated; `type` is `input` or `output`.",
        *("team", "member", "model", "type"),
    ),
    _histogram(
        "cancel_seconds",
        "From the request to stop a team run, or one member's (`scope`), to each `step`:"
        " `flag_seen`, `upstream_closed` (each model call), `final_event`.",
        FAST_S,
        *("scope", "step"),
    ),
    _counter("model_calls_total", "Model calls that ended.", "model", "outcome"),
    _histogram(
        "model_time_to_first_token_seconds",
        "From a model call's begin, retries included, to its first text or reasoning.",
        SLOW_S,
        "model",
    ),
    _counter("model_errors_total", "Model calls that failed for good.", "model", "code"),
    _counter("model_retries_total", "Failed attempts that were followed by one.", "model", "code"),
    _counter("tool_calls_total", "Tool calls that ended.", "tool", "outcome"),
    _gauge("readers", "Streams of events that are open."),
    _counter(
        "readers_gone_total",
        "Streams that are over; `end` is `completed`, `left` by its client, or `dropped`, for the"
        " client took nothing.",
        "end",
    ),
    Figure(
        "sent_bytes_total", "counter", "Bytes that were sent to readers of events.", is_pushed=False
    ),
    _histogram("store_append_seconds", "Until the store had a batch of a run's events.", STORE_S),
    _histogram("store_append_events", "How many events a batch had.", EVENTS),
    _counter("store_failures_total", "Appends that the store did not answer; they are repeated."),
    _gauge("store_up", "Whether the store answered when it was last asked to renew the leases."),
    _histogram("event_loop_lag_seconds", "How late a timer fires.", FAST_S),
    _counter("leases_lost_total", "Runs that another process took over from this one."),
    _counter("abandoned_runs_total", "Runs of processes that are gone, ended by this one."),
    _gauge("draining", "Whether the process is about to stop."),
)
