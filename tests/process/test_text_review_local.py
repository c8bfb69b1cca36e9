"""The example team with tools, on the local model: what it says is its own affair, not the order.

The answers are capped, since a small model does not know when to stop.
"""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest
import yaml

from tests import laws
from tests.service import service

pytestmark = pytest.mark.anyio

TEAM = Path(__file__).parent.parent.parent / "app" / "teams" / "text_review.yaml"
TEXT = "The lighthouse stood on the rock. The rock was old, and the lighthouse was older."
CAP = 48


def capped(folder: Path) -> Path:
    """Return a copy of the teams file in which every agent's answers are short."""
    file = yaml.safe_load(TEAM.read_text("utf-8"))
    (team,) = file["teams"]
    for agent in (team, *team["members"]):
        agent["options"] = {"max_output_tokens": CAP}
    path = folder / "teams.yaml"
    path.write_text(yaml.safe_dump(file))
    return path


async def test_all_members_review_the_text_and_the_leader_sums_up(tmp_path: Path) -> None:
    with anyio.fail_after(60):
        async with (
            service(MODEL="local:smollm2", TEAMS_FILE=str(capped(tmp_path))) as running,
            running.client() as client,
        ):
            run = (await client.post("/runs?wait=50", json={"input": TEXT})).json()
            log = laws.parse((await client.get(run["links"]["events"])).content)
    assert run["status"] == "completed", run
    assert run["content"]
    members = run["members"]
    assert [member["agent_id"] for member in members] == ["readability", "wording"]
    assert {member["status"] for member in members} == {"completed"}
    assert {member["task"] for member in members} == {TEXT}
    laws.check(log)
    names = [event["event"] for event in log]
    second_start = names.index("RunStarted", names.index("RunStarted") + 1)
    assert second_start < names.index("RunCompleted"), "they were to work side by side"
    (result,) = (event["result"] for event in log if event["event"] == "TeamToolCallCompleted")
    read = [(one["agent_id"], one["content"]) for one in json.loads(result)]
    assert read == [(member["agent_id"], member["content"]) for member in members]
