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
    """One figure, from one value a round.

    `aim` is the issue's, as text; `earlier` is what was measured before the service was built.
    """

    what: str
    of: str
    unit: str
    values: Sequence[float]
    aim: str = ""
    earlier: float | None = None

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
        return f"{told}: {_WHY_OFF}" if abs(off) > _OFF else told


_WHY_OFF: Final = "the cost of waking an idle core differs; what travels are the ratios"
"""A pipe that is paced sleeps between events: most of its cost is the machine's, not its own."""


@dataclass(slots=True)
class Report:
    """All rows so far, printed as they come."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def section(self, title: str) -> None:
        """Begin a part of the table."""
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
    ) -> None:
        """Take a figure in."""
        row = Row(what, of, unit, values, aim, earlier)
        self.rows.append(row)
        spread = f"{min(values):.4g} to {max(values):.4g}" if len(values) > 1 else ""
        figure = f"{row.median:10.4g} {unit:<12}"
        _say(f"{what:<44} {of:<14} {figure} {spread:<20} {row.remark}".rstrip())

    def note(self, text: str) -> None:
        """Say something that is no figure."""
        self.notes.append(text)
        _say(text)

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        rows = [{**asdict(row), "median": row.median, "remark": row.remark} for row in self.rows]
        machine = {"python": platform.python_version(), "cores": os.cpu_count()}
        whole = {"machine": machine, "rows": rows, "notes": self.notes}
        path.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command's output


LATENCY: Final = "added latency p99, {} streams"
"""The rows that `plot.py` draws."""
