"""A team is a leader with one more tool: delegation, in the three modes of the contract.

`delegate_task_to_member` runs a member in a place below the leader's; its result, as the leader
reads it, is the member's whole answer as JSON. Members delegated to in one turn run side by side.
Stopping one member cancels that member's scope alone: the leader reads that it was stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import anyio
import msgspec

from app.domain.closing import Answered, Ending, Failed, Said
from app.domain.errors import ModelFailed, RunFailed
from app.domain.events import Failure, FinishReason, RunContent, RunStarted
from app.domain.run import MemberRun, Status
from app.domain.team import Mode
from app.ports import ConversationItem, Tool, ToolCall, ToolResult, ToolSpec, UserText
from app.runtime import results
from app.runtime.agent import Agent, Offer, Tools, work
from app.runtime.context import Context, end_member

logger = logging.getLogger(__name__)

TO_MEMBER: Final = "delegate_task_to_member"
TO_MEMBERS: Final = "delegate_task_to_members"


@dataclass(frozen=True, slots=True)
class Member:
    """An agent that works for a leader."""

    agent: Agent
    description: str
    tools: Mapping[str, Tool]


@dataclass(frozen=True, slots=True)
class Team:
    """A leader and its members, ready to run.

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
    desk = _LeaderDesk(team, context)
    return await _reach(work(team.leader, conversation, desk, context))


class _LeaderDesk:
    """A leader's desk: its own tools and delegation, as the mode has it."""

    def __init__(self, team: Team, context: Context) -> None:
        self._team = team
        self._delegation = _Delegation(team, context)
        self._tool = {"coordinate": _ToMember, "route": _Route, "broadcast": _ToMembers}[team.mode](
            self._delegation
        )

    def offer(self) -> Offer:
        """Return delegation and the leader's own tools; after a broadcast none."""
        mode, delegated = self._team.mode, self._delegation.has_run
        if mode == "broadcast" and delegated:
            return Offer()
        required = not delegated and (self._team.must_delegate or mode != "coordinate")
        tools = {self._tool.spec.name: self._tool, **self._team.tools}
        return Offer(tools, required, parallel=mode == "coordinate")

    def answer(self) -> FinishReason | None:
        """Tell that a routed member gave the answer."""
        return self._delegation.routed_answer


class _Delegation:
    """Runs members for a leader, in one run."""

    def __init__(self, team: Team, context: Context) -> None:
        self.team = team
        self.context = context
        self.has_run = False
        self.routed_answer: FinishReason | None = None
        self._places = anyio.CapacityLimiter(context.shared.limits.max_parallel_members)

    async def run(self, member: Member, task: str, call_id: str, echo: Echo = None) -> MemberRun:
        """Let a member do a task; how it ends is in what is returned."""
        self.has_run = True
        async with self._places:
            await self.context.flag.check()
            place = self.context.for_member(member.agent.id, member.agent.name)
            place.echo = echo
            started = RunStarted(member.agent.model.name, task=task, tool_call_id=call_id)
            await place.emit(started)
            reached: Ending | None = None
            with place.flag.scope:
                reached = await _reach(
                    work(member.agent, (UserText(task),), Tools(member.tools), place)
                )
            return await end_member(place, place.flag.ending(reached))


Echo = Callable[[RunContent], Said] | None


async def _reach(working: Awaitable[FinishReason]) -> Ending:
    """Name what an agent's work came to; a cancel is not named here, it passes through."""
    try:
        return Answered(await working)
    except ModelFailed as failed:
        return Failed(
            Failure(failed.code, failed.message, failed.upstream_status, failed.upstream_code)
        )
    except RunFailed as failed:
        return Failed(Failure(failed.code, failed.message))
    except Exception:
        logger.exception("an agent's work raised")
        return Failed(Failure("internal_error", "The service failed."))


# --- the tools ------------------------------------------------------------------------------------


class _Arguments(msgspec.Struct):
    member_id: str = ""
    task: str = ""


class _DelegationTool:
    """What the three ways to delegate have in common: the schema, and the reading of arguments."""

    name: str = TO_MEMBER
    sentence: str = "Delegate a task to a member of your team; the result is the member's answer."
    names_member: bool = True
    words_task: bool = True

    def __init__(self, delegation: _Delegation) -> None:
        self.delegation = delegation
        self.team = delegation.team
        self.words_task = self.words_task and not self.team.pass_input
        self.spec = ToolSpec(self.name, self.sentence, self._parameters())

    async def __call__(self, call: ToolCall) -> ToolResult:
        """Delegate; a mistake in the call is a result that the leader reads."""
        try:
            arguments = msgspec.json.decode(call.arguments or "{}", type=_Arguments)
        except (msgspec.DecodeError, UnicodeEncodeError):
            return self._refuse(call, None, "The arguments are not the JSON object described.")
        if self.names_member and arguments.member_id not in self.team.members:
            return self._refuse(call, arguments.member_id, "The team has no such member.")
        if self.words_task and not arguments.task.strip():
            return self._refuse(call, arguments.member_id or None, "The task is missing.")
        return await self.delegate(call, arguments)

    async def delegate(self, call: ToolCall, arguments: _Arguments) -> ToolResult:
        """Run whom the arguments name."""
        raise NotImplementedError

    def task(self, arguments: _Arguments) -> str:
        """Return what a member is to do."""
        return arguments.task if self.words_task else self.delegation.context.run.request.input

    def _parameters(self) -> Mapping[str, Any]:
        properties: dict[str, Any] = {}
        if self.names_member:
            properties["member_id"] = {
                "type": "string",
                "enum": list(self.team.members),
                "description": "The member's id.",
            }
        if self.words_task:
            properties["task"] = {
                "type": "string",
                "description": "What is to be done, with all that is needed to do it.",
            }
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def _refuse(self, call: ToolCall, member_id: str | None, sentence: str) -> ToolResult:
        return ToolResult(call.call_id, results.mistake(member_id, sentence), "error")


class _ToMember(_DelegationTool):
    async def delegate(self, call: ToolCall, arguments: _Arguments) -> ToolResult:
        member = self.team.members[arguments.member_id]
        done = await self.delegation.run(member, self.task(arguments), call.call_id)
        return ToolResult(call.call_id, results.of_member(done), results.STATUS[done.status])


class _Route(_DelegationTool):
    """The member's text is the run's answer: each piece is the team's too, in the same batch."""

    sentence = "Hand the request over to the member of your team that answers it best."
    words_task = False

    def __init__(self, delegation: _Delegation) -> None:
        super().__init__(delegation)
        self._turns: set[int] = set()

    async def delegate(self, call: ToolCall, arguments: _Arguments) -> ToolResult:
        context, member = self.delegation.context, self.team.members[arguments.member_id]
        turn = context.run.open_calls[call.call_id].turn
        if turn in self._turns:
            return self._refuse(call, arguments.member_id, "Hand over to one member alone.")
        self._turns.add(turn)

        def echo(piece: RunContent) -> Said:
            return context.origin, RunContent(piece.content, turn)

        done = await self.delegation.run(member, context.run.request.input, call.call_id, echo)
        if done.status is Status.COMPLETED:
            self.delegation.routed_answer = done.finish_reason
        return ToolResult(call.call_id, results.of_member(done), results.STATUS[done.status])


class _ToMembers(_DelegationTool):
    name = TO_MEMBERS
    sentence = "Delegate a task to all members of your team; the result is their answers."
    names_member = False

    async def delegate(self, call: ToolCall, arguments: _Arguments) -> ToolResult:
        done: dict[str, MemberRun] = {}

        async def run(member: Member) -> None:
            done[member.agent.id] = await self.delegation.run(
                member, self.task(arguments), call.call_id
            )

        async with anyio.create_task_group() as group:
            for member in self.team.members.values():
                group.start_soon(run, member)
        in_order = [done[member_id] for member_id in self.team.members]
        return ToolResult(call.call_id, results.of_members(in_order), results.status(in_order))
