"""What was measured: a table for people, JSON for machines and for `plot.py`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from tests.benchmarks.origin import UNKNOWN, Origin

_OFF: Final = 0.4
"""How far a row may be off an earlier figure before that wants an explanation."""
_FULL: Final = 0.95


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of a part of the table, from one value a round.

    `aim` is text; `earlier` is what was measured before the service was built, `why_off` what to
    think of it where the row is far from that. `client` is the share of its core that the client,
    with the upstream, left no room in, where it was looked at.
    """

    part: str
    what: str
    of: str
    unit: str
    values: Sequence[float]
    aim: str = ""
    earlier: float | None = None
    why_off: str = ""
    client: float | None = None
    origin: Origin = UNKNOWN

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)

    @property
    def remark(self) -> str:
        """What is to be said beside it."""
        return "; ".join(filter(None, (self.aim, self._beside_earlier, limit(self.client))))

    @property
    def _beside_earlier(self) -> str:
        if self.earlier is None:
            return ""
        off = self.median / self.earlier - 1
        told = f"earlier {self.earlier:g}, now {off:+.0%}"
        return f"{told}: {self.why_off}" if abs(off) > _OFF else told


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is no figure, about a part."""

    part: str
    text: str


@dataclass(slots=True)
class Report:
    """All rows so far, printed as they come; all of one `origin`."""

    origin: Origin = UNKNOWN
    rows: list[Row] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
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
        client: Sequence[float] = (),
    ) -> None:
        """Take a figure in."""
        full = median(client) if client else None
        row = Row(self._part, what, of, unit, values, aim, earlier, why_off, full, self.origin)
        self.rows.append(row)
        half = middle_half(values)
        spread = f"{half[0]:.4g} to {half[1]:.4g}" if half else ""
        figure = f"{row.median:10.4g} {unit:<12}"
        _say(f"{what:<44} {of:<14} {figure} {spread:<20} {row.remark}".rstrip())

    def note(self, text: str) -> None:
        """Say something that is no figure."""
        self.notes.append(Note(self._part, text))
        _say(text)

    def save(self, path: Path) -> None:
        """Write all of it as JSON; of a file that is there, the parts stay that are not new."""
        before = json.loads(path.read_text("utf-8")) if path.exists() else {"rows": [], "notes": []}
        parts = {"", *(row.part for row in self.rows), *(note.part for note in self.notes)}
        rows = [row for row in before["rows"] if row["part"] not in parts]
        notes = [note for note in before["notes"] if note["part"] not in parts]
        machine = {"python": platform.python_version(), "cores": os.cpu_count()}
        path.write_text(
            f'{{"machine": {json.dumps(machine)},\n'
            f' "notes": [\n{_lines([*notes, *map(asdict, self.notes)])}\n ],\n'
            f' "rows": [\n{_lines([*rows, *map(_as_json, self.rows)])}\n ]}}\n',
            "utf-8",
        )


def middle_half(values: Sequence[float]) -> tuple[float, float] | None:
    """Return p25 and p75: between them lies the middle half of all; `None` of a single one."""
    if len(values) < 2:
        return None
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def limit(client: float | None) -> str:
    """Say where a figure may be the client's rather than the server's."""
    return f"the client's core was {client:.0%} busy" if client and client > _FULL else ""


def _as_json(row: Row) -> dict[str, object]:
    told = asdict(row)
    del told["why_off"]  # it is in the remark, where it applies
    origin = told.pop("origin")
    half = middle_half(row.values)
    spread = {"p25": _short(half[0]), "p75": _short(half[1])} if half else {}
    return {
        **told,
        **origin,
        "values": list(map(_short, row.values)),
        "client": row.client and _short(row.client),
        "median": _short(row.median),
        **spread,
        "remark": row.remark,
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _lines(items: Sequence[Mapping[str, Any]]) -> str:
    return ",\n".join(f"  {json.dumps(item)}" for item in items)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command's output


LATENCY: Final = "added latency p99, {} streams"
"""The rows that `plot.py` draws."""
