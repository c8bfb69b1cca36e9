"""What a leader reads of a delegation: JSON text, each member's answer whole. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from app.domain.events import Failure, ToolStatus
from app.domain.run import MemberRun
from app.domain.status import Status

STATUS: Final[Mapping[Status, ToolStatus]] = {
    Status.COMPLETED: "completed",
    Status.CANCELLED: "cancelled",
    Status.ERROR: "error",
}
"""How a delegation ended, by how its member did."""


class _Result(msgspec.Struct):
    """The contract's object, key by key; a call that reached no member names none."""

    run_id: str | None = None
    agent_id: str | None = None
    agent_name: str | None = None
    status: str = "error"
    content: str = ""
    error: Failure | None = None


def of_member(member: MemberRun) -> str:
    """Return the result of a task for one member."""
    return _text(_told(member))


def of_members(members: Sequence[MemberRun]) -> str:
    """Return the result of a task for several, in their order."""
    return _text([_told(member) for member in members])


def mistake(member_id: str | None, sentence: str) -> str:
    """Return the result of a call that reached no member."""
    return _text(_Result(agent_id=member_id, error=Failure("invalid_arguments", sentence)))


def status(members: Sequence[MemberRun]) -> ToolStatus:
    """Return how a broadcast ended: completed when any member completed it, else as it went."""
    ended = {STATUS[member.status] for member in members}
    return next(each for each in ("completed", "error", "cancelled") if each in ended)


def _told(member: MemberRun) -> _Result:
    origin = member.origin
    return _Result(
        member.run_id, origin.id, origin.name, member.status.value, member.content, member.error
    )


def _text(result: _Result | Sequence[_Result]) -> str:
    return msgspec.json.encode(result).decode()
