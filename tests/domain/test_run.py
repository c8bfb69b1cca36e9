"""A run is its log: the one table, the flag beside it, and what an append refuses."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.closing import Answered, Ending, Failed, Stopped, close_run
from app.domain.errors import CancelIsDue, RunIsFinal
from app.domain.events import (
    Event,
    Failure,
    Origin,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunContent,
    RunError,
    RunStarted,
    ToolCallCompleted,
    ToolCallStarted,
    Usage,
    encode,
)
from app.domain.run import Cancel, Progress, Run, RunRequest
from app.domain.status import Status
from tests import laws

NOW = "2026-11-22T09:57:12.123Z"
OOPS = Failure("model_error", "It failed.")
COMPLETED = RunCompleted("", "stop", Usage())
CANCELLED = RunCancelled("", None, Usage())
FAILED = RunError(OOPS, "", Usage())


def new_run() -> Run:
    return Run(RunRequest("run", "team", "Team", "input", NOW, 900))


def tell(run: Run, event: Event, origin: Origin | None = None) -> bytes:
    """Do what a store does: check, then apply."""
    entry = encode(run.last_event_id + 1, NOW, origin or run.origin, event)
    run.check([entry])
    run.apply(entry)
    return entry.frame


def status_of(run: Progress) -> Status:
    """Read it anew: a type checker remembers what an earlier line asserted."""
    return run.status


def member_of(run: Run, run_id: str = "member") -> Origin:
    return Origin(run_id, "editor", "Editor", None, run.run_id)


EVENTS = st.sampled_from(
    [
        RunStarted("m", mode="coordinate"),
        RunContent("a", 1),
        ToolCallStarted("c", "t", "{}", 1),
        ToolCallCompleted("c", "t", "completed", "", 1),
        RunCancelRequested(None, "request"),
        COMPLETED,
        CANCELLED,
        FAILED,
    ]
)


@given(st.lists(EVENTS, max_size=30))
def test_no_sequence_of_events_leaves_a_final_status(events: list[Event]) -> None:
    run, final = new_run(), None
    for event in events:
        with suppress(RunIsFinal, CancelIsDue, ValueError):
            tell(run, event)
        if final is not None:
            assert run.status is final
        elif run.status.is_final:
            final = run.status


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([], Status.PENDING),
        ([RunStarted("m")], Status.RUNNING),
        ([RunStarted("m"), COMPLETED], Status.COMPLETED),
        ([RunStarted("m"), FAILED], Status.ERROR),
        ([FAILED], Status.ERROR),
        ([RunStarted("m"), RunCancelRequested(None, "request")], Status.CANCELLING),
        ([RunCancelRequested(None, "request")], Status.CANCELLING),
        ([RunCancelRequested(None, "request"), CANCELLED], Status.CANCELLED),
        ([RunStarted("m"), RunCancelRequested(None, "request"), CANCELLED], Status.CANCELLED),
    ],
)
def test_the_status_is_what_the_log_says(events: list[Event], status: Status) -> None:
    run = new_run()
    for event in events:
        tell(run, event)
    assert run.status is status


@pytest.mark.parametrize("event", [COMPLETED, CANCELLED])
def test_a_pending_run_neither_completes_nor_is_cancelled_unasked(event: Event) -> None:
    with pytest.raises(ValueError, match="cannot follow"):
        tell(new_run(), event)


@pytest.mark.parametrize("event", [COMPLETED, FAILED])
def test_while_the_flag_is_up_only_cancelled_ends_a_run(event: Event) -> None:
    run = new_run()
    tell(run, RunStarted("m"))
    run.request_cancel("run", Cancel(NOW, "why"))
    assert run.status is Status.CANCELLING
    with pytest.raises(CancelIsDue):
        tell(run, event)
    tell(run, CANCELLED)
    assert status_of(run) is Status.CANCELLED


def test_the_first_cancel_stays_and_a_late_one_changes_nothing() -> None:
    run, first = new_run(), Cancel(NOW, "first")
    run.request_cancel("run", first)
    run.request_cancel("run", Cancel(NOW, "second"))
    assert run.cancel is first
    done = new_run()
    tell(done, RunStarted("m"))
    tell(done, COMPLETED)
    assert done.request_cancel("run", first) is done
    assert (done.status, done.cancel) == (Status.COMPLETED, None)
    assert done.request_cancel("unknown", first) is None


def test_a_members_flag_is_a_promise_of_its_own() -> None:
    run = new_run()
    member = member_of(run)
    tell(run, RunStarted("m"))
    tell(run, RunStarted("m", task="t", tool_call_id="c"), member)
    run.request_cancel("member", Cancel(NOW, None))
    assert run.members["member"].status is Status.CANCELLING
    assert run.status is Status.RUNNING
    with pytest.raises(CancelIsDue):
        tell(run, COMPLETED, member)
    tell(run, CANCELLED, member)
    with pytest.raises(RunIsFinal):
        tell(run, CANCELLED, member)
    assert status_of(run.members["member"]) is Status.CANCELLED


def test_a_member_reads_as_cancelling_while_its_team_is() -> None:
    run = new_run()
    tell(run, RunStarted("m"))
    tell(run, RunStarted("m", task="t", tool_call_id="c"), member_of(run))
    run.request_cancel("run", Cancel(NOW, None))
    assert run.members["member"].status is Status.CANCELLING
    with pytest.raises(CancelIsDue):
        tell(run, COMPLETED, member_of(run))


def test_a_refused_batch_leaves_nothing() -> None:
    run = new_run()
    tell(run, RunStarted("m"))
    run.request_cancel("run", Cancel(NOW, None))
    batch = [encode(2, NOW, run.origin, RunContent("a", 1)), encode(3, NOW, run.origin, COMPLETED)]
    with pytest.raises(CancelIsDue):
        run.check(batch)
    assert (run.last_event_id, run.content) == (1, "")


def test_content_is_that_of_the_highest_turn_that_has_any() -> None:
    run = new_run()
    for event in (
        RunStarted("m"),
        RunContent("one ", 1),
        RunContent("more", 1),
        ToolCallStarted("c", "t", "{}", 1),
        ToolCallCompleted("c", "t", "completed", "", 1),
    ):
        tell(run, event)
    assert run.content == "one more"
    tell(run, RunContent("two", 2))
    assert run.content == "two"


def test_usage_is_estimated_until_it_is_told_and_sums_the_members() -> None:
    run = new_run()
    tell(run, RunStarted("m"))
    tell(run, RunStarted("m", task="t", tool_call_id="c"), member_of(run))
    tell(run, RunContent("12345678", 1), member_of(run))
    assert run.usage == Usage(0, 2, 2, estimated=True)
    tell(run, RunCompleted("12345678", "stop", Usage(5, 6, 11)), member_of(run))
    assert run.usage == Usage(5, 6, 11, estimated=True)
    tell(run, RunCompleted("", "stop", Usage(7, 8, 15)))
    assert run.usage == Usage(7, 8, 15)


# --- closing --------------------------------------------------------------------------------------

ENDINGS = st.sampled_from([Stopped(Cancel(NOW, "why")), Failed(OOPS)])


@given(
    ending=ENDINGS,
    members=st.lists(st.sampled_from(["open", "done", "asked", "with a tool"]), max_size=4),
    together=st.booleans(),
)
def test_whatever_is_open_is_closed_innermost_first(
    ending: Ending, members: list[str], together: bool
) -> None:
    run = new_run()
    log = tell(run, RunStarted("m", mode="coordinate"))
    calls = ["call"] if together else [f"call {index}" for index in range(len(members))]
    for call in calls:
        log += tell(run, ToolCallStarted(call, "delegate", "{}", 1))
    for index, state in enumerate(members):
        origin = member_of(run, f"member {index}")
        log += tell(run, RunStarted("m", task="t", tool_call_id=calls[index % len(calls)]), origin)
        log += tell(run, RunContent("some ", 1), origin)
        if state == "with a tool":
            log += tell(run, ToolCallStarted("its call", "tool", "{}", 1), origin)
        elif state == "done":
            log += tell(run, RunCompleted("some ", "stop", Usage()), origin)
        elif state == "asked":
            run.request_cancel(origin.run_id, Cancel(NOW, "that one"))
    if isinstance(ending, Stopped):
        run.request_cancel("run", ending.cancel)
    closing = close_run(run, ending, {})
    for origin, event in closing:
        log += tell(run, event, origin)
    events = laws.parse(log)
    laws.check(events)
    for index, state in enumerate(members):
        last = [e for e in events if e["run_id"] == f"member {index}"][-1]["event"]
        stopped = isinstance(ending, Stopped) or state == "asked"
        assert last == (
            "RunCompleted" if state == "done" else "RunCancelled" if stopped else "RunError"
        )


def test_a_cancel_overrules_every_other_ending() -> None:
    for ending in (Answered("stop"), Failed(OOPS)):
        run = new_run()
        tell(run, RunStarted("m"))
        run.request_cancel("run", Cancel(NOW, "why"))
        said = [event for _, event in close_run(run, ending, {})]
        assert said == [
            RunCancelRequested("why", "request"),
            RunCancelled("", "why", Usage(estimated=True)),
        ]


def test_a_run_that_ends_while_pending_has_the_shortest_log() -> None:
    run = new_run()
    assert [type(e) for _, e in close_run(run, Failed(OOPS), {})] == [RunError]
    run.request_cancel("run", Cancel(NOW, None))
    names = [type(e) for _, e in close_run(run, Failed(OOPS), {})]
    assert names == [RunCancelRequested, RunCancelled]
