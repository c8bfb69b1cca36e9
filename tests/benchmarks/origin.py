"""Which code was measured, and when: a figure that does not say so cannot be compared with."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_MEASURED: Final = ("app", "tests/benchmarks/*.py")
"""Not the results beside them: saving these does not make another code of it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The commit's short hash, with a `+` where the tree had more than that, and the day in UTC."""

    commit: str = ""
    date: str = ""


UNKNOWN: Final = Origin()


def origin(root: Path = ROOT) -> Origin:
    """Return what is measured from now on; without a commit where there is no checkout."""
    return Origin(_commit(root), datetime.now(UTC).date().isoformat())


def _commit(root: Path) -> str:
    if not (root / ".git").exists():  # an archive, maybe in somebody else's checkout
        return ""
    try:
        commit = _git(root, "rev-parse", "--short", "HEAD")
        return f"{commit}+" if _git(root, "status", "--porcelain", "--", *_MEASURED) else commit
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(root: Path, *asked: str) -> str:
    command = ("git", "-C", str(root), "--no-optional-locks", *asked)
    done = subprocess.run(  # noqa: S603 - our own words
        command, capture_output=True, check=True, text=True
    )
    return done.stdout.strip()
