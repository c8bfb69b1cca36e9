"""The teams file: what it takes, and what it says of a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

import app
from app.domain.errors import ConfigurationError
from app.domain.team import read_teams

SHIPPED = Path(app.__file__).parent / "teams" / "storytelling.yaml"


def test_the_shipped_team_reads() -> None:
    (team,) = read_teams(SHIPPED.read_text(), SHIPPED.name).teams
    assert (team.id, team.mode, team.first_turn) == ("storytelling", "coordinate", "auto")
    assert [member.id for member in team.members] == ["storyteller", "editor"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("teams: [", "line 1: this is not YAML"),
        ("", "the file: Expected keys with values"),
        ("[]", "the file: Expected keys with values"),
        ("teams: [a]", "teams.0: Expected keys with values"),
        ("teams: []", "teams: "),
        ("teams: [{id: A, name: a, members: [{id: b, name: b}]}]", "teams.0.id: "),
        ("teams: [{id: a, name: a}]", "teams.0.members: "),
        ("teams: [{id: a, name: a, members: [{id: b, name: b, color: red}]}]", "members.0.color: "),
        ("teams: [{id: a, name: a, mode: chaos, members: [{id: b, name: b}]}]", "teams.0.mode: "),
        (
            "teams: [{id: a, name: a, members: [{id: b, name: b}, {id: b, name: c}]}]",
            "two members have the same id",
        ),
        (
            "teams: [&t {id: a, name: a, members: [{id: b, name: b}]}, *t]",
            "two teams have the same id",
        ),
        (
            "teams: [{id: a, name: a, members: [{id: b, name: b, options: {temperature: 9}}]}]",
            "members.0.options.temperature: ",
        ),
        (
            "teams: [{id: a, name: a, members: [{id: b, name: b, options: {max_tokens: no}}]}]",
            "members.0.options.max_tokens: ",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        read_teams(text, "teams.yaml")
    assert str(told.value).startswith("teams.yaml")
    assert sentence in str(told.value)


TEAM = "teams: [{id: a, name: a, members: [{id: b, name: b, model: fast}]}]\n"


def test_models_are_read_beside_the_teams() -> None:
    entry = "{name: fast, provider: chat, model: m, base_url: 'http://[::1]:1/v1', api_key_env: K}"
    file = read_teams(f"{TEAM}models: [{entry}, {{name: small, provider: local}}]", "teams.yaml")
    fast, small = file.models
    assert (fast.provider, fast.model, fast.api_key_env) == ("chat", "m", "K")
    assert fast.base_url == "http://[::1]:1/v1"
    assert (small.provider, small.model) == ("local", None)
    assert file.teams[0].members[0].model == "fast"


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("{provider: local}", "models.0.name: "),
        ("{name: 'a:b', provider: local}", "models.0.name: "),
        ("{name: a, provider: azure}", "models.0.provider: "),
        ("{name: a, provider: chat}", "models.0: Value error, chat needs model"),
        ("{name: a, provider: local, base_url: 'http://a'}", "local takes neither base_url nor"),
        ("{name: a, provider: scripted, api_key_env: K}", "scripted takes neither base_url nor"),
        ("{name: a, provider: chat, model: m, api_key: sk-secret}", "models.0.api_key: "),
        ("{name: a, provider: chat, model: m, api_key_env: sk-secret}", "models.0.api_key_env: "),
        ("{name: a, provider: local}, {name: a, provider: local}", "two models have the same name"),
    ],
)
def test_a_mistake_in_a_model_is_told_with_its_place(entry: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        read_teams(f"{TEAM}models: [{entry}]", "teams.yaml")
    assert sentence in str(told.value)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "url",
    ["ftp://a", "a.example/v1", "http://", "https://u:secret@a", "http://a?k=secret", "http://a:x"],
)
def test_an_address_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    entry = f"{{name: a, provider: chat, model: m, base_url: '{url}'}}"
    with pytest.raises(ConfigurationError, match=r"base_url: .*expected an address") as told:
        read_teams(f"{TEAM}models: [{entry}]", "teams.yaml")
    assert url not in str(told.value)
