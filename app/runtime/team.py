"""A team is a leader with one more tool: delegation (`delegation.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.domain.closing import Ending
from app.domain.events import RunStarted
from app.domain.team import Mode
from app.ports import ConversationItem, Tool
from app.runtime.agent import Agent, reach, work
from app.runtime.context import Context
from app.runtime.delegation import Delegation, Member


@dataclass(frozen=True, slots=True)
class Team:
    """A leader and its members, ready to run; `tools` are the leader's own.

    `must_delegate`: the leader delegates before it answers. `pass_input`: members get the run's
    input as it is, in place of a task in the leader's words.
    """

    mode: Mode
    leader: Agent
    members: Mapping[str, Member]
    tools: Mapping[str, Tool]
    must_delegate: bool
    pass_input: bool


async def lead(team: Team, conversation: Sequence[ConversationItem], context: Context) -> Ending:
    """Let a team work on the last user text of a conversation."""
    await context.emit(RunStarted(team.leader.model.name, mode=team.mode))
    delegation = Delegation(
        team.mode,
        team.members,
        context,
        leader_tools=team.tools,
        must_delegate=team.must_delegate,
        pass_input=team.pass_input,
    )
    return await reach(work(team.leader, conversation, delegation, context))
