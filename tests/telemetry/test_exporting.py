"""Whether spans leave the process, and how, is for OpenTelemetry's own variables to say."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.domain.errors import ConfigurationError
from app.telemetry.exporting import exporters, open_tracing
from app.telemetry.tracing import FLUSH_S, Tracing
from tests.service import service
from tests.telemetry.test_tracing import TRACE_ID, TRACEPARENT
from tests.upstream import Say, Upstream, in_turn

pytestmark = pytest.mark.anyio

SETTINGS = {"MODEL": "openai:model", "OPENAI_API_KEY": "canary-key", "STORE_URL": "memory:"}
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@dataclass
class Receiver:
    """Takes what is exported, like a collector; or takes connections, and says nothing."""

    is_silent: bool = False
    port: int = 0
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    connections: int = 0

    @property
    def spans(self) -> list[Span]:
        bodies = [ExportTraceServiceRequest.FromString(body) for _, body in self.requests]
        return [
            span
            for body in bodies
            for of_resource in body.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            self.requests.append((head, await reader.readexactly(length)))
            if self.is_silent:
                await reader.read()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def receiving(*, is_silent: bool = False) -> AsyncIterator[Receiver]:
    receiver = Receiver(is_silent)
    server = await asyncio.start_server(receiver.take, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


async def run_once(upstream: Upstream, folder: Path, **otel: str) -> float:
    """Serve one run, stop the service; return how many seconds the stop took."""
    settings = {**SETTINGS, "OPENAI_BASE_URL": upstream.base_url, **otel}
    async with service(**settings) as running:
        async with running.client(traceparent=TRACEPARENT) as client:
            answer = await client.post("/runs?wait=20", json={"input": "canary-prompt"})
            assert answer.json()["status"] == "completed"
        began = anyio.current_time()
        running.stop()
        assert await running.ended() == 0, "".join(running.log)
        return anyio.current_time() - began


async def test_spans_go_out_by_otlp_when_the_process_ends_at_the_latest(tmp_path: Path) -> None:
    async with receiving() as receiver, Upstream(in_turn([Say("canary-answer")])) as upstream:
        endpoint = f"http://127.0.0.1:{receiver.port}"
        await run_once(upstream, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    chat, run = sorted(receiver.spans, key=lambda span: span.name)
    assert (chat.name, run.name) == ("chat model", "invoke_workflow Storytelling Team")
    assert chat.trace_id == run.trace_id == bytes.fromhex(TRACE_ID)
    assert chat.parent_span_id == run.span_id
    traceparent = upstream.exchanges[0].headers["traceparent"]
    assert traceparent == f"00-{TRACE_ID}-{chat.span_id.hex()}-01"
    head, body = receiver.requests[0]
    assert head.startswith("post /v1/traces ")
    assert b"team-runs" in body
    assert b"canary" not in body


async def test_without_those_variables_nothing_is_sent_or_passed_on(tmp_path: Path) -> None:
    async with receiving() as receiver, Upstream(in_turn([Say("x")])) as upstream:
        await run_once(upstream, tmp_path)
        off = {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}
        endpoint = f"http://127.0.0.1:{receiver.port}"
        await run_once(upstream, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **off)
    assert receiver.connections == 0
    assert [e.headers.get("traceparent") for e in upstream.exchanges] == [None, None]


async def test_a_collector_that_hangs_does_not_hold_the_process(tmp_path: Path) -> None:
    async with (
        receiving(is_silent=True) as receiver,
        Upstream(in_turn([Say("x")])) as upstream,
    ):
        endpoint = f"http://127.0.0.1:{receiver.port}/v1/traces"
        seconds = await run_once(upstream, tmp_path, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=endpoint)
    assert receiver.connections >= 1
    assert seconds < 5 * FLUSH_S


def test_a_service_without_traces_and_redis_does_not_load_what_they_need() -> None:
    look = (
        "import sys, app.__main__; from app.settings import Settings; "
        "app.__main__.create_app(Settings.model_construct(model='scripted:')); "
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'redis', "
        "'opentelemetry.exporter'))])"
    )
    env = {"PATH": os.environ["PATH"]}
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", look], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ()),
        (ENDPOINT, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ("console", "otlp")),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, ()),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, ()),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "false"}, ("otlp",)),
    ],
)
def test_the_environment_says_where_spans_go(
    environ: Mapping[str, str], expected: tuple[str, ...]
) -> None:
    assert exporters(environ) == expected


@pytest.mark.parametrize(
    "environ",
    [{"OTEL_TRACES_EXPORTER": "zipkin"}, {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}],
)
def test_what_there_is_not_stops_the_start_with_the_variable_s_name(
    environ: dict[str, str],
) -> None:
    with pytest.raises(ConfigurationError, match=next(reversed(environ))):
        open_tracing(environ)


async def test_the_console_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    tracing = open_tracing({"OTEL_TRACES_EXPORTER": "console"})
    assert isinstance(tracing, Tracing)
    await tracing.close()
    assert capsys.readouterr().out == ""
