"""The start tells the truth: what the service is set to, and what `serve --check` finds.

- Only what was set is repeated, with keys and passwords masked: defaults are in the README, and a
  line that is always there is a line that nobody reads.
- A start needs the store, so it tries it; whether a provider answers is tried by `--check` alone.
  An outage over there must not keep this service from starting, and from telling so in its runs.
- A check claims, sweeps and runs nothing: it may be made beside the service at work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import anyio
from pydantic import SecretStr

from app.domain.access import ApiKey
from app.domain.errors import ConfigurationError, ModelFailed, StoreUnavailable
from app.domain.team import TeamSpec
from app.models.catalog import Catalog
from app.ports import Model, ModelRequest, Retry, Store, UserText
from app.settings import PREFIX, Settings

ANSWER_S: Final = 30.0
"""How long a model may take for its first word when it is tried; with retries."""

MASK: Final = "***"
_QUESTION: Final = ModelRequest(
    "Answer in one word.",
    [UserText("Are you there?")],
    max_output_tokens=16,  # the least that providers take
)

Tell = Callable[[str], object]


# --- what it is set to ----------------------------------------------------------------------------


def summary(settings: Settings, teams: Mapping[str, TeamSpec], models: Catalog) -> Sequence[str]:
    """Return what is to be told at the start, a line each."""
    return (
        f"settings: {given(settings)}",
        f"store: {shown(settings.store_url)}, finished runs kept for {settings.retention_s:g} s",
        f"models: {', '.join(sorted(models.opened))}",
        f"teams: {'; '.join(map(_team, teams.values()))}",
        f"access: {_access(settings)}",
        f"limits: {_limits(settings)}",
    )


def given(settings: Settings) -> str:
    """Return the settings that were set, secrets masked."""
    fields = type(settings).model_fields
    pairs = [
        f"{field.validation_alias or PREFIX + name.upper()}={shown(getattr(settings, name))}"
        for name, field in fields.items()
        if name in settings.model_fields_set
    ]
    return " ".join(pairs) or "all as they are by default"


def shown(value: object) -> str:
    """Return a setting's value without what is secret in it."""
    if isinstance(value, tuple):
        return ",".join(map(shown, value))
    if isinstance(value, ApiKey):
        return f"{value.tenant}:{MASK}"
    if isinstance(value, SecretStr):
        return MASK
    return _without_password(str(value))


def _without_password(text: str) -> str:
    """Mask who logs in at an address, and its query, which may say it too."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    rest = re.sub(r"^.*@", f"{MASK}@", rest)
    return scheme + separator + re.sub(r"\?.*$", f"?{MASK}", rest)


def _team(team: TeamSpec) -> str:
    return f"{team.id} ({team.mode}: {', '.join(member.id for member in team.members)})"


def _access(settings: Settings) -> str:
    if settings.auth == "off":
        return f"everybody who can reach the address ({PREFIX}AUTH=off)"
    tenants = sorted({key.tenant for key in settings.api_keys})
    return f"keys of {', '.join(tenants)}" if tenants else "this machine only"


def _limits(settings: Settings) -> str:
    return (
        f"{settings.max_running_runs} runs at once and {settings.max_pending_runs} waiting,"
        f" {settings.max_readers} streams; a run {settings.run_timeout_s:g} s, a silent model"
        f" {settings.model_idle_timeout_s:g} s, {settings.max_turns} turns,"
        f" {settings.max_tool_calls} tool calls; grace at the end {settings.drain_timeout_s:g} s"
    )


# --- what a check finds ---------------------------------------------------------------------------


async def check(store: Store, models: Catalog, tell: Tell, answer_s: float = ANSWER_S) -> bool:
    """Try the store and each model, and tell how it went, a line each; return if all is well."""
    tell("ok      settings")  # else there were no store and no models
    tell("ok      teams")
    is_well = _told(tell, "store", await _problem_of_store(store))
    problems: dict[str, str | None] = {}

    async def ask(name: str, model: Model) -> None:
        problems[name] = await _problem_of_model(model, answer_s)

    async with models, anyio.create_task_group() as group:
        for name, model in models.opened.items():
            group.start_soon(ask, name, model)
    for name in sorted(models.opened):
        is_well = _told(tell, f"model {name}", problems[name]) and is_well
    return is_well


def _told(tell: Tell, what: str, problem: str | None) -> bool:
    tell(f"FAILED  {what}: {problem}" if problem else f"ok      {what}")
    return problem is None


async def _problem_of_store(store: Store) -> str | None:
    try:
        async with store:
            await store.ping()
    except (ConfigurationError, StoreUnavailable) as error:
        return str(error) or "it does not answer"
    return None


async def _problem_of_model(model: Model, answer_s: float) -> str | None:
    with anyio.move_on_after(answer_s):
        try:
            await _hear_from(model)
        except ModelFailed as failure:
            code = failure.upstream_code
            return f"{failure.message.removesuffix('.')} ({code})." if code else failure.message
        return None
    return f"It did not answer within {answer_s:g} s."


async def _hear_from(model: Model) -> None:
    """Ask a little, and leave with the first thing that is said: a provider stops billing then."""
    async with model.stream(_QUESTION) as batches:
        async for batch in batches:
            if any(not isinstance(event, Retry) for event in batch):
                return
