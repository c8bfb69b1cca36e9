"""The teams file: what it takes, and what it says of a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

import app
from app.domain.errors import ConfigurationError
from app.domain.team import read_teams

SHIPPED = Path(app.__file__).parent / "teams" / "storytelling.yaml"


def test_the_shipped_team_reads() -> None:
    (team,) = read_teams(SHIPPED.read_text(), SHIPPED.name)
    assert (team.id, team.mode, team.first_turn) == ("storytelling", "coordinate", "auto")
    assert [member.id for member in team.members] == ["storyteller", "editor"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("teams: [", "line 1: this is not YAML"),
        ("[]", "the file: "),
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
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        read_teams(text, "teams.yaml")
    assert str(told.value).startswith("teams.yaml")
    assert sentence in str(told.value)
