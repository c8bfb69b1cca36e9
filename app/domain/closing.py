"""What is still to be written when a run ends, on every path: one batch, innermost first.

A run may end anywhere: stopped in the middle of two parallel members, out of time between turns,
its replica dead. The log knows which members and tool calls are open, so the events that close
them follow from the run alone, and the replica that owns a run and the one that cleans up after a
dead one write the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.domain.events import (
    Event,
    Failure,
    FinishReason,
    Origin,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunError,
    ToolCallCompleted,
    ToolStatus,
    Usage,
)
from app.domain.run import Cancel, MemberRun, Progress, Run


@dataclass(frozen=True, slots=True)
class Answered:
    """The agent gave its answer."""

    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class Stopped:
    """Somebody asked for the end."""

    cancel: Cancel


@dataclass(frozen=True, slots=True)
class Failed:
    """Something went wrong."""

    failure: Failure


Ending = Answered | Stopped | Failed
Said = tuple[Origin, Event]


def close_run(run: Run, ending: Ending, usages: Mapping[str, Usage]) -> list[Said]:
    """Return the events that end a team run; `usages` by run id, estimated from the log if absent.

    The run's own flag overrules any other ending, since a cancel that was taken is a promise.
    """
    if run.cancel is not None:
        ending = Stopped(run.cancel)
    said = [*_request(run, ending)]
    for call_id, call in run.open_calls.items():
        status: ToolStatus = _tool_status(ending)
        for member in run.open_members(call_id):
            closed = _member_ending(member, ending)
            status = _tool_status(closed)
            said += close_member(member, closed, usages.get(member.run_id))
        said.append((run.origin, _closed(call_id, call.tool_name, status, call.turn)))
    total = sum(
        (usages.get(member.run_id, member.usage) for member in run.members.values()),
        start=usages.get(run.run_id, run.own_usage),
    )
    said.append((run.origin, _final(run, ending, total)))
    return said


def close_member(member: MemberRun, ending: Ending, usage: Usage | None = None) -> list[Said]:
    """Return the events that end one member run, its open tool calls first."""
    said = [*_request(member, ending)]
    for call_id, call in member.open_calls.items():
        closed = _closed(call_id, call.tool_name, _tool_status(ending), call.turn)
        said.append((member.origin, closed))
    said.append((member.origin, _final(member, ending, usage or member.usage)))
    return said


def _member_ending(member: MemberRun, ending: Ending) -> Ending:
    """A member under a failing team ends as the team does, unless it was promised its own stop."""
    return ending if member.cancel is None else Stopped(member.cancel)


def _request(of: Progress, ending: Ending) -> Iterator[Said]:
    if isinstance(ending, Stopped) and of.cancel is not None and not of.cancel_is_logged:
        yield of.origin, RunCancelRequested(of.cancel.reason, of.cancel.by)


def _closed(call_id: str, name: str, status: ToolStatus, turn: int) -> ToolCallCompleted:
    return ToolCallCompleted(call_id, name, status, None, turn)


def _tool_status(ending: Ending) -> ToolStatus:
    return "cancelled" if isinstance(ending, Stopped) else "error"


def _final(of: Progress, ending: Ending, usage: Usage) -> Event:
    match ending:
        case Answered(finish_reason):
            return RunCompleted(of.content, finish_reason, usage)
        case Stopped(cancel):
            return RunCancelled(of.content, cancel.reason, usage)
        case Failed(failure):
            return RunError(failure, of.content, usage)
