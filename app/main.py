"""The composition root: settings → store, models, teams, runner → the API.

Everything that exists once is made here and handed to whoever needs it; nothing below imports a
setting or a singleton. What needs an event loop (connections, the runner's task group, the local
model's process) is opened by the application's lifespan and closed with it, in reverse order.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Any

from anyio import CapacityLimiter, create_task_group
from dotenv import dotenv_values
from fastapi import FastAPI
from starlette.types import StatelessLifespan

from app.api.application import build_api
from app.api.readers import Readers
from app.api.services import ApiLimits, Services
from app.api.tickets import Tickets
from app.assembly import Assembly
from app.domain.access import Keys
from app.domain.errors import ConfigurationError
from app.domain.team import TeamsFile, read_teams
from app.models.catalog import Catalog, OpenAIAccess
from app.ports import Store
from app.runtime.clock import SystemClock
from app.runtime.leases import keep_leases, keep_sweeping
from app.runtime.run_log import Limits
from app.runtime.runner import Capacity, Runner
from app.settings import ENV_FILE, Settings
from app.stores.opening import open_store
from app.telemetry.telemetry import Telemetry

RUNS_PER_TENANT = 100
"""How many unfinished runs a tenant may have on a replica, where there are keys."""


def create_app(settings: Settings, telling: type[Telemetry] = Telemetry) -> FastAPI:
    """Build the service; `telling` is how it tells of itself.

    Raises `ConfigurationError` with one sentence that says what is wrong.
    """
    name, file = _teams_file(settings)
    store, clock = _store(settings), SystemClock()
    models = Catalog(_openai(settings), settings.model_retries, file.models, _environment())
    assembly = Assembly(models, settings.model, CapacityLimiter(settings.max_sync_tools))
    teams = assembly.teams(file, name)
    telemetry = telling(file.teams, os.environ)
    observers, figures = telemetry.observers, telemetry.metrics
    runner = Runner(store, teams, clock, _limits(settings), _capacity(settings), observers)
    readers = _readers(settings)
    services = Services(
        store=store,
        runner=runner,
        readers=readers,
        teams={spec.id: spec for spec in file.teams},
        default_model=settings.model,
        tickets=_tickets(store, settings),
        keys=Keys(settings.api_keys),
        limits=_api_limits(settings),
        observers=observers,
        figures=figures.exposition,
    )
    figures.read(_readings(runner, readers))
    upkeep = (
        partial(keep_leases, store, runner, settings.lease_ttl_s, observers),
        partial(keep_sweeping, store, clock, settings.retention_s),
    )
    api = build_api(services, _lifespan(store, (telemetry, models, runner), upkeep))
    api.state.models = models  # what they are is told at the start, and tried by a check
    return api


def _lifespan(
    store: Store,
    parts: Sequence[AbstractAsyncContextManager[object]],
    upkeep: Sequence[Callable[[], Coroutine[Any, Any, None]]],
) -> StatelessLifespan[FastAPI]:
    """Return what opens the store, then the parts, and does the upkeep while all are open."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(store)
            except ConfigurationError as refusal:
                api.state.refusal = refusal  # the server's to tell, once it has given up
                raise
            for part in parts:
                await stack.enter_async_context(part)
            async with create_task_group() as group:
                for work in upkeep:
                    group.start_soon(work)
                yield
                group.cancel_scope.cancel()

    return lifespan


def _readings(runner: Runner, readers: Readers) -> Mapping[str, Callable[[], float]]:
    """Return the figures that are kept elsewhere, by their names in `telemetry/figures.py`."""
    return {
        "running": lambda: runner.load.running,
        "pending": lambda: runner.load.pending,
        "readers": lambda: readers.streams,
        "sent_bytes_total": lambda: readers.sent_bytes,
    }


# --- teams ----------------------------------------------------------------------------------------


def _teams_file(settings: Settings) -> tuple[str, TeamsFile]:
    """Read the teams file; return how to call it, too."""
    if settings.teams_file is None:
        shipped = files("app") / "teams" / "storytelling.yaml"
        return shipped.name, read_teams(shipped.read_text("utf-8"), shipped.name)
    try:
        text = settings.teams_file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{settings.teams_file}: cannot be read as UTF-8 text") from error
    name = str(settings.teams_file)
    return name, read_teams(text, name)


# --- what the settings say to each ----------------------------------------------------------------


def _store(settings: Settings) -> Store:
    return open_store(
        settings.store_url,
        memory_bytes=settings.memory_store_bytes,
        lease_ttl_s=settings.lease_ttl_s,
    )


def _readers(settings: Settings) -> Readers:
    return Readers(
        settings.heartbeat_s,
        settings.max_readers,
        settings.max_readers_per_run,
        settings.send_timeout_s,
    )


def _environment() -> Mapping[str, str]:
    """Return what the settings are read from: the keys that the teams file names stand there."""
    given = [*dotenv_values(ENV_FILE).items(), *os.environ.items()]
    return {name: value for name, value in given if value}


def _openai(settings: Settings) -> OpenAIAccess:
    key = settings.openai_api_key
    return OpenAIAccess(key.get_secret_value() if key else None, settings.openai_base_url)


def _limits(settings: Settings) -> Limits:
    return Limits(
        timeout_s=settings.run_timeout_s,
        model_idle_timeout_s=settings.model_idle_timeout_s,
        max_turns=settings.max_turns,
        max_tool_calls=settings.max_tool_calls,
        max_parallel_members=settings.max_parallel_members,
        max_log_bytes=settings.max_log_bytes,
        session_max_chars=settings.session_max_chars,
    )


def _capacity(settings: Settings) -> Capacity:
    per_tenant = settings.max_runs_per_tenant
    if per_tenant is None and settings.api_keys:
        per_tenant = RUNS_PER_TENANT
    return Capacity(settings.max_running_runs, settings.max_pending_runs, per_tenant)


def _tickets(store: Store, settings: Settings) -> Tickets:
    signing_keys = [key.get_secret_value().encode() for key in settings.signing_keys]
    return Tickets(store, signing_keys, settings.ticket_ttl_s)


def _api_limits(settings: Settings) -> ApiLimits:
    is_open, named = settings.auth == "off" or settings.api_keys, settings.allowed_hosts
    return ApiLimits(
        max_input_chars=settings.max_input_chars,
        max_body_bytes=settings.max_body_bytes,
        run_timeout_s=settings.run_timeout_s,
        read_timeout_s=settings.read_timeout_s,
        allowed_hosts=None if is_open and not named else frozenset(named),
        allowed_origins=frozenset(settings.allowed_origins),
    )
