"""Teams that can run, out of what the teams file says of them.

What no schema can tell, a model that does not exist or a function that cannot be imported, is told
here, with the key's place in the file, as a mistake of any other kind is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from anyio import CapacityLimiter

from app.domain.errors import ConfigurationError
from app.domain.team import AgentSpec, TeamsFile, TeamSpec, leader_prompt, member_prompt
from app.models.catalog import Catalog
from app.ports import Model, Tool
from app.runtime.agent import Agent
from app.runtime.delegation import TO_MEMBER, TO_MEMBERS, Member
from app.runtime.team import Team
from app.tools.functions import open_tools

LOCAL_LEADER_TOKENS = 500
LOCAL_MEMBER_TOKENS = 700
"""How long the answers of `local:` models may become: small models don't know when to stop."""


class Assembly:
    """Makes teams; `default_model` serves leaders and members that name none."""

    def __init__(self, models: Catalog, default_model: str, sync_places: CapacityLimiter) -> None:
        self._models = models
        self._default_model = default_model
        self._sync_places = sync_places

    def teams(self, file: TeamsFile, name: str) -> Mapping[str, Team]:
        """Return the teams of a file by id; `name` is how the errors call it.

        Raises `ConfigurationError`.
        """
        return {
            spec.id: self._team(spec, f"{name}: teams.{number}")
            for number, spec in enumerate(file.teams)
        }

    def _team(self, spec: TeamSpec, place: str) -> Team:
        """Make a team of what the file says; `auto` is decided here, by the leader's model."""
        leader = self._agent(spec, place, leader_prompt(spec), LOCAL_LEADER_TOKENS)
        is_local = self._models.provider(leader.model.name) == "local"
        return Team(
            mode=spec.mode,
            leader=leader,
            members={
                member.id: self._member(member, f"{place}.members.{number}")
                for number, member in enumerate(spec.members)
            },
            tools=self._tools(spec, place),
            must_delegate=spec.first_turn == "delegate" or (spec.first_turn == "auto" and is_local),
            pass_input=spec.member_input == "input" or (spec.member_input == "auto" and is_local),
        )

    def _member(self, spec: AgentSpec, place: str) -> Member:
        agent = self._agent(spec, place, member_prompt(spec), LOCAL_MEMBER_TOKENS)
        return Member(agent, spec.description, self._tools(spec, place))

    def _agent(self, spec: AgentSpec, place: str, prompt: str, local_tokens: int) -> Agent:
        model = self._model(spec, place)
        provider = self._models.provider(model.name)
        own_cap = spec.options.cap
        if provider == "chat" and spec.hosted_tools:
            raise ConfigurationError(
                f"{place}.hosted_tools: they need the Responses API, which no chat: model speaks"
            )
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

    def _model(self, spec: AgentSpec, place: str) -> Model:
        if spec.model is None:
            return self._models.open(self._default_model)
        with _told_of(f"{place}.model: "):
            return self._models.open(spec.model)

    def _tools(self, spec: AgentSpec, place: str) -> Mapping[str, Tool]:
        with _told_of(f"{place}."):
            return open_tools(spec.tools, self._sync_places, {TO_MEMBER, TO_MEMBERS})


@contextmanager
def _told_of(place: str) -> Iterator[None]:
    """Put the place in the file ahead of what is wrong there."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}{error}") from error
