"""What every measurement needs: the upstream, where figures go, and how often to look."""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks.report import Report
from tests.benchmarks.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Bench:
    """Figures are the medians of so many `rounds`."""

    report: Report
    upstream: Upstream
    rounds: int = 5
