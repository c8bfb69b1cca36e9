"""The HTTP API as one ASGI application."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import Receive, Scope, Send, StatelessLifespan

from app.api import docs, figures, health, page, runs, stops, streams, teams
from app.api.access import Access
from app.api.openapi import describe
from app.api.problems import explain_errors
from app.api.request_ids import RequestIds
from app.api.services import Services

_NO_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}
"""FastAPI's own would record query strings, which hold tickets, and the words of exceptions."""


class Api(FastAPI):
    """FastAPI that describes itself in this service's own words (`openapi/`)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; its scope tells what streams the server's own `send`."""
        scope[streams.SERVER_SEND] = send
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, made when it is first asked for."""
        if self.openapi_schema is None:
            self.openapi_schema = describe(self.routes)
        return self.openapi_schema


def build_api(services: Services, lifespan: StatelessLifespan[FastAPI] | None = None) -> FastAPI:
    """Return the application over these services; `lifespan` opens and closes what they need."""
    api = Api(
        openapi_url=None,  # `docs.py` serves the document
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
        lifespan=lifespan,
    )
    api.state.services = services
    for module in (runs, stops, streams, teams, health, figures, docs, page):
        api.include_router(module.router)
    explain_errors(api)
    api.add_middleware(Access, limits=services.limits)  # outside the errors: it shares them, too
    api.add_middleware(RequestIds)
    return api
