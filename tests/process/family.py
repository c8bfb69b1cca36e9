"""Who is whose child, and who listens where, as Linux tells it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
_LISTENS = "0A"


def descendants(pid: int) -> Iterator[int]:
    """Yield the ids of a process's children, and of theirs."""
    for thread in (PROC / str(pid) / "task").iterdir():
        for child in map(int, (thread / "children").read_text().split()):
            yield child
            yield from descendants(child)


def listening_ports(pid: int) -> list[int]:
    """Return the TCP ports, of IPv4, on which a process listens."""
    links = set()
    for fd in (PROC / str(pid) / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed in the meantime
            links.add(str(fd.readlink()))
    rows = (line.split() for line in (PROC / "net" / "tcp").read_text().splitlines()[1:])
    return [
        int(row[1].rpartition(":")[2], 16)
        for row in rows
        if row[3] == _LISTENS and f"socket:[{row[9]}]" in links
    ]


def command_of(pid: int) -> str:
    """Return a process's command line."""
    return (PROC / str(pid) / "cmdline").read_text().replace("\0", " ")
