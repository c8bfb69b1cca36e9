"""What appends cost at the pace of talking models: `python -m tests.stores.pace [SECONDS]`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import anyio

from app.domain.events import RunContent, RunStarted, encode
from app.domain.run import RunRequest
from app.ports import Store
from app.stores.memory import MemoryStore
from app.stores.sqlite import SqliteStore

NOW = "2026-11-22T09:57:12.123Z"
RUNS, EVENTS_A_SECOND = 100, 20


@dataclass(frozen=True)
class Pace:
    """Of appends of one event each: milliseconds until stored, CPU microseconds of the process."""

    p50_ms: float
    p99_ms: float
    cpu_us: float


async def pace_of(store: Store, seconds: float) -> Pace:
    """Let 100 runs write 20 events a second each."""
    waits: list[float] = []
    async with store:
        busy = time.process_time()
        async with anyio.create_task_group() as group:
            for nth in range(RUNS):
                group.start_soon(_write, store, nth, int(seconds * EVENTS_A_SECOND), waits)
        busy = time.process_time() - busy
    waits.sort()
    return Pace(
        p50_ms=waits[len(waits) // 2] * 1e3,
        p99_ms=waits[len(waits) * 99 // 100] * 1e3,
        cpu_us=busy / len(waits) * 1e6,
    )


async def _write(store: Store, nth: int, count: int, waits: list[float]) -> None:
    run = await store.create(RunRequest(str(uuid4()), "team", "Team", "input", NOW, 900))
    loop = asyncio.get_running_loop()
    begun = loop.time() + nth / RUNS / EVENTS_A_SECOND
    for seq in range(1, count + 1):
        await anyio.sleep_until(begun + seq / EVENTS_A_SECOND)
        event = RunContent(" token", 1) if seq > 1 else RunStarted("m")
        entries = [encode(seq, NOW, run.origin, event)]
        handed_over = time.perf_counter()
        stored = store.append(run.run_id, entries)
        if stored is not None:
            await stored
        waits.append(time.perf_counter() - handed_over)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    with tempfile.TemporaryDirectory() as folder:
        for store in (MemoryStore(), SqliteStore(Path(folder) / "runs.db")):
            print(type(store).__name__, anyio.run(pace_of, store, seconds))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
