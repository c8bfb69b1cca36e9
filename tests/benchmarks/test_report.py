"""What a benchmark's report says beside its figures, and what it saves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.origin import Origin
from tests.benchmarks.report import Report, Row, middle_half


def remark(median: float, earlier: float | None, aim: str = "") -> str:
    return Row("paced", "CPU", "naive", "µs", [median], aim, earlier, "another load").remark


def test_a_figure_far_from_an_earlier_one_is_explained() -> None:
    assert remark(61, 100) == "earlier 100, now -39%"
    assert remark(59, 100) == "earlier 100, now -41%: another load"
    assert remark(141, 100) == "earlier 100, now +41%: another load"
    assert remark(141, None, "≤ 100") == "≤ 100"


def test_a_figure_is_marked_where_the_client_had_no_more_to_give() -> None:
    for busy, told in ((0.95, "≤ 8"), (0.97, "≤ 8; the client's core was 97% busy")):
        row = Row("flat out", "CPU, ratio", "memory / pipe", "x", [5], "≤ 8", client=busy)
        assert row.remark == told


@pytest.mark.parametrize(
    ("values", "half"),
    [([3.0], None), ([9, 1], (3, 7)), ([5, 1, 4, 2, 3], (2, 4)), ([90, 1, 4, 2, 3], (2, 4))],
)
def test_the_middle_half_leaves_out_a_quarter_at_either_end(
    values: list[float], half: tuple[float, float] | None
) -> None:
    assert middle_half(values) == half


def test_parts_that_were_not_measured_this_time_stay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    rounds = (("start", "a", [3.0, 1.0, 2.0]), ("paced", "b", [5.0]), ("start", "c", [4.0, 8.0]))
    for part, commit, values in rounds:
        report = Report(Origin(commit, "2026-11-27"))
        report.note(f"before {commit}")
        report.section(part)
        report.add("time", "SQLite", "s", values, "≤ 2", client=[0.5, 0.7])
        report.note(f"in {commit}")
        report.save(path)
    saved = json.loads(path.read_text("utf-8"))
    assert [(row["part"], row["commit"], row["median"]) for row in saved["rows"]] == [
        ("paced", "b", 5.0),
        ("start", "c", 6.0),
    ]
    assert [note["text"] for note in saved["notes"]] == ["in b", "before c", "in c"]
    assert saved["rows"][1] == {
        "part": "start",
        "what": "time",
        "of": "SQLite",
        "unit": "s",
        "values": [4.0, 8.0],
        "aim": "≤ 2",
        "earlier": None,
        "client": 0.6,
        "commit": "c",
        "date": "2026-11-27",
        "median": 6.0,
        "p25": 5.0,
        "p75": 7.0,
        "remark": "≤ 2",
    }
