"""The start tells the truth: what is set, what is broken, and what `--check` finds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from anyio import to_thread
from pydantic import SecretStr

from app.domain.access import ApiKey
from app.models.catalog import Catalog, OpenAIAccess
from app.settings import Settings
from app.startup import MASK, check, given, shown
from app.stores.memory import MemoryStore
from tests.service import service
from tests.upstream import Fail, Hold, Refuse, Say, Upstream

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
SECRET = "canary-8d41"  # noqa: S105 - to be searched for
NOWHERE = "http://127.0.0.1:9/v1"
REFUSED = "The model's provider answered with the status 401 (invalid_api_key)."
NO_LOCAL_MODEL = "import sys\nsys.modules['xllamacpp'] = None\n"
"""What Python finds when a package is not installed, and a file that it runs before all else."""


def run(folder: Path, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `serve` as a process in a folder, with these settings alone, to its end."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{folder}:{ROOT}", "TEAM_RUNS_PORT": "0"}
    for name, value in ({"MODEL": "scripted:"} | settings).items():
        env[name if name.startswith("OPENAI_") else f"TEAM_RUNS_{name}"] = value
    return subprocess.run(  # noqa: S603 - our own module with the test's own words
        [sys.executable, "-m", "app", "serve", *options],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def teams_with(**leader: object) -> str:
    team = {"id": "team", "name": "Team", "members": [{"id": "writer", "name": "Writer"}]}
    return json.dumps({"teams": [team | leader]})


# --- what is set ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        (f"redis://:{SECRET}@host:6379/0", f"redis://{MASK}@host:6379/0"),
        (f"redis://user:{SECRET}@x@host/0", f"redis://{MASK}@host/0"),
        (f"redis://user:a/{SECRET}@host/0", f"redis://{MASK}@host/0"),
        (f"rediss://host/0?password={SECRET}", f"rediss://host/0?{MASK}"),
        (SecretStr(SECRET), MASK),
        ((SecretStr(SECRET), SecretStr(SECRET)), f"{MASK},{MASK}"),
        ((ApiKey.read(f"acme:{SECRET}"),), f"acme:{MASK}"),
        ("sqlite:/data/what?@x.db", "sqlite:/data/what?@x.db"),
        (7.5, "7.5"),
    ],
)
def test_what_is_secret_in_a_setting_is_masked(value: object, told: str) -> None:
    assert shown(value) == told


def test_only_what_was_set_is_told() -> None:
    assert (
        given(Settings(model="scripted:", port=1)) == "TEAM_RUNS_PORT=1 TEAM_RUNS_MODEL=scripted:"
    )


async def test_a_start_tells_settings_store_models_teams_access_and_limits(tmp_path: Path) -> None:
    settings = {
        "STORE_URL": f"sqlite:{tmp_path / 'runs.db'}",
        "API_KEYS": f"acme:{SECRET},rival:{SECRET}2",
        "OPENAI_API_KEY": SECRET,
        "MODEL": "openai:big",
        "MAX_RUNNING_RUNS": "7",
    }
    async with service(**settings) as running:
        told = "".join(running.log)
    for line in (
        rf"settings: .*OPENAI_API_KEY={re.escape(MASK)} .*TEAM_RUNS_MAX_RUNNING_RUNS=7",
        rf"store: sqlite:{tmp_path / 'runs.db'}, finished runs kept for 604800 s",
        r"models: openai:big\n",
        r"teams: storytelling \(coordinate: storyteller, editor\)\n",
        r"access: keys of acme, rival\n",
        r"limits: 7 runs at once and 1000 waiting, ",
    ):
        assert re.search(line, told), line
    assert SECRET not in told


# --- what is broken -------------------------------------------------------------------------------


BROKEN: Mapping[str, tuple[dict[str, str], str]] = {
    "a bad setting": ({"MAX_TURNS": "many"}, r"TEAM_RUNS_MAX_TURNS: should be a valid integer.*"),
    "a teams file with a mistake": (
        {"TEAMS_FILE": "mode.yaml"},
        r"mode.yaml: teams.0.mode: Input should be 'coordinate', 'route' or 'broadcast'",
    ),
    "no key": (
        {"MODEL": "openai:big"},
        "OPENAI_API_KEY is not set, and the model openai:big needs it",
    ),
    "no engine or weights": (
        {"MODEL": "local:smollm2"},
        r"There is no model to run: set OPENAI_API_KEY .*, or install the small local model .*",
    ),
    "a store in no folder": (
        {"STORE_URL": "sqlite:no/runs.db"},
        "the store's file no/runs.db cannot be written: no such file or directory",
    ),
    "a Redis that is not there": (
        {"STORE_URL": "redis://127.0.0.1:9/0"},
        "TEAM_RUNS_STORE_URL: Redis does not answer there, or does not let us write",
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mode.yaml").write_text(teams_with(mode="chaos"))
    (tmp_path / "sitecustomize.py").write_text(NO_LOCAL_MODEL)
    return tmp_path


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_one_sentence_and_exit_status_2(folder: Path, case: str) -> None:
    settings, sentence = BROKEN[case]
    ended = run(folder, **settings)
    plain = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert len(plain) == 1, ended.stderr
    assert re.fullmatch(f"team-runs: {sentence}", plain[0]), plain
    assert (ended.returncode, ended.stdout) == (2, "")


async def test_a_provider_that_does_not_answer_keeps_no_service_from_starting() -> None:
    settings = {"MODEL": "openai:big", "OPENAI_API_KEY": "sk-x", "MODEL_RETRIES": "0"}
    async with service(**settings, OPENAI_BASE_URL=NOWHERE) as running, running.client() as client:
        assert (await client.get("/readyz")).status_code == 200
        run = (await client.post("/runs", json={"input": "Hi."}, params={"wait": 20})).json()
    assert (run["status"], run["error"]["code"]) == ("error", "model_error")


# --- what a check finds ---------------------------------------------------------------------------


def models(*providers: Upstream) -> str:
    """A teams file with a model of each provider's: the leader's, and the member's."""
    names = [f"model-{place}" for place in range(len(providers))]
    entries = [
        {"name": name, "provider": "chat", "model": name, "base_url": provider.base_url}
        for name, provider in zip(names, providers, strict=True)
    ]
    members = [{"id": name, "name": name, "model": name} for name in names[1:]]
    return json.dumps(
        {**json.loads(teams_with(model=names[0], members=members)), "models": entries}
    )


async def check_with(folder: Path, *providers: Upstream) -> subprocess.CompletedProcess[str]:
    (folder / "teams.yaml").write_text(models(*providers))
    settings = {"TEAMS_FILE": "teams.yaml", "MODEL_RETRIES": "0"}
    return await to_thread.run_sync(lambda: run(folder, "--check", **settings))


async def test_a_check_asks_every_model_once_and_tells_that_all_is_well(tmp_path: Path) -> None:
    hold = Hold()
    async with (
        Upstream(lambda *_: [Say("Yes"), hold]) as one,
        Upstream(lambda *_: [Say("Yes.")]) as two,
    ):
        done = await check_with(tmp_path, one, two)
        asked = [exchange.body for upstream in (one, two) for exchange in upstream.exchanges]
    told = done.stdout.splitlines()
    assert told[-6:] == [
        "ok      settings",
        "ok      teams",
        "ok      store",
        "ok      model model-0",
        "ok      model model-1",
        "all is well",
    ]
    assert (done.returncode, done.stderr) == (0, "")
    assert [body["model"] for body in asked] == ["model-0", "model-1"]
    assert all(body["max_tokens"] == 16 for body in asked)


async def test_a_check_tells_of_each_model_that_does_not_answer(tmp_path: Path) -> None:
    said = f"the key {SECRET} is wrong"
    async with (
        Upstream(lambda *_: [Fail(401, "invalid_api_key", message=said)]) as refusing,
        Upstream(lambda *_: [Refuse(said)]) as answering,
    ):
        done = await check_with(tmp_path, refusing, answering)
    assert done.stdout.splitlines()[-3:] == [
        f"FAILED  model model-0: {REFUSED}",
        "ok      model model-1",
        "not all is well",
    ]
    assert done.returncode == 1
    assert SECRET not in done.stdout + done.stderr


def test_a_check_tries_the_models_also_where_the_store_cannot_be_had(tmp_path: Path) -> None:
    done = run(tmp_path, "--check", STORE_URL="sqlite:no/runs.db")
    assert done.stdout.splitlines()[-3:] == [
        "FAILED  store: the store's file no/runs.db cannot be written: no such file or directory",
        "ok      model scripted:",
        "not all is well",
    ]
    assert done.returncode == 1


async def test_a_model_that_never_answers_fails_the_check_in_time(tmp_path: Path) -> None:
    (tmp_path / "silent.yaml").write_text("agents: [{turns: [[{pause: 3600}]]}]")
    models = Catalog(OpenAIAccess(), retries=0)
    models.open(name := f"scripted:{tmp_path / 'silent.yaml'}")
    told: list[str] = []
    assert not await check(MemoryStore(), models, told.append, answer_s=0.1)
    assert told[-1] == f"FAILED  model {name}: It did not answer within 0.1 s."
