"""Both example teams talk to npm's `@copilotkit/aimock`, which answers by what it is told.

Each of its replies is tied to words that only the right agent sends at the right turn (its
instructions, its task, a tool's result), and whatever else it is asked it refuses. So a team that
comes to its end has sent every agent what it should have, in the order it should have.
"""

from __future__ import annotations

import re
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests import laws
from tests.service import service

pytestmark = [pytest.mark.anyio, pytest.mark.system]

HERE = Path(__file__).parent
TEAMS = HERE.parent.parent / "app" / "teams"
COMMAND = ["node", "node_modules/@copilotkit/aimock/dist/cli.js", "--port", "0"]
OPTIONS = ["--fixtures", "aimock.json", "--strict", "--latency", "2", "--chunk-size", "7"]
LISTENING = re.compile(rb"listening on (http://\S+)")


@asynccontextmanager
async def aimock() -> AsyncIterator[str]:
    """Run aimock; yield its URL."""
    process = await create_subprocess_exec(
        *COMMAND, *OPTIONS, cwd=HERE, stdin=DEVNULL, stdout=PIPE, stderr=None
    )
    assert process.stdout is not None
    try:
        with anyio.fail_after(20):
            async for line in process.stdout:
                if found := LISTENING.search(line):
                    break
            else:
                raise AssertionError("aimock did not start")
        yield found[1].decode()
    finally:
        process.kill()
        await process.wait()


async def play(team: str, text: str) -> tuple[dict[str, Any], list[laws.LogEvent], list[Any]]:
    """Have a team work on a text; return the run, its log, and what aimock was asked."""
    teams_file = str(TEAMS / f"{team}.yaml")
    async with (
        aimock() as url,
        service(OPENAI_BASE_URL=f"{url}/v1", TEAMS_FILE=teams_file) as running,
        running.client() as client,
    ):
        run = (await client.post("/runs?wait=20", json={"input": text})).json()
        log = laws.parse((await client.get(run["links"]["events"])).content)
        async with httpx.AsyncClient(base_url=url, trust_env=False) as other:
            asked = (await other.get("/__aimock/journal")).json()
    laws.check(log)
    return run, log, asked


def statuses(run: dict[str, Any]) -> dict[str, str]:
    members = {member["agent_id"]: member["status"] for member in run["members"]}
    return {run["team_id"]: run["status"], **members}


async def test_the_storytelling_team_delegates_twice_and_tells_the_story() -> None:
    run, log, asked = await play("storytelling", "Write a story about a dragon.")
    assert set(statuses(run).values()) == {"completed"}, (run, asked)
    assert list(statuses(run)) == ["storytelling", "storyteller", "editor"]
    assert run["members"][0]["content"] == "Once upon a time a dragon learned to code. \U0001f409"
    assert run["members"][1]["task"].startswith("Mend this: ")
    assert run["content"].startswith("The finished story: ")
    assert [one["response"]["status"] for one in asked] == [200] * 5
    said = [event for event in log if event["event"] == "TeamRunContent"]
    assert {event["turn"] for event in said} == {2, 3}
    assert len(said) > 5, "the replies were to come in pieces"


async def test_the_text_review_team_asks_all_and_each_uses_its_tool() -> None:
    run, log, asked = await play("text_review", "The sea, the sea. It shines.")
    assert set(statuses(run).values()) == {"completed"}, (run, asked)
    assert list(statuses(run)) == ["text_review", "readability", "wording"]
    assert run["content"] == "Easy to read; say sea once."
    assert [one["response"]["status"] for one in asked] == [200] * 6
    results = {
        event["tool_name"]: event["result"]
        for event in log
        if event["event"] == "ToolCallCompleted" and event["status"] == "completed"
    }
    assert results.keys() == {"text_statistics", "repeated_words"}
    assert results["repeated_words"] == '{"the":2,"sea":2}'
