"""A run is one trace, whatever becomes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from app.domain.errors import ModelFailed
from app.domain.events import Usage
from app.models.scripted import Call, Fail, Report, RetrySoon, Say, Script, Step, Until
from app.observer.telling import Observers
from app.ports import ModelRequest, Retry
from app.runtime.orders import Order
from app.telemetry.tracing import Tracing
from tests.runtime.playing import Cast, Stage, delegating_to, has_result, playing, saying

pytestmark = pytest.mark.anyio

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
STUCK: Script = lambda _: [Say("canary-answer "), Until(anyio.Event())]  # noqa: E731 - in one line


@dataclass
class Traced:
    """A stage, and the spans of what was played on it, in the order in which they began."""

    stage: Stage
    exporter: InMemorySpanExporter
    order: Order = field(default_factory=lambda: Order("canary-prompt"))

    async def play(self) -> Sequence[ReadableSpan]:
        run = await self.stage.start(self.order)
        await self.stage.log(run)
        return await self.spans()

    async def spans(self) -> Sequence[ReadableSpan]:
        """Wait until every span of the runs has ended."""
        with anyio.fail_after(10):
            while self.stage.runner.load.running:
                await anyio.lowlevel.checkpoint()
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)


@asynccontextmanager
async def tracing(cast: Cast) -> AsyncIterator[Traced]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    observers = Observers(Tracing(provider, provider.shutdown))
    async with playing(cast, observers=observers) as stage:
        yield Traced(stage, exporter)


def tree(spans: Sequence[ReadableSpan]) -> dict[str, str | None]:
    """Return each span's name with its parent's; names that come twice are numbered."""
    names: dict[int, str] = {}
    for span in spans:
        again = sum(name.startswith(span.name) for name in names.values())
        names[context_of(span).span_id] = f"{span.name}{f' {again + 1}' if again else ''}"
    above = {
        context_of(span).span_id: names.get(span.parent.span_id) if span.parent else None
        for span in spans
    }
    return {name: above[id_] for id_, name in names.items()}


def context_of(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


def named(spans: Sequence[ReadableSpan], name: str) -> ReadableSpan:
    return next(span for span in spans if span.name == name)


def ends(spans: Sequence[ReadableSpan]) -> set[tuple[str, str | None]]:
    """Return how each kind of span ended."""
    for span in spans:
        wrong = span.status.status_code is StatusCode.ERROR
        assert wrong == ("error.type" in (span.attributes or {}))
        assert span.status.description == (span.attributes or {}).get("error.type")
    return {(span.name.split()[0], span.status.description) for span in spans}


async def test_a_run_is_one_trace_of_turns_tools_and_members() -> None:
    def leader(request: ModelRequest) -> list[Step]:
        call = Call("delegate_task_to_member", {"member_id": "a", "task": "canary-task"})
        return [Say("canary-answer") if has_result(request) else call, Report(Usage(7, 3, 10))]

    async with tracing(Cast(leader, {"a": saying("canary-answer")})) as traced:
        spans = await traced.play()
    assert tree(spans) == {
        "invoke_workflow Team": None,
        "chat leader": "invoke_workflow Team",
        "execute_tool delegate_task_to_member": "invoke_workflow Team",
        "invoke_agent A": "execute_tool delegate_task_to_member",
        "chat a": "invoke_agent A",
        "chat leader 2": "invoke_workflow Team",
    }
    assert len({context_of(span).trace_id for span in spans}) == 1
    assert {end for _, end in ends(spans)} == {None}
    chat = named(spans, "chat leader")
    assert chat.kind is SpanKind.CLIENT
    told = chat.attributes or {}
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.model"] == "leader"
    assert told["gen_ai.provider.name"] == "scripted"
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (7, 3)
    assert told["gen_ai.response.finish_reasons"] == ("stop",)
    agent = named(spans, "invoke_agent A").attributes or {}
    assert (agent["gen_ai.agent.id"], agent["gen_ai.agent.name"]) == ("a", "A")


async def test_names_are_the_conventions() -> None:
    known = {v for k, v in vars(gen_ai_attributes).items() if k.startswith("GEN_AI_")}
    order = Order("x", session_id="session", trace={"traceparent": TRACEPARENT})
    async with tracing(Cast(delegating_to("a"), {"a": saying("x")})) as traced:
        traced.order = order
        spans = await traced.play()
    told = {name for span in spans for name in span.attributes or {}}
    assert {name for name in told if name.startswith("gen_ai.")} <= known
    assert len(told) > 12


async def test_no_words_of_anybody_are_in_a_span() -> None:
    cast = Cast(delegating_to("a", then="canary-answer"), {"a": saying("canary-answer")})
    async with tracing(cast) as traced:
        spans = await traced.play()
    assert len(spans) == 6
    assert [span for span in spans if "canary" in span.to_json()] == []


@pytest.mark.parametrize(
    ("given", "trace_id"),
    [
        (TRACEPARENT, TRACE_ID),
        (f"{TRACEPARENT}-x", None),
        (TRACEPARENT.upper(), None),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", None),
        ("canary", None),
    ],
)
async def test_a_request_s_trace_is_gone_on_with_if_it_is_one(
    given: str, trace_id: str | None
) -> None:
    async with tracing(Cast(saying("x"))) as traced:
        traced.order = Order("x", trace={"traceparent": given, "tracestate": "vendor=1"})
        spans = await traced.play()
    run = named(spans, "invoke_workflow Team")
    found = f"{context_of(run).trace_id:032x}"
    assert (found == TRACE_ID) == (trace_id is not None)
    assert (run.parent is None) == (trace_id is None)
    headers = traced.stage.cast.models["leader"].requests[0].headers
    chat = context_of(named(spans, "chat leader"))
    assert headers["traceparent"][:-1] == f"00-{found}-{chat.span_id:016x}-0"
    assert headers.get("tracestate") == ("vendor=1" if trace_id else None)


async def test_a_stop_is_the_status_of_everything_that_was_under_way() -> None:
    async with tracing(Cast(delegating_to("a"), {"a": STUCK})) as traced:
        run = await traced.stage.start(traced.order)
        await traced.stage.until(run, lambda: run.last_event_id >= 4)
        await traced.stage.runner.cancel(run.run_id, "canary-reason", "request")
        await traced.stage.log(run)
        spans = await traced.spans()
    assert ends(spans) == {
        ("invoke_workflow", "cancelled"),
        ("chat", None),
        ("execute_tool", "cancelled"),
        ("invoke_agent", "cancelled"),
        ("chat", "cancelled"),
    }
    assert "cancel_requested" in [e.name for e in named(spans, "invoke_workflow Team").events]
    assert [span for span in spans if "canary" in span.to_json()] == []


async def test_a_member_s_stop_leaves_its_team_well() -> None:
    async with tracing(Cast(delegating_to("a"), {"a": STUCK})) as traced:
        run = await traced.stage.start(traced.order)
        await traced.stage.until(run, lambda: run.last_event_id >= 4)
        await traced.stage.runner.cancel(next(iter(run.members)), None, "request")
        await traced.stage.log(run)
        spans = await traced.spans()
    assert named(spans, "invoke_workflow Team").status.is_unset
    assert named(spans, "invoke_agent A").status.description == "cancelled"
    assert [event.name for event in named(spans, "invoke_agent A").events] == ["cancel_requested"]


async def test_failures_and_retries_are_told_by_code() -> None:
    steps: list[Step] = [
        RetrySoon(Retry(1, 0.0, "rate_limited", 429)),
        Fail(ModelFailed("model_error", "It failed.", upstream_status=500)),
    ]
    async with tracing(Cast(lambda _: steps)) as traced:
        spans = await traced.play()
    assert ends(spans) == {("invoke_workflow", "model_error"), ("chat", "model_error")}
    chat = named(spans, "chat leader")
    assert (chat.attributes or {})["http.response.status_code"] == 500
    (retry,) = chat.events
    assert (retry.attributes or {})["error.type"] == "rate_limited"


async def test_nothing_is_kept_of_a_trace_that_is_over() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    observer = Tracing(provider, provider.shutdown)
    cast = Cast(delegating_to("a", "a"), {"a": saying("x")})
    async with playing(cast, observers=Observers(observer)) as stage:
        await stage.log(await stage.start())
        with anyio.fail_after(10):
            while stage.runner.load.running:
                await anyio.lowlevel.checkpoint()
    assert observer.open_spans == 0
