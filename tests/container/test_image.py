"""The image, really built from the Dockerfile and run: read-only, as an ordinary user, as PID 1."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from time import monotonic

import pytest

from tests import laws
from tests.container.compose import ROOT
from tests.container.image import Container, Image, base_size_bytes, build, container, run
from tests.figures import FIGURES

pytestmark = pytest.mark.system

MB = 1_000_000


@pytest.fixture(scope="module")
def image() -> Image:
    return build("service")


@pytest.fixture(scope="module")
def local() -> Image:
    return build("local")


@pytest.fixture(scope="module")
def running(image: Image) -> Iterator[Container]:
    with container(image, AUTH="off", MODEL="scripted:") as started:
        started.await_health()
        yield started


def test_a_run_is_streamed_to_its_end_and_kept(running: Container) -> None:
    with running.client() as client:
        body = {"input": "Tell a story.", "stream": True}
        with client.stream("POST", "/runs", json=body) as response:
            log = laws.parse(response.read())
        laws.check(log)
        assert log[-1]["event"] == "TeamRunCompleted"
        assert client.get(f"/runs/{log[0]['run_id']}").json()["status"] == "completed"
    assert running.do("test", "-s", "/data/team-runs.db").returncode == 0


def test_the_process_is_an_ordinary_user_who_can_write_to_data_alone(running: Container) -> None:
    status = running.do("cat", "/proc/1/status").stdout
    assert "\nUid:\t10001\t10001\t10001\t10001\n" in status
    assert "\nCapEff:\t0000000000000000\n" in status
    for folder in ("/opt/team-runs", "/opt/venv", "/tmp"):  # noqa: S108 - the container's
        assert "Read-only file system" in running.do("touch", f"{folder}/mark").stderr
    assert running.do("touch", "/data/mark").returncode == 0


def test_pip_and_the_tests_stay_behind(running: Container) -> None:
    assert "No module named pip" in running.do("python", "-m", "pip").stderr
    assert running.do("ls", "/opt/team-runs").stdout == "app\n"


def test_a_sigterm_ends_the_run_after_its_grace_and_then_the_container(image: Image) -> None:
    with container(image, AUTH="off", MODEL="scripted:", DRAIN_TIMEOUT_S="1") as started:
        started.await_health()
        with started.client() as client:
            body = {"input": "Tell a story.", "stream": True}
            with client.stream("POST", "/runs", json=body) as response:
                chunks = response.iter_raw()
                received = next(chunks)
                asked_at = monotonic()
                started.ask_to_stop()
                received += b"".join(chunks)
        assert started.ended() == 0
    took_s = monotonic() - asked_at
    final = laws.parse(received)[-1]
    assert (final["event"], final["error"]["code"]) == ("TeamRunError", "interrupted")
    assert took_s < 6
    FIGURES.append(f"container: gone {took_s:.1f} s after SIGTERM, 1 s of it grace for its run")


def test_without_a_word_on_who_may_use_it_the_image_does_not_start(image: Image) -> None:
    ended = run(image)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "TEAM_RUNS_AUTH=off" in ended.stderr


def test_the_local_target_brings_a_model_of_its_own(local: Image) -> None:
    with container(local, AUTH="off") as started:
        started.await_health()
        with started.client() as client:
            body = {"input": "Tell a very short story.", "stream": True}
            with client.stream("POST", "/runs", json=body) as response:
                lines = response.iter_lines()
                assert any(line == "event: RunContent" for line in lines)


def test_the_labels_say_what_it_is(image: Image) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    prefix = "org.opencontainers.image."
    labels = image.config["Labels"]
    told = {key: labels[prefix + key] for key in ("title", "description", "licenses", "version")}
    assert told == {
        "title": project["name"],
        "description": project["description"],
        "licenses": project["license"],
        "version": project["version"],
    }


def test_how_large_the_images_are(image: Image, local: Image) -> None:
    base = base_size_bytes()
    ours, with_model = image.size_bytes - base, local.size_bytes - base
    FIGURES.append(
        f"image: {ours / MB:.0f} MB above its base of {base / MB:.0f} MB,"
        f" {with_model / MB:.0f} MB with the local model"
    )
    assert ours < 120 * MB
    assert with_model < 400 * MB
