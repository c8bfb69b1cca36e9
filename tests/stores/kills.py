"""Kills writers at any moment, and looks at what they left.

`python -m tests.stores.kills [ROUNDS]` does it a hundred times.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import anyio

from app.domain.closing import Failed, close_run
from app.domain.events import Failure, RunContent, RunStarted, encode
from app.domain.run import Cancel, RunRequest
from app.stores.sqlite import SqliteStore
from tests import laws

NOW = "2026-11-22T09:57:12.123Z"
WRITERS = 5
INTERRUPTED = Failed(Failure("interrupted", "The replica that worked on the run stopped."))


@dataclass
class Promised:
    """What writers were told to be stored: the last place by run id, and which flags."""

    last: dict[str, int] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)


async def kill_writers(path: Path, rounds: int) -> Promised:
    """Kill `rounds` processes while they write, each time checking everything promised so far."""
    promised = Promised()
    for _ in range(rounds):
        await anyio.to_thread.run_sync(_one_round, path, promised)
        await _check(path, promised)
    return promised


def _one_round(path: Path, promised: Promised) -> None:
    command = [sys.executable, "-m", "tests.stores.kills", "--write", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:  # noqa: S603 - our own
        assert writer.stdout is not None
        for _ in range(random.randint(1, 500)):  # noqa: S311 - any moment will do
            _note(writer.stdout.readline(), promised)
        os.kill(writer.pid, signal.SIGKILL)
        for line in writer.stdout:
            _note(line, promised)


def _note(line: bytes, promised: Promised) -> None:
    run_id, what = line.decode().split()
    if what == "flag":
        promised.flags.add(run_id)
    else:
        promised.last[run_id] = int(what)


async def _check(path: Path, promised: Promised) -> None:
    async with SqliteStore(path) as store:
        for run_id, last in promised.last.items():
            run = await store.load(run_id)
            assert run is not None
            assert run.last_event_id >= last
            events = laws.parse((await store.read(run_id, 0, 1 << 30)).frames)
            assert [event["seq"] for event in events] == [*range(1, run.last_event_id + 1)]
            assert run.cancel is not None or run_id not in promised.flags
        for run in await store.claim_abandoned():
            said = close_run(run, INTERRUPTED, {})
            entries = [encode(run.last_event_id + n, NOW, *s) for n, s in enumerate(said, 1)]
            await store.append(run.run_id, entries)
            laws.check(laws.parse((await store.read(run.run_id, 0, 1 << 30)).frames))


async def _write_until_killed(path: Path) -> None:
    async with SqliteStore(path) as store, anyio.create_task_group() as group:
        for nth in range(WRITERS):
            group.start_soon(_write_runs, store, nth)


async def _write_runs(store: SqliteStore, nth: int) -> None:
    while True:
        run = await store.create(RunRequest(str(uuid4()), "team", "Team", "in", NOW, 9))
        for seq in range(1, 40):
            event = RunStarted("m") if seq == 1 else RunContent("token ", 1)
            await store.append(run.run_id, [encode(seq, NOW, run.origin, event)])
            _tell(f"{run.run_id} {seq}\n")
            if seq == 30 and nth % 2:
                await store.request_cancel(run.run_id, Cancel(NOW, "why"))
                _tell(f"{run.run_id} flag\n")


def _tell(promise: str) -> None:
    os.write(sys.stdout.fileno(), promise.encode())  # whole, or not at all: it fits a pipe


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["--write"]:
        anyio.run(_write_until_killed, Path(arguments[1]))
    with tempfile.TemporaryDirectory() as folder:
        rounds = int(arguments[0]) if arguments else 100
        promised = anyio.run(kill_writers, Path(folder) / "runs.db", rounds)
        print(f"{sum(promised.last.values())} events, {len(promised.flags)} flags, none lost")  # noqa: T201 - its output


if __name__ == "__main__":
    main(sys.argv[1:])
