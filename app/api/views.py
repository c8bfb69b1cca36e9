"""Runs, members and teams as JSON, in the contract's words; `shapes.py` has their types."""

from __future__ import annotations

from typing import Final

import msgspec

from app.api import shapes
from app.domain.run import Cancel, MemberRun, Progress, Run
from app.domain.team import AgentSpec, TeamSpec

LISTED_INPUT_CHARS: Final = 200


def view_of(of: Run | MemberRun, ticket: str | None = None) -> shapes.Run | shapes.MemberRun:
    """Return a run, or a member run as one asks for it by its own id.

    The link to its events carries the ticket, if there is one.
    """
    if isinstance(of, Run):
        return run_view(of, ticket)
    return {**member_view(of), "links": _links(of, ticket)}


def run_view(run: Run, ticket: str | None = None) -> shapes.Run:
    """Return a team run with everything about it."""
    return {
        **_head(run),
        "input": run.request.input,
        "content": run.content,
        "members": [member_view(member) for member in run.members.values()],
        **_tail(run, ticket),
    }


def listed_view(run: Run) -> shapes.RunSummary:
    """Return a team run as an item of a list: the long parts cut or left out."""
    text = run.request.input
    return {
        **_head(run),
        "input": text[:LISTED_INPUT_CHARS],
        "input_truncated": len(text) > LISTED_INPUT_CHARS,
        **_tail(run),
    }


def member_view(member: MemberRun) -> shapes.Member:
    """Return a member run as an entry of its team run."""
    return {
        "run_id": member.run_id,
        "parent_run_id": member.origin.parent_run_id or "",  # every member has one
        "agent_id": member.origin.id,
        "agent_name": member.origin.name,
        "status": member.status,
        "task": member.task,
        "content": member.content,
        "finish_reason": member.finish_reason,
        "usage": msgspec.to_builtins(member.usage),
        "error": msgspec.to_builtins(member.error),
        "cancel": _cancel(member.cancel),
        "started_at": member.started_at,
        "finished_at": member.finished_at,
    }


def team_view(team: TeamSpec, default_model: str) -> shapes.Team:
    """Return what a client may know of a team: never its instructions."""
    return {
        **_agent(team, default_model),
        "mode": team.mode,
        "members": [_agent(member, default_model) for member in team.members],
    }


def _agent(agent: AgentSpec, default_model: str) -> shapes.Agent:
    return {
        "id": agent.id,
        "name": agent.name,
        "description": agent.description,
        "model": agent.model or default_model,
    }


def _head(run: Run) -> shapes.RunHead:
    return {"run_id": run.run_id, "team_id": run.request.team_id, "status": run.status}


def _tail(run: Run, ticket: str | None = None) -> shapes.RunTail:
    return {
        "finish_reason": run.finish_reason,
        "usage": msgspec.to_builtins(run.usage),
        "error": msgspec.to_builtins(run.error),
        "cancel": _cancel(run.cancel),
        "session_id": run.request.session_id,
        "metadata": run.request.metadata,
        "created_at": run.request.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "last_event_id": run.last_event_id,
        "links": _links(run, ticket),
    }


def _cancel(cancel: Cancel | None) -> shapes.Cancel | None:
    if cancel is None:
        return None
    return {"requested_at": cancel.requested_at, "reason": cancel.reason, "by": cancel.by}


def _links(of: Progress, ticket: str | None) -> shapes.Links:
    path = f"/runs/{of.run_id}"
    query = "" if ticket is None else f"?ticket={ticket}"
    return {"self": path, "events": f"{path}/events{query}", "cancel": path}
