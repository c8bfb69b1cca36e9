"""The composition root: what a teams file becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.domain.errors import ConfigurationError
from app.main import create_app
from app.settings import Settings
from tests import laws
from tests.cancellation.cases import delegate, has_results, is_leader
from tests.service import service
from tests.upstream import End, Json, Plan, Say, Upstream

pytestmark = pytest.mark.anyio


def write(folder: Path, *, models: object = (), **member: Any) -> Path:
    """Write a teams file with a leader on the default model and one member."""
    agent = {"id": "editor", "name": "Editor"}
    team = {"id": "team", "name": "Team", "members": [agent | member]}
    path = folder / "teams.yaml"
    path.write_text(yaml.safe_dump({"models": models, "teams": [team]}))
    return path


def check(path: Path) -> None:
    """Build the service as `serve --check` does."""
    create_app(
        Settings(model="scripted:", teams_file=path, openai_base_url="http://127.0.0.1:9/v1")
    )


CHAT = {"name": "fast", "provider": "chat", "model": "m", "base_url": "http://127.0.0.1:9/v1"}


@pytest.mark.parametrize("model", ["chat:m", "fast"])
def test_hosted_tools_need_the_responses_api(tmp_path: Path, model: str) -> None:
    tools = [{"type": "web_search"}]
    path = write(tmp_path, models=[CHAT], model=model, hosted_tools=tools)
    with pytest.raises(ConfigurationError, match="need the Responses API") as told:
        check(path)
    assert str(told.value).startswith(f"{path}: teams.0.members.0.hosted_tools: ")
    check(write(tmp_path, model="openai:m", hosted_tools=tools))


def test_a_model_that_the_file_does_not_have_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, models=[CHAT], model="slow")
    with pytest.raises(ConfigurationError) as told:
        check(path)
    assert str(told.value).startswith(
        f"{path}: teams.0.members.0.model: slow: there is no such model; expected "
    )


def test_a_default_model_that_there_is_not_is_no_mistake_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as told:
        create_app(Settings(model="slow", teams_file=write(tmp_path)))
    assert str(told.value).startswith("slow: there is no such model; expected ")


def test_a_tool_that_cannot_be_had_is_told_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, tools=["app.tools.examples:text_statistics", "app.tools.nope:tool"])
    with pytest.raises(ConfigurationError) as told:
        check(path)
    assert str(told.value) == (
        f"{path}: teams.0.members.0.tools.1: app.tools.nope:tool: "
        "there is no module app.tools.nope to import"
    )


async def test_the_members_of_a_team_may_run_on_different_providers(tmp_path: Path) -> None:
    def script(body: Json, _: int) -> Plan:
        if not is_leader(body):
            return [Say("Edited.")]
        return [Say("Told.")] if has_results(body) else delegate("editor")

    async with Upstream(script) as upstream, Upstream(script) as other:
        key = {"api_key_env": "OPENAI_OTHER_KEY", "base_url": other.base_url}
        settings = {
            "TEAMS_FILE": str(write(tmp_path, models=[CHAT | key], model="fast")),
            "MODEL": "openai:big",
            "OPENAI_BASE_URL": upstream.base_url,
            "OPENAI_API_KEY": "sk-ours",
            "OPENAI_OTHER_KEY": "sk-theirs",
        }
        async with service(**settings) as running, running.client() as client:
            (team,) = (await client.get("/teams")).json()["teams"]
            run = (await client.post("/runs", json={"input": "Hi"}, params={"wait": 20})).json()
            log = (await client.get(run["links"]["events"])).content
        assert [exchange.body["model"] for exchange in upstream.exchanges] == ["big", "big"]
        (call,) = other.exchanges
    assert (call.headers["authorization"], call.body["model"]) == ("Bearer sk-theirs", "m")
    assert call.body["messages"][-1]["role"] == "user"
    assert (run["status"], run["content"]) == ("completed", "Told.")
    assert (team["model"], team["members"][0]["model"]) == ("openai:big", "fast")
    started = [e["model"] for e in laws.parse(log) if e["event"].endswith("RunStarted")]
    assert started == ["openai:big", "fast"]
    assert b"sk-" not in log
    assert str(other.base_url).encode() not in log
    assert "sk-" not in "".join(running.log)


@pytest.mark.parametrize("name", ["max_output_tokens", "max_completion_tokens", "max_tokens"])
async def test_a_cap_is_the_agents_own_whatever_its_provider_calls_it(
    tmp_path: Path, name: str
) -> None:
    def script(body: Json, _: int) -> Plan:
        if not is_leader(body):
            return [Say("Cut"), End("incomplete", reason="max_output_tokens")]
        return [Say("Told.")] if has_results(body) else delegate("editor")

    async with Upstream(script) as upstream:
        teams = write(tmp_path, model="chat:m", options={name: 20})
        settings = {"TEAMS_FILE": str(teams), "MODEL": "openai:big"}
        access = {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "sk-ours"}
        async with service(**settings, **access) as running, running.client() as client:
            body = {"input": "Hi", "max_output_tokens": 1000}
            run = (await client.post("/runs", json=body, params={"wait": 20})).json()
        (call,) = [each.body for each in upstream.exchanges if "messages" in each.body]
    (member,) = run["members"]
    assert (run["status"], member["finish_reason"], member["content"]) == (
        "completed",
        "length",
        "Cut",
    )
    assert [call[key] for key in call if key.startswith("max_")] == [20]
