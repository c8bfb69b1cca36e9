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

    Members that still run end as the team does. Of a run that has ended nothing is left to say.
    """
    if run.status.is_final:
        return []
    ending = _promised(run, ending)
    said = [*_request(run, ending)]
    for call_id, call in run.open_calls.items():
        status = _tool_status(ending)
        for member in _open_members(run, call_id):
            status = _tool_status(_promised(member, ending))
            said += close_member(member, ending, usages.get(member.run_id))
        said.append((run.origin, _closed(call_id, call.tool_name, status, call.turn)))
    total = sum(
        (usages.get(member.run_id, member.usage) for member in run.members.values()),
        start=usages.get(run.run_id, run.own_usage),
    )
    said.append((run.origin, _final(run, ending, total)))
    return said


def _open_members(run: Run, call_id: str) -> Iterator[MemberRun]:
    """Yield the members that still work on a tool call of the leader's."""
    for member in run.members.values():
        if member.tool_call_id == call_id and not member.status.is_final:
            yield member


def close_member(member: MemberRun, ending: Ending, usage: Usage | None = None) -> list[Said]:
    """Return the events that end one member run, its open tool calls first."""
    if member.status.is_final:
        return []
    ending = _promised(member, ending)
    said = [*_request(member, ending)]
    for call_id, call in member.open_calls.items():
        closed = _closed(call_id, call.tool_name, _tool_status(ending), call.turn)
        said.append((member.origin, closed))
    said.append((member.origin, _final(member, ending, usage or member.usage)))
    return said


def _promised(of: Progress, ending: Ending) -> Ending:
    """A run's own flag overrules any other ending: a cancel that was taken is a promise."""
    return ending if of.cancel is None else Stopped(of.cancel)


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
