"""The HTTP API as one ASGI application."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import StatelessLifespan

from app.api import health, runs, streams, teams
from app.api.access import Access
from app.api.problems import explain_errors
from app.api.services import Services

_NO_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}
"""FastAPI's own would record query strings, which hold tickets, and the words of exceptions."""


def build_api(services: Services, lifespan: StatelessLifespan[FastAPI] | None = None) -> FastAPI:
    """Return the application over these services; `lifespan` opens and closes what they need."""
    api = FastAPI(
        title="team-runs",
        version="1.0.0",
        summary="Runs a team of LLM agents, streams the run, and stops it the moment you ask.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
        lifespan=lifespan,
    )
    api.openapi_version = "3.2.0"  # the first that can describe the items of an event stream
    api.state.services = services
    for module in (runs, streams, teams, health):
        api.include_router(module.router)
    api.add_middleware(Access, limits=services.limits)
    explain_errors(api)
    return api
