"""How the README's table of aims is made, and that it is what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.table import AIMS, Aim, lines, written_into

ROOT = Path(__file__).parents[2]
ROWS = json.loads((ROOT / "tests/benchmarks/result.json").read_text("utf-8"))["rows"]
KB = Aim("an idle reader", "an idle reader of 10000", "SQLite", 48, further=30)
FASTER = Aim("the naive service", "CPU, ratio", "naive / memory", 2.8, at_least=True)
WHOLE = Aim("streams", "streams that ended", "Redis", 1000, at_least=True, count=True)


def row(aim: Aim, median: float, unit: str = "") -> dict[str, Any]:
    figure = {"median": median, "values": [median], "unit": unit}
    return {"part": aim.part or "", "what": aim.what, "of": aim.of, **figure}


@pytest.mark.parametrize(
    ("aim", "value", "verdict"),
    [
        (KB, 30, "met, the further one too"),
        (KB, 33, "met, the further one within 10 %"),
        (KB, 33.1, "met"),
        (KB, 48, "met"),
        (KB, 48.1, "met within 10 %"),
        (KB, 52.8, "met within 10 %"),
        (KB, 52.9, "**missed**"),
        (FASTER, 2.8, "met"),
        (FASTER, 20, "met"),
        (FASTER, 2.79, "met within 10 %"),
        (FASTER, 2.55, "met within 10 %"),
        (FASTER, 2.54, "**missed**"),
        (WHOLE, 1000, "met"),
        (WHOLE, 999, "**missed**"),
        (WHOLE, 0, "**missed**"),
    ],
)
def test_an_aim_is_met_at_its_bound_and_nearly_met_to_a_tenth_beyond(
    aim: Aim, value: float, verdict: str
) -> None:
    assert aim.judge(value) == verdict


def test_a_line_tells_figure_unit_aim_and_verdict_in_the_order_of_the_aims() -> None:
    rss, cpu, ends = (
        next(aim for aim in AIMS if aim.what == what)
        for what in ("memory at readyz", "CPU, ratio", "idle readers that got the end")
    )
    rounds = {"values": [3.917, 3.2, 5, 4.004, 3.9]}
    rows = [
        row(rss, 98.864, "MB"),
        row(ends, 10_000, "readers"),
        {**row(cpu, 3.917, "x"), **rounds, "client": 0.97},
    ]
    missed = "**missed**; the client's core was 97% busy"
    assert lines(rows)[2:] == [
        f"| {cpu.says} | 3.92 x | 3.9 to 4 of 5 | ≤ 3.5 (2.5) | {missed} |",
        "| … of these got the end | 10000 | one round | ≥ 10000 | met |",
        "| memory then | 98.9 MB | one round | ≤ 110 (90) | met, the further one within 10 % |",
    ]


def test_below_the_table_stands_which_code_was_measured_and_when() -> None:
    told = [
        {**row(aim, 1), "commit": commit, "date": f"2026-11-{day}"}
        for aim, commit, day in zip(AIMS, ("b", "a+", "b", ""), (28, 27, 29, 30), strict=False)
    ]
    no_aim = {**told[0], "what": "something else", "commit": "c"}
    assert lines([*told, no_aim])[-2:] == ["", "Measured at `a+`, `b`, 2026-11-27 to 2026-11-29."]
    assert lines(told[1:2])[-1] == "Measured at `a+`, 2026-11-27."
    page = written_into("<!-- aims -->\n\nbehind\n", told)
    assert page.endswith("\n\nMeasured at `a+`, `b`, 2026-11-27 to 2026-11-29.\n\nbehind\n")
    assert written_into(page, told) == page


def test_the_same_words_in_another_part_are_another_figure() -> None:
    paced = next(aim for aim in AIMS if aim.of == "memory / passthrough")
    assert lines([{**row(paced, 1), "part": "10 runs flat out, 16 a write"}])[2:] == []


def test_a_page_has_the_new_table_in_the_place_of_the_old_one() -> None:
    page = "before\n\n<!-- aims -->\n| old |\n|---|\n| 1 |\n\nbehind\n"
    new = written_into(page, [])
    table = "| | measured | middle half of the rounds | aim | |\n|---|---|---|---|---|\n"
    assert new == f"before\n\n<!-- aims -->\n{table}\nbehind\n"
    assert written_into(new, []) == new


@pytest.mark.parametrize("page", ["| old |\n", "<!-- aims -->\n\n<!-- aims -->\n"])
def test_a_page_without_one_place_for_the_table_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="aims"):
        written_into(page, [])


def test_every_figure_that_has_an_aim_has_one_line() -> None:
    found = {
        (each["part"], each["what"], each["of"]): [aim.says for aim in AIMS if aim.is_of(each)]
        for each in ROWS
        if each["aim"]
    }
    assert {figure: says for figure, says in found.items() if len(says) != 1} == {}
    assert len(found) > 20


def test_the_readme_tells_what_was_measured() -> None:
    page = (ROOT / "README.md").read_text("utf-8")
    assert written_into(page, ROWS) == page, (
        "python -m tests.benchmarks.table tests/benchmarks/result.json --into README.md"
    )
