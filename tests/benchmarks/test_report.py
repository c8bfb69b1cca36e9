"""What a benchmark's report says beside its figures, and what it saves."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.report import Report, Row


def remark(median: float, earlier: float | None, aim: str = "") -> str:
    return Row("paced", "CPU", "naive", "µs", [median], aim, earlier, "another load").remark


def test_a_figure_far_from_an_earlier_one_is_explained() -> None:
    assert remark(61, 100) == "earlier 100, now -39%"
    assert remark(59, 100) == "earlier 100, now -41%: another load"
    assert remark(141, 100) == "earlier 100, now +41%: another load"
    assert remark(141, None, "≤ 100") == "≤ 100"


def test_parts_that_were_not_measured_this_time_stay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    for part, values in (("start", [3.0, 1.0, 2.0]), ("paced", [5.0]), ("start", [4.0])):
        report = Report()
        report.section(part)
        report.add("time", "SQLite", "s", values, "≤ 2")
        report.save(path)
    saved = json.loads(path.read_text("utf-8"))["rows"]
    assert [(row["part"], row["median"], row["remark"]) for row in saved] == [
        ("paced", 5.0, "≤ 2"),
        ("start", 4.0, "≤ 2"),
    ]
