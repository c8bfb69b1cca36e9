"""A run as it stands, as text: so that a store need not fold a long log again to tell its result.

A snapshot holds what the fold of the log and the flags holds, the request aside, which stores keep
for themselves. `restore` gives a run that answers everything as the one that was saved, and that
goes on folding. ASCII JSON: whatever the model wrote, lone surrogates included, comes back.
"""
# ruff: noqa: SLF001 - the other half of `run.py`, which it would make too long to be read

from __future__ import annotations

import json
from typing import Any

import msgspec

from app.domain.events import (
    Failure,
    FinishReason,
    Origin,
    RunContent,
    RunStarted,
    ToolCallStarted,
    Usage,
)
from app.domain.run import Cancel, MemberRun, Progress, Run, RunRequest
from app.domain.status import Status


class _Saved(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The part that team runs and member runs have in common."""

    started_at: str | None = None
    finished_at: str | None = None
    finish_reason: FinishReason | None = None
    error: Failure | None = None
    cancel: Cancel | None = None
    cancel_is_logged: bool = False
    open_calls: dict[str, ToolCallStarted] = {}
    ended: Status | None = None
    usage: Usage | None = None
    turn: int = 0
    text: str = ""
    output_bytes: int = 0


class _SavedMember(_Saved, omit_defaults=True, kw_only=True):
    """`origin` is its run id, agent id and name, session id and parent run id."""

    origin: tuple[str, str, str, str | None, str | None]
    task: str
    tool_call_id: str


class _SavedRun(_Saved, omit_defaults=True, kw_only=True):
    members: tuple[_SavedMember, ...] = ()
    last_event_id: int = 0
    log_bytes: int = 0


def snapshot(run: Run) -> bytes:
    """Return everything that a run's log and flags say, without its request."""
    saved = _SavedRun(
        **_common(run),
        members=tuple(map(_member, run.members.values())),
        last_event_id=run.last_event_id,
        log_bytes=run.log_bytes,
    )
    return json.dumps(msgspec.to_builtins(saved), separators=(",", ":")).encode("ascii")


def restore(request: RunRequest, saved: bytes) -> Run:
    """Return the run of which a snapshot was taken."""
    whole = msgspec.convert(json.loads(saved), _SavedRun)
    run = Run(request)
    _refill(run, whole)
    for each in whole.members:
        started = RunStarted("", task=each.task, tool_call_id=each.tool_call_id)
        member = MemberRun(Origin(*each.origin), started, run)
        _refill(member, each)
        run.members[member.run_id] = member
    run.last_event_id, run.log_bytes = whole.last_event_id, whole.log_bytes
    return run


def _common(of: Progress) -> dict[str, Any]:
    return {
        "started_at": of.started_at,
        "finished_at": of.finished_at,
        "finish_reason": of.finish_reason,
        "error": of.error,
        "cancel": of.cancel,
        "cancel_is_logged": of.cancel_is_logged,
        "open_calls": of.open_calls,
        "ended": of.ended,
        "usage": of._usage,
        "turn": of._turn,
        "text": of.content,
        "output_bytes": of._output_bytes,
    }


def _member(member: MemberRun) -> _SavedMember:
    who = member.origin
    return _SavedMember(
        **_common(member),
        origin=(who.run_id, who.id, who.name, who.session_id, who.parent_run_id),
        task=member.task,
        tool_call_id=member.tool_call_id,
    )


def _refill(of: Progress, saved: _Saved) -> None:
    of.started_at, of.finished_at = saved.started_at, saved.finished_at
    of.finish_reason, of.error, of._usage = saved.finish_reason, saved.error, saved.usage
    of.cancel, of.cancel_is_logged = saved.cancel, saved.cancel_is_logged
    of.open_calls, of.ended = saved.open_calls, saved.ended
    if saved.text:
        of._say(RunContent(saved.text, saved.turn))
    of._turn, of._output_bytes = saved.turn, saved.output_bytes
