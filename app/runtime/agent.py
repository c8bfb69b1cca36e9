"""One agent at work: ask the model, do the tools, until there is an answer.

The same loop serves leaders and members. What differs between them is what stands on their `Desk`:
a member has its tools, a leader has delegation as one more (`runtime/team.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import anyio
import msgspec

from app.domain.closing import Answered, Ending, Failed
from app.domain.errors import ModelFailed, RunFailed
from app.domain.events import (
    Event,
    Failure,
    FinishReason,
    ModelRetry,
    ReasoningContentDelta,
    RunContent,
    ToolCallCompleted,
    ToolCallStarted,
)
from app.domain.text import cut, pieces
from app.observer.facts import FirstToken, Retried
from app.observer.work import UNKNOWN, ModelCall, ToolUse
from app.ports import (
    ConversationItem,
    Model,
    ModelRequest,
    ReasoningDelta,
    Retry,
    TextDelta,
    Tool,
    ToolCall,
    ToolResult,
    TurnEnd,
    UserText,
)
from app.runtime.budget import OVERDRAWN, SMALLEST_CALL
from app.runtime.cancellation import IdleTimer
from app.runtime.context import Context
from app.runtime.own_task import in_own_task

logger = logging.getLogger(__name__)

_MAX_REMINDERS = 2
"""How often an agent is told again that it must call a tool."""

_WORDS = (TextDelta, ReasoningDelta)
"""What nearly all that a model sends is. A union would be made anew at each of them."""

_MAX_PIECE = 16 * 1024
_MAX_ARGUMENTS = 64 * 1024


@dataclass(frozen=True, slots=True)
class Agent:
    """A model with instructions: who it is, and what each of its calls is sent."""

    id: str
    name: str
    model: Model
    instructions: str
    hosted_tools: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools that an agent has on one turn, and whether it must use one."""

    tools: Mapping[str, Tool] = field(default_factory=dict)
    required: bool = False
    parallel: bool = True


class Desk(Protocol):
    """What lies before an agent, turn by turn."""

    def offer(self) -> Offer:
        """Return the tools of the next turn."""

    def answer(self) -> FinishReason | None:
        """Tell that a tool gave the agent's whole answer, so that it is not called again."""


@dataclass(frozen=True, slots=True)
class Tools:
    """A member's desk: the same tools on every turn."""

    tools: Mapping[str, Tool] = field(default_factory=dict)

    def offer(self) -> Offer:
        """Return all tools."""
        return Offer(self.tools)

    def answer(self) -> None:
        """No tool answers in a member's place."""


async def work(
    agent: Agent, conversation: Sequence[ConversationItem], desk: Desk, context: Context
) -> FinishReason:
    """Let an agent answer; its words and deeds go to the log. Raises `RunFailed`."""
    said, reminders = list(conversation), 0
    for turn in range(1, context.shared.limits.max_turns + 1):
        offer = desk.offer()
        end = await _ask(agent, _request(agent, said, offer, context), turn, context)
        said.append(end.turn)
        if end.turn.calls:
            said += await _do(end.turn.calls, offer, turn, context)
            answer = desk.answer()
            if answer is not None:
                return answer
        elif offer.required and end.finish_reason == "stop":
            reminders += 1
            if reminders > _MAX_REMINDERS:
                raise RunFailed("turn_limit", "The agent answered where it had to call a tool.")
            said.append(UserText(f"Call one of your tools first: {', '.join(offer.tools)}."))
        else:
            return end.finish_reason
    raise RunFailed("turn_limit", "The agent took as many turns as it may.")


async def reach(working: Awaitable[FinishReason]) -> Ending:
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


def _request(
    agent: Agent, said: Sequence[ConversationItem], offer: Offer, context: Context
) -> ModelRequest:
    return ModelRequest(
        instructions=agent.instructions,
        conversation=tuple(said),
        tools=tuple(tool.spec for tool in offer.tools.values()),
        hosted_tools=agent.hosted_tools,
        tool_choice="required" if offer.required else "auto",
        parallel_tool_calls=offer.parallel,
        max_output_tokens=_cap(agent.max_output_tokens, context.shared.budget.left),
        options=agent.options,
    )


def _cap(own: int | None, left: int | None) -> int | None:
    return min((cap for cap in (own, left) if cap is not None), default=None)


async def _ask(agent: Agent, request: ModelRequest, turn: int, context: Context) -> TurnEnd:
    """Make one model call. The model's stream is closed when this is left, however it is."""
    await _admit(context)
    observers = context.shared.observers
    with observers.doing(ModelCall(context.work, agent.model.name, turn)) as call:
        try:
            asked = replace(request, headers=call.headers)
            end = await in_own_task(_listen(agent.model, asked, call, context))
        finally:
            call.usage, call.stop = context.meter.call_usage, context.flag.stop
        call.finish_reason = end.finish_reason
    await _judge(end, request, agent, context)
    return end


async def _listen(
    model: Model, request: ModelRequest, call: ModelCall, context: Context
) -> TurnEnd:
    """Have the model speak, and write down what it says."""
    meter, end, turn = context.meter, None, call.turn
    meter.call(request)
    with IdleTimer(context.shared.limits.model_idle_timeout_s) as timer:
        async with model.stream(request) as batches:
            async for batch in batches:
                events: list[Event] = []
                pause_s = 0.0
                for piece in batch:
                    if isinstance(piece, _WORDS):
                        if not call.has_spoken:
                            _begin_to_speak(call, context)
                        meter.hear(piece.text)
                        events += _said(piece, turn)
                    elif isinstance(piece, TurnEnd):
                        end = piece
                    else:
                        pause_s = piece.delay_s
                        events.append(_retry(piece, call, context))
                if events:
                    await context.emit(*events)
                timer.heard(pause_s)  # neither a retry's pause nor the store's is its silence
    if end is None:
        raise RunFailed("model_incomplete", "The model's stream ended without an end.")
    for tool_call in end.turn.calls:
        meter.hear(tool_call.arguments)
    meter.report(end.usage)
    return end


async def _admit(context: Context) -> None:
    """Go on only if the run does, and if what is left of its budget is worth a call."""
    await context.flag.check()
    left = context.shared.budget.left
    if left is not None and left < SMALLEST_CALL:
        await context.abort_run(OVERDRAWN)


def _said(piece: TextDelta | ReasoningDelta, turn: int) -> Sequence[Event]:
    kind = RunContent if type(piece) is TextDelta else ReasoningContentDelta
    if len(piece.text) <= _MAX_PIECE // 4:  # no character has more than four bytes
        return (kind(piece.text, turn),)
    return [kind(text, turn) for text in pieces(piece.text, _MAX_PIECE)]


def _begin_to_speak(call: ModelCall, context: Context) -> None:
    team_run = call.place.team_run
    fact = FirstToken(call, of_run=not team_run.has_spoken)
    call.has_spoken = team_run.has_spoken = True
    context.shared.observers.note(fact)


def _retry(retry: Retry, call: ModelCall, context: Context) -> ModelRetry:
    attempt, delay_s, code, status = retry.attempt, retry.delay_s, retry.code, retry.upstream_status
    context.shared.observers.note(Retried(call, attempt, delay_s, code, status))
    return ModelRetry(attempt, delay_s, code, status, retry.upstream_code, call.turn)


async def _judge(end: TurnEnd, request: ModelRequest, agent: Agent, context: Context) -> None:
    """Tell a cut that the agent asked for from one by the budget, and from one nobody asked for."""
    budget = context.shared.budget
    if budget.is_overdrawn():
        await context.abort_run(OVERDRAWN)
    if end.finish_reason != "length":
        return
    if request.max_output_tokens is None:
        raise RunFailed("model_incomplete", "The model stopped before it was done.")
    if request.max_output_tokens != agent.max_output_tokens:
        await context.abort_run(OVERDRAWN)


async def _do(
    calls: Sequence[ToolCall], offer: Offer, turn: int, context: Context
) -> Sequence[ToolResult]:
    """Make the calls of one turn side by side; results come back in the order of the calls."""
    results: dict[int, ToolResult] = {}

    async def do(index: int, call: ToolCall) -> None:
        results[index] = await _call(call, offer, turn, context)

    async with anyio.create_task_group() as group:
        for index, call in enumerate(calls):
            group.start_soon(do, index, call)
    return [results[index] for index in range(len(calls))]


async def _call(call: ToolCall, offer: Offer, turn: int, context: Context) -> ToolResult:
    """Make one tool call; whatever goes wrong in it is a result that the model reads."""
    await context.flag.check()
    known = ToolCall(await context.admit_call(call.call_id), call.name, call.arguments)
    shown = cut(call.arguments, _MAX_ARGUMENTS)
    await context.emit(ToolCallStarted(known.call_id, call.name, shown, turn))
    tool = offer.tools.get(call.name)
    use = ToolUse(context.work, known.call_id, call.name if tool else UNKNOWN)
    with context.shared.observers.doing(use):
        result = await _outcome(tool, known)
        use.outcome = result.status
    await context.emit(
        ToolCallCompleted(known.call_id, call.name, result.status, result.output, turn)
    )
    return ToolResult(call.call_id, result.output, result.status)


async def _outcome(tool: Tool | None, call: ToolCall) -> ToolResult:
    if tool is None:
        return _mistake(call, "There is no tool of this name.")
    try:
        return await tool(call)
    except Exception:
        logger.exception("the tool %s raised", call.name)
        return _mistake(call, "The tool failed.")


def _mistake(call: ToolCall, sentence: str) -> ToolResult:
    return ToolResult(call.call_id, msgspec.json.encode({"error": sentence}).decode(), "error")
