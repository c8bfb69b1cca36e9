"""Delegation: the tool by which a leader has its members work, and what each mode makes of it.

A call runs members in places below the leader's; its result, as the leader reads it, is their
whole answers as JSON (`results.py`). Calls of one turn run side by side. Stopping one member
cancels that member's scope alone: the leader reads that it was stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio
import msgspec

from app.domain.closing import Ending, Said
from app.domain.events import FinishReason, RunContent, RunStarted
from app.domain.run import MemberRun
from app.domain.status import Status
from app.domain.team import Mode
from app.ports import Tool, ToolCall, ToolResult, ToolSpec, UserText
from app.runtime import results
from app.runtime.agent import Agent, Offer, Tools, reach, work
from app.runtime.context import Context, Echo, conclude_member

TO_MEMBER: Final = "delegate_task_to_member"
TO_MEMBERS: Final = "delegate_task_to_members"


@dataclass(frozen=True, slots=True)
class Member:
    """An agent that works for a leader."""

    agent: Agent
    description: str
    tools: Mapping[str, Tool]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a mode makes of delegation.

    `to_all`: a call reaches every member, else the one it names. `words_task`: the leader words the
    task. `is_due`: the leader must delegate before anything else. `once_a_turn`: one call a turn.
    `answers`: the member's text is the leader's. `is_last`: after it the leader has no tools.
    """

    tool: str
    sentence: str
    to_all: bool = False
    words_task: bool = True
    is_due: bool = True
    once_a_turn: bool = True
    answers: bool = False
    is_last: bool = False


MODES: Final[Mapping[Mode, Rules]] = {
    "coordinate": Rules(
        TO_MEMBER,
        "Delegate a task to a member of your team; the result is the member's answer.",
        is_due=False,
        once_a_turn=False,
    ),
    "route": Rules(
        TO_MEMBER,
        "Hand the request over to the member of your team that answers it best.",
        words_task=False,
        answers=True,
    ),
    "broadcast": Rules(
        TO_MEMBERS,
        "Delegate a task to all members of your team; the result is their answers.",
        to_all=True,
        is_last=True,
    ),
}


class _Arguments(msgspec.Struct):
    member_id: str = ""
    task: str = ""


class Delegation:
    """A leader's desk with the tool on it; one a run."""

    def __init__(  # noqa: PLR0913 - a team, field by field, and the place where it works
        self,
        mode: Mode,
        members: Mapping[str, Member],
        context: Context,
        *,
        leader_tools: Mapping[str, Tool],
        must_delegate: bool,
        pass_input: bool,
    ) -> None:
        self._rules = MODES[mode]
        self._members = members
        self._context = context
        self._words_task = self._rules.words_task and not pass_input
        self._is_due = self._rules.is_due or must_delegate
        self._tools: Mapping[str, Tool] = {self._rules.tool: self, **leader_tools}
        self._places = anyio.CapacityLimiter(context.shared.limits.max_parallel_members)
        self._turns: set[int] = set()
        self._has_run = False
        self._answer: FinishReason | None = None
        self.spec = ToolSpec(self._rules.tool, self._rules.sentence, self._parameters())

    # --- the desk ---------------------------------------------------------------------------------

    def offer(self) -> Offer:
        """Return what the leader may use on its next turn."""
        if self._has_run and self._rules.is_last:
            return Offer()
        required = self._is_due and not self._has_run
        return Offer(self._tools, required, parallel=not self._rules.once_a_turn)

    def answer(self) -> FinishReason | None:
        """Tell that a member gave the answer in the leader's place."""
        return self._answer

    # --- the tool ---------------------------------------------------------------------------------

    async def __call__(self, call: ToolCall) -> ToolResult:
        """Delegate; a mistake in the call is a result that the leader reads."""
        try:
            arguments = msgspec.json.decode(call.arguments or "{}", type=_Arguments)
        except (msgspec.DecodeError, UnicodeEncodeError):
            return _refuse(call, None, "The arguments are not the JSON object described.")
        if not self._rules.to_all and arguments.member_id not in self._members:
            return _refuse(call, arguments.member_id, "The team has no such member.")
        if self._words_task and not arguments.task.strip():
            return _refuse(call, arguments.member_id or None, "The task is missing.")
        turn = self._context.run.open_calls[call.call_id].turn
        if self._rules.once_a_turn and turn in self._turns:
            return _refuse(call, arguments.member_id or None, "Delegate once at a time.")
        self._turns.add(turn)
        return await self._delegate(call, arguments, turn)

    async def _delegate(self, call: ToolCall, arguments: _Arguments, turn: int) -> ToolResult:
        task = arguments.task if self._words_task else self._context.run.request.input
        if self._rules.to_all:
            return await self._run_all(call.call_id, task)
        member, echo = self._members[arguments.member_id], self._echo(turn)
        done = await self._run(member, call.call_id, task, echo)
        if self._rules.answers and done.status is Status.COMPLETED:
            self._answer = done.finish_reason
        return ToolResult(call.call_id, results.of_member(done), results.STATUS[done.status])

    async def _run_all(self, call_id: str, task: str) -> ToolResult:
        done: dict[str, MemberRun] = {}

        async def run(member_id: str) -> None:
            done[member_id] = await self._run(self._members[member_id], call_id, task)

        async with anyio.create_task_group() as group:
            for member_id in self._members:
                group.start_soon(run, member_id)
        in_order = [done[member_id] for member_id in self._members]
        return ToolResult(call_id, results.of_members(in_order), results.status(in_order))

    async def _run(
        self, member: Member, call_id: str, task: str, echo: Echo | None = None
    ) -> MemberRun:
        """Let a member do a task, when it has a place; how it ends is in what is returned."""
        self._has_run = True
        async with self._places:
            await self._context.flag.check()
            agent = member.agent
            with self._context.open_member(agent.id, agent.name, call_id, echo) as place:
                await place.emit(RunStarted(agent.model.name, task=task, tool_call_id=call_id))
                reached: Ending | None = None
                with place.flag.scope:
                    working = work(agent, (UserText(task),), Tools(member.tools), place)
                    reached = await reach(working)
                return await conclude_member(place, place.flag.ending(reached))

    def _echo(self, turn: int) -> Echo | None:
        """Where a member answers in the leader's place, each piece is the leader's too."""
        if not self._rules.answers:
            return None
        origin = self._context.origin

        def echo(piece: RunContent) -> Said:
            return origin, RunContent(piece.content, turn)

        return echo

    def _parameters(self) -> Mapping[str, Any]:
        properties: dict[str, Any] = {}
        if not self._rules.to_all:
            properties["member_id"] = {
                "type": "string",
                "enum": list(self._members),
                "description": "The member's id.",
            }
        if self._words_task:
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


def _refuse(call: ToolCall, member_id: str | None, sentence: str) -> ToolResult:
    return ToolResult(call.call_id, results.mistake(member_id, sentence), "error")
