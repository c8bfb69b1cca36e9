"""How a figure knows of which code it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.benchmarks.origin import origin

NOBODY = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")


def git(root: Path, *asked: str) -> str:
    command = ("git", "-C", str(root), *asked)
    done = subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own words
    return done.stdout.decode().strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for file in ("app/main.py", "tests/benchmarks/report.py", "tests/benchmarks/result.json"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("first")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, *NOBODY, "commit", "--quiet", "--message", "First")
    return tmp_path


def test_a_figure_is_of_the_commit_though_the_results_are_new(checkout: Path) -> None:
    (checkout / "tests/benchmarks/result.json").write_text("second")
    assert origin(checkout).commit == git(checkout, "rev-parse", "--short", "HEAD")


@pytest.mark.parametrize("file", ["app/main.py", "app/new.py", "tests/benchmarks/report.py"])
def test_code_that_is_not_committed_is_told_by_a_plus(checkout: Path, file: str) -> None:
    (checkout / file).write_text("second")
    assert origin(checkout).commit == git(checkout, "rev-parse", "--short", "HEAD") + "+"


def test_without_a_checkout_of_its_own_there_is_a_day_and_no_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = checkout / "app"
    assert origin(unpacked).commit == ""
    assert len(origin(unpacked).date) == len("2026-11-27")
    monkeypatch.setenv("PATH", "")
    assert origin(checkout).commit == ""
