"""One agent at work: ask the model, do the tools, until there is an answer.

The same loop serves leaders and members. What differs between them is what stands on their `Desk`:
a member has its tools, a leader has delegation as one more (`runtime/team.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import anyio
import msgspec

from app.domain.closing import Failed
from app.domain.errors import RunFailed
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
from app.ports import (
    ConversationItem,
    Model,
    ModelEvent,
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

logger = logging.getLogger(__name__)

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
    said = list(conversation)
    for turn in count(1):
        if turn > context.shared.limits.max_turns:
            raise RunFailed("turn_limit", "The agent took as many turns as it may.")
        offer = desk.offer()
        end = await _ask(agent, _request(agent, said, offer, context), turn, context)
        said.append(end.turn)
        if end.turn.calls:
            said += await _do(end.turn.calls, offer, turn, context)
            answer = desk.answer()
        elif offer.required:
            said.append(UserText(f"Call one of your tools first: {', '.join(offer.tools)}."))
            answer = None
        else:
            answer = end.finish_reason
        if answer is not None:
            return answer
    raise AssertionError  # count() does not end


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
    await context.flag.check()
    left = context.shared.budget.left
    if left is not None and left < SMALLEST_CALL:
        await context.end_run(OVERDRAWN)
    meter, end = context.meter, None
    meter.call(request)
    with IdleTimer(context.shared.limits.model_idle_timeout_s) as timer:
        async with agent.model.stream(request) as batches:
            async for batch in batches:
                timer.heard()
                events: list[Event] = []
                for piece in batch:
                    if type(piece) is TextDelta:
                        meter.hear(piece.text)
                        events += [RunContent(text, turn) for text in _pieces(piece.text)]
                    elif type(piece) is TurnEnd:
                        end = piece
                    else:
                        events += _rarer(piece, turn, context, timer)
                if events:
                    await context.emit(*events)
    if end is None:
        raise RunFailed("model_incomplete", "The model's stream ended without an end.")
    meter.report(end.usage)
    await _judge(end, request, agent, context)
    return end


def _rarer(piece: ModelEvent, turn: int, context: Context, timer: IdleTimer) -> Sequence[Event]:
    """Return the events for what is not text."""
    if isinstance(piece, Retry):
        timer.heard(piece.delay_s)
        retry = ModelRetry(
            piece.attempt,
            piece.delay_s,
            piece.code,
            piece.upstream_status,
            piece.upstream_code,
            turn,
        )
        return [retry]
    assert isinstance(piece, ReasoningDelta)  # noqa: S101 - the union's last member
    context.meter.hear(piece.text)
    return [ReasoningContentDelta(text, turn) for text in _pieces(piece.text)]


async def _judge(end: TurnEnd, request: ModelRequest, agent: Agent, context: Context) -> None:
    """Tell a cut that the agent asked for from one by the budget, and from one nobody asked for."""
    budget = context.shared.budget
    if budget.is_overdrawn:
        await context.end_run(OVERDRAWN)
    if end.finish_reason != "length":
        return
    if request.max_output_tokens is None:
        raise RunFailed("model_incomplete", "The model stopped before it was done.")
    if request.max_output_tokens != agent.max_output_tokens:
        await context.end_run(OVERDRAWN)


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
    known = ToolCall(context.name_call(call.call_id), call.name, call.arguments)
    await _count_call(context)
    shown = _cut(call.arguments, _MAX_ARGUMENTS)
    await context.emit(ToolCallStarted(known.call_id, call.name, shown, turn))
    result = await _outcome(offer.tools.get(call.name), known)
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


async def _count_call(context: Context) -> None:
    if len(context.shared.tool_calls) > context.shared.limits.max_tool_calls:
        await context.end_run(
            Failed(Failure("tool_limit", "The run made as many tool calls as it may."))
        )


def _pieces(text: str) -> Iterator[str]:
    """Yield one delta, or several pieces of it where it is too long for one event."""
    at = 0
    while (len(text) - at) * 4 > _MAX_PIECE:  # no character has more than four bytes
        piece = _cut(text[at : at + _MAX_PIECE], _MAX_PIECE)
        yield piece
        at += len(piece)
    if at < len(text):
        yield text[at:]


def _cut(text: str, size: int) -> str:
    """Return the start of a text that fits some UTF-8 bytes, cut at a character."""
    head = text[:size].encode("utf-8", "replace")[:size]
    return head.decode("utf-8", "ignore") if len(head) == size else text
