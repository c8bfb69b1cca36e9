"""Runs as traces, by OpenTelemetry's conventions for generative AI.

```
invoke_workflow TEAM                  a run; its parent is the traceparent of POST /runs
├── chat MODEL                        a turn of the leader
├── execute_tool delegate_task_to_member
│   └── invoke_agent NAME             a member
│       ├── chat MODEL
│       └── execute_tool NAME
└── chat MODEL
```

The model's request carries the `traceparent` of its `chat` span, and the caller's `tracestate`.
With tracing off nothing is passed on: whoever sees it would wait for spans that never come. A
malformed `traceparent` begins a trace of its own, as W3C Trace Context has it.

Errors and cancels are the status `ERROR`, their code, or `cancelled`, is `error.type`. Prompts,
answers, arguments and results are in no attribute. The names stand here as text, for the package
that has them calls them incubating; a test compares.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.domain.events import Usage
from app.observer.facts import CancelSeen, Fact, FirstToken, Retried, RunBegan
from app.observer.telling import Observer
from app.observer.work import MemberWork, ModelCall, RunWork, ToolUse, Work

logger = logging.getLogger(__name__)

FLUSH_S: Final = 3.0
"""How long the last spans may take to be sent when the process ends."""

_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
"""A tool call's id, where it is no more than that: the model makes it up."""

_PROVIDERS: Final = {"local": "local", "scripted": "scripted"}
"""By the prefix of a model's name; all others are spoken to as OpenAI is."""

Attributes = dict[str, str | int | float | bool | Sequence[str]]


class Tracing(Observer):
    """Makes spans; `close` has the provider send what is left."""

    def __init__(self, provider: TracerProvider, shut_down: Callable[[], object]) -> None:
        self._tracer = provider.get_tracer("team-runs")
        self._shut_down = shut_down
        self._w3c = TraceContextTextMapPropagator()
        self._spans: dict[Work, Span] = {}
        self._tools: dict[tuple[RunWork, str], Span] = {}
        self._runs: dict[str, Span] = {}

    def began(self, work: Work) -> None:
        """Open its span."""
        match work:
            case RunWork():
                parent = self._w3c.extract(work.trace)
                span = self._open(f"invoke_workflow {work.origin.name}", _of_run(work), parent)
                self._runs[work.origin.run_id] = span
            case MemberWork():
                above = self._tools.get((work.team_run, work.tool_call_id))
                parent = set_span_in_context(above or self._spans[work.team_run])
                span = self._open(f"invoke_agent {work.origin.name}", _of_member(work), parent)
                self._runs[work.origin.run_id] = span
            case ModelCall():
                parent, model = self._inside(work), _model(work.model)
                span = self._open(f"chat {model}", _of_call(work), parent, SpanKind.CLIENT)
                work.headers = self._headers(span)
            case ToolUse():
                parent = self._inside(work)
                span = self._open(f"execute_tool {work.name}", _of_tool(work), parent)
                if isinstance(work.place, RunWork):
                    self._tools[work.place, work.call_id] = span
            case _:
                return
        self._spans[work] = span

    def ended(self, work: Work) -> None:
        """Close its span, with how it ended."""
        span = self._spans.pop(work)
        match work:
            case RunWork() | MemberWork():
                del self._runs[work.origin.run_id]
                span.set_attributes(_of_usage(work.usage))
            case ModelCall():
                span.set_attributes(_of_end(work))
            case ToolUse(place=RunWork() as place):
                del self._tools[place, work.call_id]
        if work.outcome != "completed":
            why = work.code or str(work.outcome)
            span.set_attribute("error.type", why)
            span.set_status(Status(StatusCode.ERROR, why))
        span.end()

    def note(self, fact: Fact) -> None:
        """Write what happens into the span in which it does."""
        match fact:
            case RunBegan(work):
                self._spans[work].add_event("running")
            case FirstToken(call):
                name = "gen_ai.response.time_to_first_chunk"
                self._spans[call].set_attribute(name, call.seconds)
            case Retried():
                told: Attributes = {"attempt": fact.attempt, "delay_s": fact.delay_s}
                self._spans[fact.call].add_event("retry", told | {"error.type": fact.code})
            case CancelSeen() if fact.run_id in self._runs:
                self._runs[fact.run_id].add_event("cancel_requested")

    @property
    def open_spans(self) -> int:
        """How many spans have not ended."""
        return max(len(self._spans), len(self._tools), len(self._runs))

    async def close(self) -> None:
        """Send what is left, for some seconds at most; elsewhere than on the event loop."""
        loop, is_sent = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            self._shut_down()
            loop.call_soon_threadsafe(is_sent.set)

        threading.Thread(target=send, name="last spans", daemon=True).start()
        try:
            async with asyncio.timeout(FLUSH_S):
                await is_sent.wait()
        except TimeoutError:
            logger.warning("the last spans could not be sent in time")

    def _open(
        self, name: str, attributes: Attributes, parent: Context, kind: SpanKind = SpanKind.INTERNAL
    ) -> Span:
        return self._tracer.start_span(name, parent, kind, attributes)

    def _inside(self, work: ModelCall | ToolUse) -> Context:
        return set_span_in_context(self._spans[work.place])

    def _headers(self, span: Span) -> Mapping[str, str]:
        headers: dict[str, str] = {}
        self._w3c.inject(headers, set_span_in_context(span))
        return headers


# --- attributes -----------------------------------------------------------------------------------


def _of_run(work: RunWork) -> Attributes:
    told: Attributes = {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": work.origin.name,
        "team_runs.team.id": work.origin.id,
        "team_runs.run.id": work.origin.run_id,
        "team_runs.tenant": work.request.tenant,
    }
    if work.origin.session_id is not None:
        told["gen_ai.conversation.id"] = work.origin.session_id
    return told


def _of_member(work: MemberWork) -> Attributes:
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.id": work.origin.id,
        "gen_ai.agent.name": work.origin.name,
        "team_runs.run.id": work.origin.run_id,
    }


def _of_call(call: ModelCall) -> Attributes:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _PROVIDERS.get(call.model.partition(":")[0], "openai"),
        "gen_ai.request.model": _model(call.model),
        "gen_ai.request.stream": True,
        "gen_ai.agent.id": call.place.origin.id,
        "gen_ai.agent.name": call.place.origin.name,
        "team_runs.turn": call.turn,
    }


def _of_tool(use: ToolUse) -> Attributes:
    told: Attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": use.name,
        "gen_ai.tool.type": "function",
    }
    return told | ({"gen_ai.tool.call.id": use.call_id} if _ID.fullmatch(use.call_id) else {})


def _of_end(call: ModelCall) -> Attributes:
    told = _of_usage(call.usage)
    if call.upstream_status is not None:
        told["http.response.status_code"] = call.upstream_status
    if call.finish_reason is not None:
        told["gen_ai.response.finish_reasons"] = [call.finish_reason]
    return told


def _of_usage(usage: Usage) -> Attributes:
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "team_runs.usage.estimated": usage.estimated,
    }


def _model(name: str) -> str:
    """Return a model's name as its provider has it."""
    return name.partition(":")[2] or name
