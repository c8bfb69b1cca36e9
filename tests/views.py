"""Everything that a run says of itself, to be compared."""

from __future__ import annotations

from typing import Any

from app.domain.run import MemberRun, Progress, Run

_OF_ALL = (
    "run_id",
    "origin",
    "started_at",
    "finished_at",
    "finish_reason",
    "error",
    "cancel",
    "cancel_is_logged",
    "open_calls",
    "is_cancelling",
    "status",
    "content",
    "own_usage",
    "usage",
)


def everything(run: Run) -> dict[str, Any]:
    team = {name: getattr(run, name) for name in ("request", "last_event_id", "log_bytes")}
    return _progress(run) | team | {"members": [_member(each) for each in run.members.values()]}


def _member(member: MemberRun) -> dict[str, Any]:
    return _progress(member) | {"task": member.task, "tool_call_id": member.tool_call_id}


def _progress(of: Progress) -> dict[str, Any]:
    return {name: getattr(of, name) for name in _OF_ALL}
