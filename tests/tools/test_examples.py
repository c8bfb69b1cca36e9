"""The example functions, and the example team that uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from anyio import CapacityLimiter

import app
from app.domain.team import read_teams
from app.models.scripted import Call, Say, Script, Step
from app.ports import ModelRequest
from app.tools.examples import TextStatistics, repeated_words, text_statistics
from app.tools.functions import open_tools
from tests.runtime.playing import Cast, has_result, playing

TEAMS = Path(app.__file__).parent / "teams"


@pytest.mark.parametrize(
    ("text", "statistics"),
    [
        ("", TextStatistics(0, 0, 0, 0, 0, 0)),
        ("no end", TextStatistics(6, 2, 1, 1, 2, 2.5)),
        ('One two. "Three?" It\'s so…\n\nEnd!', TextStatistics(32, 6, 4, 2, 1.5, 3.3)),
    ],
)
def test_text_statistics_counts(text: str, statistics: TextStatistics) -> None:
    assert text_statistics(text) == statistics


def test_repeated_words_are_told_most_used_first() -> None:
    text = "The sea, the sea! A ship at sea; a Ship."
    assert repeated_words(text, 3) == {"sea": 3, "the": 2, "ship": 2}
    assert repeated_words(text) == {"ship": 2}


def test_at_most_twenty_repeated_words_are_told() -> None:
    assert len(repeated_words(" ".join(f"word{number % 30}" for number in range(90)))) == 20


def test_every_example_team_reads_and_its_tools_open() -> None:
    for file in TEAMS.glob("*.yaml"):
        for team in read_teams(file.read_text(), file.name).teams:
            for agent in (team, *team.members):
                assert len(open_tools(agent.tools, CapacityLimiter(1))) == len(agent.tools)


def test_the_default_team_stands_alone_in_its_file() -> None:
    (team,) = read_teams((TEAMS / "storytelling.yaml").read_text(), "storytelling.yaml").teams
    assert not any(agent.tools for agent in (team, *team.members))


def measuring(tool: str) -> Script:
    return lambda request: [Say("ok")] if has_result(request) else [Call(tool, {"text": "A. A."})]


@pytest.mark.anyio
async def test_the_review_team_measures_side_by_side() -> None:
    (spec,) = read_teams((TEAMS / "text_review.yaml").read_text(), "text_review.yaml").teams
    assert spec.mode == "broadcast"
    paths = [path for member in spec.members for path in member.tools]
    tools = open_tools(paths, CapacityLimiter(2))
    members = {m.id: measuring(name) for m, name in zip(spec.members, tools, strict=True)}

    def leader(request: ModelRequest) -> list[Step]:
        return [Say("Good.")] if has_result(request) else [Call("delegate_task_to_members")]

    cast = Cast(leader, members, mode=spec.mode, tools=tools, pass_input=True)
    async with playing(cast) as stage:
        events = await stage.log(await stage.start())
    assert events[-1]["content"] == "Good."
    results = [json.loads(e["result"]) for e in events if e["event"] == "ToolCallCompleted"]
    assert {"characters", "words"} <= max(results, key=len).keys()
