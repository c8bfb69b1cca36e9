"""The command line as real processes: `serve`, `demo`, `openapi`, and their exit statuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from anyio import to_thread
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

pytestmark = pytest.mark.anyio

SCRIPT = """
pace_s: 0
agents:
  - match: Let the storyteller write
    turns:
      - - call: delegate_task_to_member
          arguments: {member_id: storyteller, task: Write it}
      - - say: The end, says the leader.
  - turns:
      - - say: "Once upon a time \\e[2J"
        - %s
"""
QUICK, ENDLESS, FAILING = "say: there was.", "pause: 3600", "fail: model_error"


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)  # no .env of anybody's
    ours = ("TEAM_RUNS_", "OPENAI_")
    return {k: v for k, v in os.environ.items() if not k.upper().startswith(ours)} | {
        "TEAM_RUNS_MODEL": "scripted:",
        "TEAM_RUNS_PORT": "0",
        "TEAM_RUNS_DRAIN_TIMEOUT_S": "0",
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }


def told_to(env: dict[str, str], tmp_path: Path, how: str) -> dict[str, str]:
    path = tmp_path / "script.yaml"
    path.write_text(SCRIPT % how)
    return env | {"TEAM_RUNS_MODEL": f"scripted:{path}"}


def run(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app", *arguments]
    return subprocess.run(  # noqa: S603 - our own module with the test's own words
        command, env=env, capture_output=True, text=True, timeout=60, check=False
    )


def run_into_head(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it with an output that is read for one line."""
    command = shlex.join([sys.executable, "-m", "app", *arguments])
    bash = ["bash", "-c", f"{command} | head -n 1; exit ${{PIPESTATUS[0]}}"]
    return subprocess.run(  # noqa: S603 - our own module with the test's own words
        bash, env=env, capture_output=True, text=True, timeout=60, check=False
    )


@asynccontextmanager
async def running(env: Mapping[str, str], *arguments: str) -> AsyncIterator[Process]:
    command = [sys.executable, "-m", "app", *arguments]
    with anyio.fail_after(60):
        async with await anyio.open_process(command, env=env) as process:
            try:
                yield process
            finally:
                if process.returncode is None:
                    process.terminate()


async def read_until(pattern: str, output: TextReceiveStream) -> str:
    text = ""
    async for piece in output:
        text += piece
        if re.search(pattern, text):
            return text
    raise AssertionError(f"{pattern} never came: {text}")


def stdout(process: Process) -> TextReceiveStream:
    assert process.stdout is not None
    return TextReceiveStream(process.stdout)


def stderr(process: Process) -> TextReceiveStream:
    assert process.stderr is not None
    return TextReceiveStream(process.stderr)


def lines_of(summary: str) -> dict[str, str]:
    found = re.findall(
        r"^(status|run|cancelled|cancel took|tokens|content) +(.+)$", summary, re.MULTILINE
    )
    return dict(found)


# --- demo -----------------------------------------------------------------------------------------


def test_the_demo_cancels_the_run_and_tells_how_it_went(
    env: dict[str, str], tmp_path: Path
) -> None:
    demo = run(told_to(env, tmp_path, ENDLESS), "demo", "--delay", "0.5", "--input", "Tell.")
    assert (demo.returncode, demo.stderr) == (0, "")
    summary = lines_of(demo.stdout)
    assert summary["status"] == "cancelled"
    assert summary["cancelled"] == "yes"
    assert float(summary["cancel took"].removesuffix(" s")) < 5
    assert summary["tokens"].startswith("about ")
    assert f"run {summary['run']}: Tell." in demo.stdout
    assert f"→ DELETE /runs/{summary['run']}\n" in demo.stdout
    assert "← 202 cancelling\n" in demo.stdout
    assert "· StorytellerAgent: stopped" in demo.stdout
    assert "The run was cancelled, as asked." in demo.stdout
    assert summary["content"] == "(StorytellerAgent) Once upon a time \\x1b[2J"


def test_the_demo_lets_the_run_finish_when_it_is_told_to(
    env: dict[str, str], tmp_path: Path
) -> None:
    demo = run(told_to(env, tmp_path, QUICK), "demo", "--no-cancel", "--team", "storytelling")
    assert demo.returncode == 0
    summary = lines_of(demo.stdout)
    assert (summary["status"], summary["cancelled"]) == ("completed", "no")
    assert summary["content"] == "The end, says the leader."
    assert "DELETE" not in demo.stdout
    assert "[StorytellerAgent] Once upon a time \\x1b[2Jthere was." in demo.stdout
    assert "\x1b" not in demo.stdout


@pytest.mark.parametrize(
    ("how", "options", "sentence"),
    [
        (QUICK, ["--delay", "60"], "The run completed before it could be cancelled"),
        (QUICK, ["--team", "nobody"], "the server answered 404"),
        (QUICK, ["--url", "http://127.0.0.1:1"], "no answer from http://127.0.0.1:1"),
        (QUICK, ["--url", "http://host:port"], "--url is not an address"),
        (QUICK, ["--url", "127.0.0.1:8000"], "--url is not an address"),
        (QUICK, ["--url", "http://127.0.0.1:1", "--key", "ключ"], "--key has characters"),
    ],
)
def test_the_demo_says_plainly_that_it_did_not_go_as_asked(
    env: dict[str, str], tmp_path: Path, how: str, options: list[str], sentence: str
) -> None:
    demo = run(told_to(env, tmp_path, how), "demo", *options)
    assert demo.returncode == 1
    assert sentence in demo.stdout
    assert demo.stderr == ""


def test_the_demo_shows_a_run_that_fails(env: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "fails.yaml"
    path.write_text("agents: [{turns: [[{fail: model_error}]]}]")
    demo = run(env | {"TEAM_RUNS_MODEL": f"scripted:{path}"}, "demo", "--no-cancel")
    assert demo.returncode == 1
    assert "· Storytelling Team: failed: " in demo.stdout
    assert "The run was to be completed, but its status is error." in demo.stdout


def test_a_member_that_fails_is_shown_and_the_run_goes_on(
    env: dict[str, str], tmp_path: Path
) -> None:
    demo = run(told_to(env, tmp_path, FAILING), "demo", "--no-cancel")
    assert demo.returncode == 0
    assert "· StorytellerAgent: failed: " in demo.stdout


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
async def test_an_interrupted_demo_leaves_no_server_behind(
    env: dict[str, str], tmp_path: Path, number: signal.Signals, status: int
) -> None:
    endless = told_to(env, tmp_path, ENDLESS)
    async with running(endless, "demo", "--delay", "3600") as process:
        output = stdout(process)
        told = await read_until(r"\[StorytellerAgent\] Once", output)
        process.send_signal(number)
        rest = "".join([piece async for piece in output])
        assert await process.wait() == status
    if number is signal.SIGINT:
        assert lines_of(rest)["status"] == "cancelled"
    (url,) = re.findall(r"starting a server on (\S+)", told)
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/livez")


async def test_a_demo_whose_output_nobody_reads_any_more_cancels_its_run_and_ends_quietly(
    env: dict[str, str], tmp_path: Path
) -> None:
    async with running(told_to(env, tmp_path, ENDLESS), "serve") as server:
        (port,) = re.findall(r"port (\d+)", await read_until(r"port \d+", stderr(server)))
        url = f"http://127.0.0.1:{port}"
        options = ["--url", url, "--delay", "3600"]
        demo = await to_thread.run_sync(lambda: run_into_head(env, "demo", *options))
        assert re.fullmatch(r"run \S+: .*\n", demo.stdout)
        assert (demo.returncode, demo.stderr) == (128 + signal.SIGPIPE, "")
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            (run,) = (await client.get("/runs")).json()["runs"]
            ended = (await client.get(f"/runs/{run['run_id']}?wait=10")).json()
        assert (ended["status"], ended["cancel"]["reason"]) == (
            "cancelled",
            "the output is read no further",
        )


def test_output_that_nobody_reads_is_no_error(env: dict[str, str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "app", "openapi"]
    with open(write_end, "wb") as output:  # noqa: PTH123 - a file descriptor
        done = subprocess.run(  # noqa: S603 - our own module
            command, env=env, stdout=output, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_a_wrong_setting_is_one_line_and_exit_status_2(env: dict[str, str], command: str) -> None:
    done = run(env | {"TEAM_RUNS_MAX_TURNS": "s3cret"}, command)
    assert done.returncode == 2
    assert re.fullmatch(r"team-runs: TEAM_RUNS_MAX_TURNS: should be .*\n", done.stderr)
    assert "s3cret" not in done.stdout + done.stderr


@pytest.mark.parametrize("delay", ["-1", "nan", "soon"])
def test_a_delay_that_is_none_is_refused(env: dict[str, str], delay: str) -> None:
    demo = run(env, "demo", f"--delay={delay}")
    assert demo.returncode == 2
    assert "--delay" in demo.stderr.splitlines()[-1]


# --- serve ----------------------------------------------------------------------------------------


async def test_serve_says_where_it_is_serves_a_demo_and_ends_on_sigterm(
    env: dict[str, str], tmp_path: Path
) -> None:
    endless = told_to(env, tmp_path, ENDLESS) | {"TEAM_RUNS_MAX_TURN": "1"}
    async with running(endless, "serve") as process:
        log = stderr(process)
        told = await read_until(r"port \d+", log)
        lines = [json.loads(line) for line in told.splitlines()]
        messages = "\n".join(line["message"] for line in lines)
        assert "TEAM_RUNS_MAX_TURN is not a setting" in messages
        assert "teams: storytelling (coordinate: storyteller, editor)" in messages
        (port,) = re.findall(r"port (\d+)", messages)
        options = ["--url", f"http://127.0.0.1:{port}", "--delay", "0.1"]
        demo = await to_thread.run_sync(lambda: run(env, "demo", *options))
        assert demo.returncode == 0, demo.stdout
        process.terminate()
        assert await process.wait() == 0


async def test_an_address_that_is_taken_is_one_line_and_exit_status_2(env: dict[str, str]) -> None:
    async with running(env, "serve") as process:
        told = await read_until(r"port \d+", stderr(process))
        (port,) = re.findall(r"port (\d+)", told)
        taken = env | {"TEAM_RUNS_PORT": port}
        second = await to_thread.run_sync(lambda: run(taken, "serve"))
        assert second.returncode == 2
        assert f"port {port}" in second.stderr.splitlines()[-1]


def test_openapi_prints_the_document_whatever_the_settings_are(env: dict[str, str]) -> None:
    printed = run(env | {"TEAM_RUNS_MODEL": "nonsense", "TEAM_RUNS_MAX_TURNS": "x"}, "openapi")
    assert printed.returncode == 0
    assert "/runs/{run_id}/events" in json.loads(printed.stdout)["paths"]
