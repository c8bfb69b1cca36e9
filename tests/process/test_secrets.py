"""Canaries in every place a secret can be; all that the service says and logs is searched."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.durability.server import tcp_valkey
from tests.service import Service, service
from tests.upstream import Fail, Json, Plan, Say, Upstream

pytestmark = pytest.mark.anyio

KEY, SIGNING, UPSTREAM, WRONG, PROMPT, PASSWORD, HOUSE, USER = (
    f"canary-{what}-5e1f"
    for what in ("key", "signing", "upstream", "wrong", "prompt", "password", "house", "user")
)
CANARIES = (KEY, SIGNING, UPSTREAM, WRONG, PROMPT, PASSWORD, HOUSE, USER)
TEAMS = f"""
teams:
  - id: team
    name: Team
    instructions: {PROMPT}
    members: [{{id: writer, name: Writer, instructions: {PROMPT}}}]
  - id: house
    name: House Team
    model: house
    members: [{{id: writer, name: Writer}}]
models:
  - {{name: house, provider: chat, model: m, base_url: BASE_URL, api_key_env: OPENAI_HOUSE_KEY}}
"""
ROUTES = (
    "/",
    "/docs",
    "/openapi.json",
    "/livez",
    "/readyz",
    "/metrics",
    "/teams",
    "/teams/team",
    "/runs",
)


def script(body: Json, number: int) -> Plan:
    """Fail with every secret the caller sent, in every way; then answer."""
    said = f"{UPSTREAM} is wrong, and so is {PROMPT}"
    plans: Mapping[int, Plan] = {
        1: [Fail(401, "invalid_api_key", message=said)],
        2: [Fail(400, UPSTREAM, message=said, body=said.encode())],
        3: [Say("Once "), Fail(500)] if "never" in body else [Fail(500, message=said)],
    }
    return plans.get(number, [Say("Once ", "upon.")])


async def use(running: Service, transcript: list[str]) -> None:
    """Ask for everything in every way, and write down what is answered."""

    async def note(answer: httpx.Response) -> None:
        await answer.aread()
        transcript.append(f"{answer.headers} {answer.text}")

    async with running.client() as client:
        client.event_hooks = {"response": [note]}
        for shown in ({}, {"Authorization": f"Bearer {WRONG}"}, {"Authorization": f"Bearer {KEY}"}):
            for path in ROUTES:
                await client.get(path, headers=shown)
            for body in ({"input": "x"}, {"input": 1, "nothing": WRONG}, [WRONG]):
                await client.post("/runs?wait=20", json=body, headers=shown)
            await client.post("/runs", content=WRONG, headers=shown)
            await client.get(f"/runs/x?ticket={WRONG}", headers=shown)
        client.headers["Authorization"] = f"Bearer {KEY}"
        for team in ("team", "team", "team", "house"):
            order = {"input": "x", "team": team}
            run = (await client.post("/runs?wait=20", json=order)).json()
            await client.get(run["links"]["events"])
        del client.headers["Authorization"]
        await client.get(run["links"]["events"])
        await client.get(run["links"]["events"] + WRONG)
    await send_what_is_not_http(running)
    tickets = run["links"]["events"].partition("ticket=")[2]
    assert tickets
    assert tickets not in "".join(running.log)


async def send_what_is_not_http(running: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(f"{WRONG}\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        await reader.read()
    writer.close()


@asynccontextmanager
async def stores() -> AsyncIterator[str]:
    """Yield the address, with a password in it, of a store that asks for one."""
    with tcp_valkey() as valkey:
        valkey.do("CONFIG", "SET", "requirepass", PASSWORD)
        yield valkey.url.replace("//", f"//:{PASSWORD}@")


async def test_no_secret_is_ever_said_or_logged(tmp_path: Path) -> None:
    transcript: list[str] = []
    async with Upstream(script) as upstream, stores() as store_url:
        with_user = upstream.base_url.replace("//", f"//{USER}:{PASSWORD}@")
        (tmp_path / "teams.yaml").write_text(TEAMS.replace("BASE_URL", upstream.base_url))
        settings = {
            "API_KEYS": f"acme:{KEY}",
            "SIGNING_KEYS": SIGNING,
            "OPENAI_API_KEY": UPSTREAM,
            "OPENAI_BASE_URL": with_user,
            "OPENAI_HOUSE_KEY": HOUSE,
            "MODEL": "openai:model",
            "TEAMS_FILE": str(tmp_path / "teams.yaml"),
            "STORE_URL": store_url,
            "LOG_LEVEL": "debug",
        }
        async with service(**settings) as running:
            await use(running, transcript)
            running.stop()
            assert await running.ended() == 0
        assert upstream.exchanges
    said = "".join((*transcript, *running.log))
    assert '"code":"model_error"' in said
    assert "TeamRunCompleted" in said
    assert [canary for canary in CANARIES if canary in said] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"STORE_URL": f"redis://:{PASSWORD}@127.0.0.1:1/0"},
        {"STORE_URL": f"postgres://:{PASSWORD}@127.0.0.1:1/0"},
        {"API_KEYS": KEY},
        {"API_KEYS": f"a:{KEY},b:{KEY}"},
        {"API_KEYS": f"a:{KEY}", "AUTH": "off"},
        {"API_KEYS": f"a:{KEY}", "SIGNING_KEYS": SIGNING, "PORT": "x"},
        {"OPENAI_BASE_URL": f"ftp://:{PASSWORD}@127.0.0.1"},
        {"PORT": PASSWORD},
    ],
    ids=" ".join,
)
def test_a_start_that_fails_repeats_no_secret(wrong: dict[str, str], tmp_path: Path) -> None:
    env: dict[str, Any] = {"PATH": os.environ["PATH"], "TEAM_RUNS_LOG_LEVEL": "debug"}
    for name, value in ({"MODEL": "scripted:"} | wrong).items():
        env[name if name.startswith("OPENAI_") else f"TEAM_RUNS_{name}"] = value
    ended = subprocess.run(
        [sys.executable, "-m", "app", "serve", "--check"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert "TEAM_RUNS_" in said or "OPENAI_" in said
    assert [canary for canary in CANARIES if canary in said] == []
