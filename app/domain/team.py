"""What a team is, as data; and how it is read from the teams file, with the models it names.

Nothing here names a model that must exist or a function that must import: the composition root
resolves those, so that a mistake is told with the same kind of sentence as a mistake in the file.
No key stands in the file: a model names the environment variable that holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from app.domain.errors import ConfigurationError

Id = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]
Mode = Literal["coordinate", "route", "broadcast"]
Provider = Literal["openai", "chat", "local", "scripted"]


def _is_address(url: str) -> str:
    """Take the base address of an API. What is rejected is not repeated: it may hold a password."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or " " in url or "@" in url or "?" in url:
        raise ValueError("expected an address such as https://host/v1, without a user or a query")
    return url


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Options(_Spec):
    """What is passed on to the model with each call of an agent; the provider's own words.

    But for the cap on output tokens, whatever the provider calls it: that is the agent's own, and
    is sent with a run's budget in mind.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_output_tokens: Annotated[int, Field(ge=16)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None

    @property
    def cap(self) -> int | None:
        """The smallest cap that is set."""
        caps = (self.max_output_tokens, self.max_completion_tokens, self.max_tokens)
        return min((cap for cap in caps if cap is not None), default=None)

    @property
    def passed_on(self) -> Mapping[str, Any]:
        """Everything else."""
        caps = {"max_output_tokens", "max_completion_tokens", "max_tokens"}
        return self.model_dump(exclude_none=True, exclude=caps)


class AgentSpec(_Spec):
    """A member of a team."""

    id: Id
    name: Annotated[str, Field(min_length=1, max_length=128)]
    description: str = ""
    model: str | None = None
    instructions: str = ""
    tools: tuple[str, ...] = ()
    hosted_tools: tuple[Mapping[str, Any], ...] = ()
    options: Options = Options()


class TeamSpec(AgentSpec):
    """A team: its leader, which is an agent too, and the members it delegates to."""

    mode: Mode = "coordinate"
    first_turn: Literal["auto", "delegate"] = "auto"
    member_input: Literal["auto", "task", "input"] = "auto"
    members: Annotated[tuple[AgentSpec, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _members_differ(self) -> TeamSpec:
        if not _differ(member.id for member in self.members):
            raise ValueError("two members have the same id")
        return self


class ModelSpec(_Spec):
    """A model under a name of its own: which provider serves it, where, and whose key opens it.

    Without `base_url` it is where the provider's models are by default; the default key goes there
    and nowhere else.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    provider: Provider
    model: Annotated[str, StringConstraints(min_length=1)] | None = None
    base_url: Annotated[str, AfterValidator(_is_address)] | None = None
    api_key_env: Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]{0,127}$")] | None = None

    @model_validator(mode="after")
    def _fits_its_provider(self) -> ModelSpec:
        is_remote = self.provider in ("openai", "chat")
        if is_remote and self.model is None:
            raise ValueError(f"{self.provider} needs model, the name that the provider gives it")
        if not is_remote and (self.base_url or self.api_key_env):
            raise ValueError(f"{self.provider} takes neither base_url nor api_key_env")
        return self


class TeamsFile(_Spec):
    """Everything that a teams file says."""

    teams: Annotated[tuple[TeamSpec, ...], Field(min_length=1)]
    models: tuple[ModelSpec, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> TeamsFile:
        if not _differ(team.id for team in self.teams):
            raise ValueError("two teams have the same id")
        if not _differ(model.name for model in self.models):
            raise ValueError("two models have the same name")
        return self


def _differ(names: Iterable[str]) -> bool:
    listed = list(names)
    return len(set(listed)) == len(listed)


def read_teams(text: str, name: str) -> TeamsFile:
    """Read a teams file's YAML; `name` is how the errors call it.

    Raises `ConfigurationError` with the path of the key and what was expected.
    """
    try:
        return TeamsFile.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"{name}{where}: this is not YAML") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or "the file"
        is_mapping_due = first["type"] in ("model_type", "dict_type")  # names our own class
        expected = "Expected keys with values" if is_mapping_due else first["msg"]
        raise ConfigurationError(f"{name}: {path}: {expected}") from error


_HOW_TO_LEAD = (
    "Give them their work with your tool. A member knows only what it is given, and its answer is"
    " the tool's result. Then give the final answer yourself."
)


def leader_prompt(team: TeamSpec) -> str:
    """Return what a leader's model is told: its instructions, and whom it leads."""
    members = [f"- {member.id} ({member.name}): {member.description}" for member in team.members]
    told = [
        team.instructions.strip() or f"You lead the team {team.name}. {team.description}",
        "The members of your team:\n" + "\n".join(members),
        _HOW_TO_LEAD,
    ]
    return "\n\n".join(told)


def member_prompt(member: AgentSpec) -> str:
    """Return what a member's model is told: its instructions, or who it is."""
    return member.instructions.strip() or f"You are {member.name}. {member.description}"
