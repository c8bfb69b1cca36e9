"""What a team is, as data; and how it is read from the teams file.

Nothing here names a model that must exist or a function that must import: the composition root
resolves those, so that a mistake is told with the same kind of sentence as a mistake in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.domain.errors import ConfigurationError

Id = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]
Mode = Literal["coordinate", "route", "broadcast"]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Options(_Spec):
    """What is passed on to the model with each call of an agent; the provider's own words."""

    model_config = ConfigDict(extra="allow", frozen=True)

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_output_tokens: Annotated[int, Field(ge=16)] | None = None


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
        ids = [member.id for member in self.members]
        if len(set(ids)) != len(ids):
            raise ValueError("two members have the same id")
        return self


class _TeamsFile(_Spec):
    teams: Annotated[tuple[TeamSpec, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _teams_differ(self) -> _TeamsFile:
        ids = [team.id for team in self.teams]
        if len(set(ids)) != len(ids):
            raise ValueError("two teams have the same id")
        return self


def read_teams(text: str, name: str) -> Sequence[TeamSpec]:
    """Read a teams file's YAML; `name` is how the errors call it.

    Raises `ConfigurationError` with the path of the key and what was expected.
    """
    try:
        return _TeamsFile.model_validate(yaml.safe_load(text)).teams
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"{name}{where}: this is not YAML") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigurationError(f"{name}: {path}: {first['msg']}") from error


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
