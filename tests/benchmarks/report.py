"""What was measured: a table for people, JSON for machines and for `plot.py`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

_OFF: Final = 0.4
"""How far a row may be off an earlier figure before that wants an explanation."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of a part of the table, from one value a round.

    `aim` is text; `earlier` is what was measured before the service was built, `why_off` what to
    think of it where the row is far from that.
    """

    part: str
    what: str
    of: str
    unit: str
    values: Sequence[float]
    aim: str = ""
    earlier: float | None = None
    why_off: str = ""

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)

    @property
    def remark(self) -> str:
        """What is to be said beside it."""
        if self.earlier is None:
            return self.aim
        off = self.median / self.earlier - 1
        told = f"earlier {self.earlier:g}, now {off:+.0%}"
        return f"{told}: {self.why_off}" if abs(off) > _OFF else told


@dataclass(slots=True)
class Report:
    """All rows so far, printed as they come."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _part: str = ""

    def section(self, title: str) -> None:
        """Begin a part of the table."""
        self._part = title
        _say(f"\n{title}\n{'-' * len(title)}")

    def add(
        self,
        what: str,
        of: str,
        unit: str,
        values: Sequence[float],
        aim: str = "",
        *,
        earlier: float | None = None,
        why_off: str = "",
    ) -> None:
        """Take a figure in."""
        row = Row(self._part, what, of, unit, values, aim, earlier, why_off)
        self.rows.append(row)
        spread = f"{min(values):.4g} to {max(values):.4g}" if len(values) > 1 else ""
        figure = f"{row.median:10.4g} {unit:<12}"
        _say(f"{what:<44} {of:<14} {figure} {spread:<20} {row.remark}".rstrip())

    def note(self, text: str) -> None:
        """Say something that is no figure."""
        self.notes.append(text)
        _say(text)

    def save(self, path: Path) -> None:
        """Write all of it as JSON; of a file that is there, the parts stay that are not new."""
        before = json.loads(path.read_text("utf-8")) if path.exists() else {"rows": [], "notes": []}
        parts = {row.part for row in self.rows}
        rows = [row for row in before["rows"] if row["part"] not in parts]
        rows += [_as_json(row) for row in self.rows]
        notes = dict.fromkeys([*before["notes"], *self.notes])
        machine = {"python": platform.python_version(), "cores": os.cpu_count()}
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        head = f'"machine": {json.dumps(machine)},\n "notes": {json.dumps(list(notes))}'
        path.write_text(f'{{{head},\n "rows": [\n{lines}\n ]}}\n', "utf-8")


def _as_json(row: Row) -> dict[str, object]:
    values = [float(f"{value:.4g}") for value in row.values]
    median = float(f"{row.median:.4g}")
    told = {**asdict(row), "values": values, "median": median, "remark": row.remark}
    del told["why_off"]  # it is in the remark, where it applies
    return told


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command's output


LATENCY: Final = "added latency p99, {} streams"
"""The rows that `plot.py` draws."""
