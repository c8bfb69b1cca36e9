"""What a process holds, as Linux tells it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Footprint:
    """How much of the machine a process has; `resident_kib` is its RSS."""

    descriptors: int
    threads: int
    resident_kib: int


def footprint(pid: int) -> Footprint:
    folder = Path("/proc") / str(pid)
    status = (folder / "status").read_text()
    return Footprint(
        descriptors=len(list((folder / "fd").iterdir())),
        threads=_number(status, "Threads"),
        resident_kib=_number(status, "VmRSS"),
    )


def _number(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    assert found, f"{name} is not told"
    return int(found[1])
