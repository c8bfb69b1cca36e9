"""Every setting of the service: environment variables with the prefix `TEAM_RUNS_`, or a `.env`.

The environment wins over the file. `OPENAI_API_KEY` and `OPENAI_BASE_URL` keep the names that every
OpenAI tool reads. A setting exists here only when it has an effect, and a variable with our prefix
that is none is named in a warning, because a mistyped limit is a limit that is not there. Errors
name the variable and what was expected, never the value, which may be a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.domain.access import ApiKey
from app.domain.errors import ConfigurationError

PREFIX: Final = "TEAM_RUNS_"
ENV_FILE: Final = Path(".env")
DEFAULT_STORE_URL: Final = "sqlite:team-runs.db"
_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#@\s]+")


def _split(value: object) -> object:
    """`a, b` is two items; white space around items and empty ones are dropped."""
    if not isinstance(value, str):
        return value
    return tuple(item for part in value.split(",") if (item := part.strip()))


def _read_keys(value: object) -> object:
    keys = [ApiKey.read(item) for item in value] if isinstance(value, tuple) else value
    if isinstance(keys, list) and len({key.digest for key in keys}) < len(keys):
        raise ValueError("should have each key once")
    return keys


def _check_origin(value: str) -> str:
    if not _ORIGIN.fullmatch(value):
        raise ValueError("should be origins such as https://example.org, comma-separated")
    return value


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _default_model(given: dict[str, Any]) -> str:
    has_openai = given.get("openai_api_key") or given.get("openai_base_url")
    return "openai:gpt-5.2-mini" if has_openai else "local:smollm2"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_check_origin)], ...], NoDecode, BeforeValidator(_split)
]
ApiKeys = Annotated[
    tuple[ApiKey, ...], NoDecode, BeforeValidator(_read_keys), BeforeValidator(_split)
]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]
Off = Annotated[Literal["off"], BeforeValidator(_lower)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
LogFormat = Annotated[Literal["json", "text"], BeforeValidator(_lower)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """What can be set, with the defaults of the contract. Read with `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_by_name=True,
        validate_by_alias=True,
    )

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """The port to listen on; 0 takes a free one."""
    store_url: str = Field(default=DEFAULT_STORE_URL, repr=False)
    """Where runs and their logs are kept: `memory:`, `sqlite:PATH` or `redis://…`."""
    teams_file: Path | None = None
    """The YAML file with the teams; without it, the storytelling team of the package."""
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    """The key for `openai:` models."""
    openai_base_url: str | None = Field(
        default=None, validation_alias="OPENAI_BASE_URL", pattern="^https?://", repr=False
    )
    """Where `openai:` models are; without it, OpenAI's own address."""
    model: str = Field(default_factory=_default_model)
    """The model of teams and members that name none."""

    api_keys: ApiKeys = ()
    """Who may use the service: `tenant:key` or `tenant:sha256:HEX`, comma-separated."""
    auth: Off | None = None
    """`off` serves everybody who can reach the address, on another one than loopback too."""
    allowed_hosts: Names = ()
    """Names that `Host` may have besides those of loopback; without it, all with keys or `AUTH`."""
    allowed_origins: Origins = ()
    """Origins of web pages elsewhere that may use the service."""
    signing_keys: Secrets = ()
    """Long random texts for tickets: the first signs, all verify; else the store keeps one."""

    max_running_runs: Count = 200
    """How many runs this replica works on at once."""
    max_pending_runs: Count = 1000
    """How many runs may wait for their turn on this replica."""
    max_runs_per_tenant: Count | None = None
    """How many unfinished runs a tenant may have on this replica; without it, 100 with keys."""
    run_timeout_s: Seconds = 900
    """How long a run may take, from its creation, waiting included; seconds."""
    model_idle_timeout_s: Seconds = 300
    """How long a model may be silent; seconds."""
    model_retries: Annotated[int, Field(ge=0)] = 2
    """How often a model call that failed before its first token is made again."""
    max_turns: Count = 20
    """How many model calls an agent may make in a run."""
    max_tool_calls: Count = 100
    """How many tool calls a run may make."""
    max_parallel_members: Count = 8
    """How many members of a run work at once."""
    max_sync_tools: Count = 32
    """How many tools that are not async run at once, over the process."""

    max_input_chars: Count = 100_000
    """How long a run's input may be; characters."""
    max_body_bytes: Count = 2_000_000
    """How long a request's body may be; bytes."""
    max_log_bytes: Count = 50_000_000
    """How long a run's log may become; bytes."""
    session_max_chars: Annotated[int, Field(ge=0)] = 100_000
    """How much of a session's earlier runs a leader is told; characters."""
    memory_store_bytes: Count = 536_870_912
    """How much the memory store keeps; bytes."""
    max_readers_per_run: Count = 1000
    """How many streams of one run are open at once."""
    max_readers: Count = 10_000
    """How many streams are open at once on this replica."""
    read_timeout_s: Seconds = 20
    """How long a client may take to send a request; seconds."""
    send_timeout_s: Seconds = 30
    """How long a client may take to read what was sent; seconds."""
    retention_s: Seconds = 604_800
    """How long finished runs, their logs and idempotency keys are kept; seconds."""
    lease_ttl_s: Seconds = 10
    """How long a replica that says nothing keeps its runs; seconds."""
    drain_timeout_s: SecondsOrNone = 20
    """How long running runs may go on when the process is asked to stop; seconds."""
    heartbeat_s: Seconds = 15
    """After how much silence a stream sends a ping; seconds."""
    ticket_ttl_s: Seconds = 3600
    """How long a ticket opens a run's events, at least to a minute after its deadline; seconds."""

    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = (
        "info"
    )
    """The least level that is logged."""
    log_format: LogFormat | None = None
    """The shape of log lines; without it, `text` on a terminal and `json` elsewhere."""

    @model_validator(mode="after")
    def _says_who_may(self) -> Settings:
        if self.auth == "off" and self.api_keys:
            raise ValueError(
                f"{PREFIX}AUTH=off serves everybody and {PREFIX}API_KEYS only some: set one of them"
            )
        if self.auth is None and not self.api_keys and not _is_loopback(self.host):
            raise ValueError(
                f"{PREFIX}HOST is not a loopback address, so everybody who can reach it could start"
                f" runs: set {PREFIX}API_KEYS to say who may, or {PREFIX}AUTH=off to allow that, or"
                f" {PREFIX}HOST=127.0.0.1"
            )
        return self


def load_settings(env_file: Path = ENV_FILE) -> Settings:
    """Read the settings. Raises `ConfigurationError`, one line, with every variable at fault."""
    try:
        return Settings(_env_file=env_file)  # type: ignore[call-arg] # BaseSettings takes it
    except ValidationError as error:
        raise ConfigurationError("; ".join(_sentences(error))) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{env_file}: this is not UTF-8 text") from None


def unknown_variables(env_file: Path = ENV_FILE) -> Sequence[str]:
    """Return the names with our prefix that are no settings, in the environment and the file."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    given = {*os.environ, *dotenv_values(env_file)}
    return sorted(
        name for name in given if name.upper().startswith(PREFIX) and name.upper() not in known
    )


def _sentences(error: ValidationError) -> Sequence[str]:
    return [
        ": ".join([*(_variable(str(part)) for part in one["loc"][:1]), _expected(one["msg"])])
        for one in error.errors(include_url=False, include_input=False, include_context=False)
        if one["type"] != "default_factory_not_called"  # MODEL waits for variables named already
    ]


def _variable(name: str) -> str:
    return name if name.startswith("OPENAI_") else PREFIX + name.upper()


def _expected(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ")
