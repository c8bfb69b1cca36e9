"""The table of promises (`promises.yaml`): every sentence has a test, and every test is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

TESTS = Path(__file__).parent
TABLE: Mapping[str, Mapping[str | int, Sequence[str]]] = yaml.safe_load(
    (TESTS / "promises.yaml").read_text("utf-8")
)


def names_in(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


def test_every_promise_of_the_readme_is_in_the_table() -> None:
    readme = (TESTS.parent / "README.md").read_text("utf-8")
    promised = readme.partition("## What is promised\n")[2].partition("\nAnd what is not")[0]
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", promised, re.MULTILINE)]
    assert [*TABLE["README"]] == numbers


def test_every_test_that_the_table_names_is_there() -> None:
    named = [test for part in TABLE.values() for tests in part.values() for test in tests]
    missing = []
    for test in named:
        file, _, name = test.partition("::")
        if name not in names_in(TESTS / file):
            missing.append(test)
    assert missing == []


def test_every_promise_has_a_test() -> None:
    assert [what for part in TABLE.values() for what, tests in part.items() if not tests] == []
