"""Draws latency against the number of streams, for the README, from a saved result.

Run as `build/agentos/bin/python -m tests.benchmarks.plot RESULT.json PICTURE.svg`: matplotlib is of
the extra `benchmarks`, and looked up by name because the tests' own environment does not have it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

_ROW = re.compile(r"added latency p99, (\d+) streams")
_BOUND_MS = 100

Curve = Sequence[tuple[int, float]]


def curves(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Curve]:
    """Return, by server, how many streams had which p99, in milliseconds."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        named = _ROW.fullmatch(row["what"])
        if named and row["part"] == f"{named[1]} runs x 20 tokens a second":
            found.setdefault(row["of"], []).append((int(named[1]), row["median"]))
    return found


def draw(path: Path, by_server: Mapping[str, Curve]) -> None:
    """Draw curves, both axes logarithmic, and the bound that the aims set."""
    import_module("matplotlib").use("svg")
    pyplot: Any = import_module("matplotlib.pyplot")
    pyplot.rcParams["svg.hashsalt"] = "team-runs"  # the same figures make the same file
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, points in by_server.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.axhline(_BOUND_MS, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xscale="log", yscale="log")
    axes.set(xlabel="streams at 20 tokens a second", ylabel="added latency, p99, ms")
    axes.legend(frameon=False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[2]), curves(json.loads(Path(sys.argv[1]).read_text("utf-8"))["rows"]))
