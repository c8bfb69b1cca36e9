"""A server of the demo's own: a process on a free loopback port, gone when the demo is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Final

import httpx

from app.demo.stream import DemoFailed
from app.demo.transcript import Transcript
from app.domain.errors import ConfigurationError

START_TIMEOUT_S: Final = 120  # a local model may have to be read from a slow disk
STOP_TIMEOUT_S: Final = 30  # more than the server takes to drain


@contextmanager
def local_server(transcript: Transcript) -> Iterator[str]:
    """Start `python -m app serve` and yield its URL when it is ready; SIGTERM it at the end.

    Its settings are the environment's and the `.env` file's, but for the address. Its log is shown
    when it does not start. Raises `DemoFailed`, and `ConfigurationError` with its own sentence when
    a setting is wrong or there is no model.
    """
    port = _free_port()
    env = (
        {"TEAM_RUNS_STORE_URL": "memory:"}
        | os.environ
        | {
            "TEAM_RUNS_HOST": "127.0.0.1",
            "TEAM_RUNS_PORT": str(port),
            "TEAM_RUNS_LOG_FORMAT": "text",
        }
    )
    with tempfile.TemporaryFile() as log, _process(env, log) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, process, log, transcript)
        yield url


@contextmanager
def _process(env: dict[str, str], log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "serve"],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C is for the demo, which then cancels the run by itself
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(
    url: str, process: subprocess.Popen[bytes], log: IO[bytes], transcript: Transcript
) -> None:
    transcript.note(f"starting a server on {url}")
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _is_ready(url):
        if process.poll() is not None:
            raise _refusal(process.returncode, log)
        if time.monotonic() > deadline:
            raise DemoFailed(f"the server was not ready within {START_TIMEOUT_S} s")
        transcript.tick()
        time.sleep(0.1)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _refusal(status: int, log: IO[bytes]) -> Exception:
    log.seek(0)
    lines = log.read().decode(errors="backslashreplace").strip().splitlines() or ["(no log)"]
    if status == 2:
        return ConfigurationError(lines[-1].removeprefix("team-runs: "))
    return DemoFailed("\n".join(["the server did not start:", *lines[-20:]]))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
