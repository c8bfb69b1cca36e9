"""Whether there are traces, and where they go: OpenTelemetry's own environment variables.

There are none unless `OTEL_TRACES_EXPORTER` names an exporter, or an endpoint is set; and with
`OTEL_SDK_DISABLED` there are none at all. Then what makes and sends them is not even imported (the
API is, by FastAPI, and the SDK's metrics, by redis-py). Everything else that those variables say
(headers, sampler, batches, resource), the SDK reads by itself, from the environment and not from
`.env`. Spans are sent by a thread of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from app.domain.errors import ConfigurationError
from app.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_KNOWN: Final = ("otlp", "console")


def open_tracing(environ: Mapping[str, str]) -> Tracing | None:
    """Return what makes traces, if the environment asks for any. Raises `ConfigurationError`."""
    names = exporters(environ)
    return _open(environ, names) if names else None


def exporters(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the exporters that are asked for. Raises `ConfigurationError` for unknown ones."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    given = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if not given:
        return ("otlp",) if any(environ.get(name) for name in _ENDPOINTS) else ()
    names = tuple(name.strip() for name in given.split(",") if name.strip() != "none")
    if set(names) - {*_KNOWN}:
        raise ConfigurationError("OTEL_TRACES_EXPORTER: expected otlp, console or none")
    return names


def _open(environ: Mapping[str, str], names: tuple[str, ...]) -> Tracing:
    # imported here: 0.2 s and 10 MB that are nothing to a service without traces
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - see above
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - see above
    from opentelemetry.sdk.trace.export import (  # noqa: PLC0415 - see above
        BatchSpanProcessor,
        ConsoleSpanExporter,
    )

    is_named = "OTEL_SERVICE_NAME" in environ or "service.name=" in environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    resource = Resource.create({} if is_named else {"service.name": "team-runs"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for name in names:
        exporter: SpanExporter = ConsoleSpanExporter() if name == "console" else _otlp(environ)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider, provider.shutdown)


def _otlp(environ: Mapping[str, str]) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - as above
        OTLPSpanExporter,
    )

    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        raise ConfigurationError("OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf")
    return OTLPSpanExporter()
