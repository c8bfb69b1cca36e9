"""The aims, and what became of them: the README's table, out of a saved result.

Run as `python -m tests.benchmarks.table tests/benchmarks/result.json --into README.md`; without
`--into` the table is printed. An aim is met when the median is within 10 % of it. Beside it stands
between which values the middle half of the rounds lay, and how many rounds there were.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.report import limit, middle_half

_NEARLY: Final = 1.1
_WITHIN: Final = "within 10 %"
_TABLE: Final = re.compile(r"(?<=^<!-- aims -->\n)(?:\|.*\n)*(?:\nMeasured at .*\n)?", re.MULTILINE)
_PACED: Final = "100 runs x 20 tokens a second, leader only, one reader a run"
_UNPACED: Final = "10 runs flat out, 1 a write (starts and ends of runs included)"
_SIXTEEN: Final = "10 runs flat out, 16 a write (starts and ends of runs included)"
_OVER_PIPE: Final = "memory / passthrough"
_FLAT_KEYED: Final = "10 runs flat out, 1 a write, with keys and limits on"
_KEYED: Final = "100 runs x 20 tokens a second, with keys and limits on"
_OBSERVED: Final = "observed (figures, log; traces off) or not, "
_WATCHED: Final = "CPU per event, observed ÷ unobserved"

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Aim:
    """What a row is to be at most, or `at_least`; `part` where the row's words are not enough.

    A `count` is met or missed: of streams that must end, none may be missing.
    """

    says: str
    what: str
    of: str
    bound: float
    further: float | None = None
    at_least: bool = False
    count: bool = False
    part: str | None = None

    def is_of(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is what is meant."""
        names = (row["what"], row["of"]) == (self.what, self.of)
        return names and self.part in (None, row["part"])

    def judge(self, value: float) -> str:
        """Return what became of it."""
        if not self._is_met(value, self.bound, _NEARLY):
            return "**missed**"
        if self.further is not None and self._is_met(value, self.further, _NEARLY):
            is_met = self._is_met(value, self.further)
            return f"met, the further one {'too' if is_met else _WITHIN}"
        return "met" if self._is_met(value, self.bound) else f"met {_WITHIN}"

    def _is_met(self, value: float, bound: float, within: float = 1.0) -> bool:
        if self.count:
            within = 1.0
        return value * within >= bound if self.at_least else value <= bound * within


def _ratio(says: str, of: str, part: str, bound: float, **more: Any) -> Aim:
    return Aim(says, "CPU, ratio", of, bound, part=part, **more)


def _all(says: str, what: str, of: str, bound: float) -> Aim:
    return Aim(says, what, of, bound, at_least=True, count=True)


_STORES: Final = ("memory", "SQLite", "Redis")
AIMS: Final = (
    _ratio(
        "CPU of an event at a model's pace, beside the pipe",
        "memory / passthrough",
        _PACED,
        3.5,
        further=2.5,
    ),
    _ratio("… of the naive service, beside ours", "naive / memory", _PACED, 2.8, at_least=True),
    _ratio("… of AgentOS, beside ours", "AgentOS / memory", _PACED, 3, at_least=True),
    _ratio("… on SQLite, beside memory", "SQLite / memory", _PACED, 1.6, further=1.3),
    _ratio("… on Redis, beside memory", "Redis / memory", _PACED, 1.8, further=1.3),
    _ratio(
        "CPU of an event flat out, beside the pipe", "memory / passthrough", _UNPACED, 8, further=5
    ),
    _ratio("… of the naive service, beside ours", "naive / memory", _UNPACED, 20, at_least=True),
    _ratio("… sixteen deltas a write, beside the pipe", _OVER_PIPE, _SIXTEEN, 8, further=5),
    _ratio("… of the naive service, beside ours", "naive / memory", _SIXTEEN, 20, at_least=True),
    *(
        Aim(f"{says}, beside neither", _WATCHED, "memory", 1.05, part=f"{_OBSERVED}{load}")
        for says, load in (
            ("… counting and logging, at a model's pace", "100 runs x 20 tokens a second"),
            ("… flat out", "10 runs flat out"),
        )
    ),
    Aim("added latency p50 on SQLite", "added latency p50", "SQLite", 5, part=_PACED),
    Aim("… p99", "added latency p99", "SQLite", 30, part=_PACED),
    Aim("added latency p50 on Redis", "added latency p50", "Redis", 5, part=_PACED),
    Aim("… p99", "added latency p99", "Redis", 30, part=_PACED),
    *(
        Aim(f"added latency p99, 350 streams, {each}", "added latency p99, 350 streams", each, 100)
        for each in _STORES
    ),
    *(
        Aim(
            f"added latency p99, 1,000 streams, {each} (a further aim)",
            "added latency p99, 1000 streams",
            each,
            100,
        )
        for each in _STORES
    ),
    Aim("… shared by two processes over Redis", "added p99, 1000 streams shared", "2 x Redis", 100),
    _all(
        "… of these came to their end", "streams of 1000 that came to their end", "2 x Redis", 1000
    ),
    _all("… of one process's", "streams of 1000 that came to their end", "1 x Redis", 1000),
    Aim("a run of 1,000, its reader included", "a run of 1000, with its reader", "memory", 100),
    Aim("… without a reader", "a run of 1000, without a reader", "memory", 100),
    Aim(
        "a long log in memory, beside its bytes", "memory of a long log / its bytes", "memory", 1.3
    ),
    Aim(
        "DELETE to upstream closed, 200 running, p99",
        "DELETE to upstream closed, 200 running, p99",
        "SQLite",
        50,
    ),
    Aim("… 350 running, p99", "DELETE to upstream closed, 350 running, p99", "SQLite", 150),
    *(
        Aim(
            f"… 500 at once, all of them, {each}",
            "500 DELETEs at once: all upstreams closed",
            each,
            1000,
            further=250,
        )
        for each in _STORES
    ),
    *(
        Aim(
            f"… 500 by one request, all of them, {each}",
            "one DELETE of all 500 runs: all upstreams closed",
            each,
            1000,
            further=250,
        )
        for each in _STORES
    ),
    Aim("an idle reader of 10,000", "an idle reader of 10000", "SQLite", 48, further=30),
    Aim("CPU of 10,000 idle readers", "CPU of 10000 idle readers", "SQLite", 5),
    _all("… of these got the end", "idle readers that got the end", "SQLite", 10_000),
    *(
        Aim(
            f"CPU at event 100,000, beside the first, {each}",
            "CPU at place 100000 / at the first",
            each,
            1.1,
        )
        for each in _STORES
    ),
    *(
        Aim(
            f"CPU beside 100,000 finished runs, beside none, {each}",
            "CPU beside 100000 finished runs / beside none",
            each,
            1.1,
        )
        for each in _STORES
    ),
    Aim("cold start to `readyz`", "cold start to readyz", "SQLite", 1.5, further=1.0),
    Aim("memory then", "memory at readyz", "SQLite", 110, further=90),
    Aim("a one-token event of the leader", "bytes of a one-token event, leader", "SQLite", 260),
    Aim("… of a member", "bytes of a one-token event, member", "SQLite", 320),
    _ratio("**with keys and limits on**, beside without", "memory, keys / memory", _KEYED, 1.05),
    _ratio("… beside the pipe", "memory, keys / passthrough", _KEYED, 3.5, further=2.5),
    _ratio("… of the naive service, beside it", "naive / memory, keys", _KEYED, 2.8, at_least=True),
    _ratio("… of AgentOS, beside it", "AgentOS / memory, keys", _KEYED, 3, at_least=True),
    _ratio("… on SQLite, beside memory", "SQLite, keys / memory, keys", _KEYED, 1.6, further=1.3),
    _ratio("… on Redis, beside memory", "Redis, keys / memory, keys", _KEYED, 1.8, further=1.3),
    _ratio("… flat out, beside the pipe", "memory, keys / passthrough", _FLAT_KEYED, 8, further=5),
    _ratio("… of the naive service", "naive / memory, keys", _FLAT_KEYED, 20, at_least=True),
    *(
        Aim(f"… added latency {what} on {each}", f"added latency {what}", f"{each}, keys", bound)
        for each in ("SQLite", "Redis")
        for what, bound in (("p50", 5), ("p99", 30))
    ),
    *(
        Aim(f"… p99, 350 streams, {each}", "added latency p99, 350 streams", f"{each}, keys", 100)
        for each in _STORES
    ),
    *(
        Aim(
            f"… DELETE to upstream closed, {runs} running, p99",
            f"DELETE to upstream closed, {runs} running, p99",
            "SQLite, keys",
            bound,
        )
        for runs, bound in ((200, 50), (350, 150))
    ),
    *(
        Aim(
            f"… 500 at once, all of them, {each}",
            "500 DELETEs at once: all upstreams closed",
            f"{each}, keys",
            1000,
            further=250,
        )
        for each in _STORES
    ),
)


def lines(rows: Rows) -> list[str]:
    """Return the table, line by line, in Markdown; what was not measured is left out.

    Below it stands of which commits the figures are, where they say so.
    """
    table = ["| | measured | middle half of the rounds | aim | |", "|---|---|---|---|---|"]
    told = [(aim, row) for aim in AIMS for row in rows if aim.is_of(row)]
    return [*table, *(_line(aim, row) for aim, row in told), *_origin([row for _, row in told])]


def _line(aim: Aim, row: Mapping[str, Any]) -> str:
    sign = "≥" if aim.at_least else "≤"
    further = "" if aim.further is None else f" ({aim.further:g})"
    figure = _figure(row["median"])
    verdict = "; ".join(filter(None, (aim.judge(row["median"]), limit(row.get("client")))))
    cells = (
        aim.says,
        figure if aim.count else f"{figure} {row['unit']}",
        _spread(row["values"]),
        f"{sign} {aim.bound:g}{further}",
        verdict,
    )
    return f"| {' | '.join(cells)} |"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _spread(values: Sequence[float]) -> str:
    half = middle_half(values)
    return f"{_figure(half[0])} to {_figure(half[1])} of {len(values)}" if half else "one round"


def _origin(rows: Rows) -> list[str]:
    """Return a line that tells commits and days; none of figures that do not say theirs."""
    by_day = sorted({(row["date"], row["commit"]) for row in rows if row.get("commit")})
    commits = ", ".join(dict.fromkeys(f"`{commit}`" for _, commit in by_day))
    days = " to ".join(dict.fromkeys((by_day[0][0], by_day[-1][0]))) if by_day else ""
    return ["", f"Measured at {commits}, {days}."] if by_day else []


def written_into(page: str, rows: Rows) -> str:
    """Return a page with the table below its `<!-- aims -->`. Raises `ValueError` without that."""
    table = "".join(f"{line}\n" for line in lines(rows))
    page, places = _TABLE.subn(lambda _: table, page)
    if places != 1:
        raise ValueError(f"{places} times <!-- aims --> in the page, not once")
    return page


def main() -> None:
    """Print the table, or write it into a page."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.table", description=__doc__)
    parser.add_argument("result", type=Path, help="what `python -m tests.benchmarks --json` wrote")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="below its `<!-- aims -->`")
    options = parser.parse_args()
    rows = json.loads(options.result.read_text("utf-8"))["rows"]
    if options.into is None:
        sys.stdout.write("\n".join(lines(rows)) + "\n")
    else:
        options.into.write_text(written_into(options.into.read_text("utf-8"), rows), "utf-8")


if __name__ == "__main__":
    main()
