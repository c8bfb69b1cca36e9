"""The composition root: settings → store, models, teams, runner → the API.

Everything that exists once is made here and handed to whoever needs it; nothing below imports a
setting or a singleton. What needs an event loop (connections, the runner's task group, the local
model's process) is opened by the application's lifespan and closed with it, in reverse order.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files

from anyio import CapacityLimiter, create_task_group
from dotenv import dotenv_values
from fastapi import FastAPI

from app.api.application import build_api
from app.api.readers import Readers
from app.api.services import ApiLimits, Services
from app.api.tickets import Tickets
from app.domain.access import Keys
from app.domain.errors import ConfigurationError
from app.domain.team import (
    AgentSpec,
    TeamsFile,
    TeamSpec,
    leader_prompt,
    member_prompt,
    read_teams,
)
from app.models.catalog import Catalog, OpenAIAccess
from app.ports import Store, Tool
from app.runtime.agent import Agent
from app.runtime.clock import SystemClock
from app.runtime.context import Limits
from app.runtime.delegation import TO_MEMBER, TO_MEMBERS, Member
from app.runtime.leases import keep_leases, keep_sweeping
from app.runtime.runner import Capacity, Runner
from app.runtime.team import Team
from app.settings import ENV_FILE, Settings
from app.stores.opening import open_store
from app.tools.functions import open_tools

RUNS_PER_TENANT = 100
"""How many unfinished runs a tenant may have on a replica, where there are keys."""

LOCAL_LEADER_TOKENS = 500
LOCAL_MEMBER_TOKENS = 700
"""How long the answers of `local:` models may become: small models don't know when to stop."""


def create_app(settings: Settings) -> FastAPI:
    """Build the service. Raises `ConfigurationError` with one sentence that says what is wrong."""
    file = _teams_file(settings)
    store = open_store(
        settings.store_url,
        memory_bytes=settings.memory_store_bytes,
        lease_ttl_s=settings.lease_ttl_s,
    )
    models = Catalog(_openai(settings), settings.model_retries, file.models, _environment())
    sync_places = CapacityLimiter(settings.max_sync_tools)
    teams = {spec.id: _assemble(spec, models, settings.model, sync_places) for spec in file.teams}
    clock = SystemClock()
    runner = Runner(store, teams, clock, _limits(settings), _capacity(settings))
    readers = Readers(
        settings.heartbeat_s,
        settings.max_readers,
        settings.max_readers_per_run,
        settings.send_timeout_s,
    )
    services = Services(
        store=store,
        runner=runner,
        readers=readers,
        teams={spec.id: spec for spec in file.teams},
        default_model=settings.model,
        tickets=_tickets(store, settings),
        keys=Keys(settings.api_keys),
        limits=_api_limits(settings),
    )

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(store)
            except ConfigurationError as refusal:
                api.state.refusal = refusal  # the server's to tell, once it has given up
                raise
            async with models, runner, create_task_group() as upkeep:
                upkeep.start_soon(keep_leases, store, runner, settings.lease_ttl_s)
                upkeep.start_soon(keep_sweeping, store, clock, settings.retention_s)
                yield
                upkeep.cancel_scope.cancel()

    api = build_api(services, lifespan)
    api.state.models = models  # what they are is told at the start, and tried by a check
    return api


# --- teams ----------------------------------------------------------------------------------------


def _teams_file(settings: Settings) -> TeamsFile:
    if settings.teams_file is None:
        shipped = files("app") / "teams" / "storytelling.yaml"
        return read_teams(shipped.read_text("utf-8"), shipped.name)
    try:
        text = settings.teams_file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{settings.teams_file}: cannot be read as UTF-8 text") from error
    return read_teams(text, str(settings.teams_file))


def _assemble(
    spec: TeamSpec, models: Catalog, default_model: str, sync_places: CapacityLimiter
) -> Team:
    """Make a team of what the file says; `auto` is decided here, by the leader's model."""
    is_local = models.provider(spec.model or default_model) == "local"
    members = {
        member.id: Member(
            _agent(member, models, default_model, member_prompt(member), LOCAL_MEMBER_TOKENS),
            member.description,
            _tools(member, sync_places),
        )
        for member in spec.members
    }
    return Team(
        mode=spec.mode,
        leader=_agent(spec, models, default_model, leader_prompt(spec), LOCAL_LEADER_TOKENS),
        members=members,
        tools=_tools(spec, sync_places),
        must_delegate=spec.first_turn == "delegate" or (spec.first_turn == "auto" and is_local),
        pass_input=spec.member_input == "input" or (spec.member_input == "auto" and is_local),
    )


def _agent(
    spec: AgentSpec, models: Catalog, default_model: str, prompt: str, local_tokens: int
) -> Agent:
    model = models.open(spec.model or default_model)
    provider = models.provider(model.name)
    own_cap = spec.options.cap
    if provider == "chat" and spec.hosted_tools:
        raise ConfigurationError(f"{spec.id}: hosted_tools need the Responses API, no chat: model")
    if provider == "local":
        own_cap = min(own_cap or local_tokens, local_tokens)
    return Agent(
        id=spec.id,
        name=spec.name,
        model=model,
        instructions=prompt,
        hosted_tools=spec.hosted_tools,
        options=spec.options.passed_on,
        max_output_tokens=own_cap,
    )


def _tools(spec: AgentSpec, sync_places: CapacityLimiter) -> Mapping[str, Tool]:
    try:
        return open_tools(spec.tools, sync_places, {TO_MEMBER, TO_MEMBERS})
    except ConfigurationError as error:
        raise ConfigurationError(f"{spec.id}: {error}") from error


# --- what the settings say to each ----------------------------------------------------------------


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
    is_open = settings.auth == "off" or settings.api_keys
    return ApiLimits(
        max_input_chars=settings.max_input_chars,
        max_body_bytes=settings.max_body_bytes,
        run_timeout_s=settings.run_timeout_s,
        read_timeout_s=settings.read_timeout_s,
        allowed_hosts=None if is_open else frozenset(settings.allowed_hosts),
        allowed_origins=frozenset(settings.allowed_origins),
    )
