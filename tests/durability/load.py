"""Twenty runs a second, started, stopped and read at any replica that is up.

It sees what a client sees. What was not answered in time, or by a connection that broke, is unknown
and promises nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import anyio
import httpx
from anyio.abc import TaskGroup

from tests.durability.returning import Returning
from tests.durability.stand import Stand

RUNS_A_SECOND: Final = 20
_STOPPED, _READ = 0.3, 0.25
"""What part of the runs is stopped, and what part is read."""
_LATEST_S: Final = 0.6
"""How long after its start a run is stopped at the latest."""


@dataclass
class Load:
    """What was asked for and promised so far.

    `acknowledged` says by run id at which address a run was started, `asked_at` when it was asked
    for, on the event loop's clock; `promised` names those whose cancel was taken; `seen` counts
    answers by what was asked. `earlier` are the runs that were there before.
    """

    stand: Stand
    earlier: set[str]
    acknowledged: dict[str, str] = field(default_factory=dict)
    asked_at: dict[str, float] = field(default_factory=dict)
    promised: set[str] = field(default_factory=set)
    seen_to_end: set[str] = field(default_factory=set)
    readers: list[Returning] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    _busy: int = 0
    _pacing: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    async def drive(self, group: TaskGroup) -> None:
        """Start runs on a schedule that does not drift, until stopped."""
        with self._pacing:
            begin = anyio.current_time()
            for number in count():
                await anyio.sleep_until(begin + number / RUNS_A_SECOND)
                self._busy += 1
                group.start_soon(self._one_run)

    def stop(self) -> None:
        """Start no more runs."""
        self._pacing.cancel()

    async def idle(self) -> None:
        """Return when nobody of the load waits for anything any more."""
        while self._busy:  # noqa: ASYNC110 - it is many tasks' doing
            await anyio.sleep(0.01)

    def unfinished_at(self, url: str) -> list[str]:
        """The runs that were acknowledged there and that nobody has seen end."""
        return [
            run_id
            for run_id, at in self.acknowledged.items()
            if at == url and run_id not in self.seen_to_end
        ]

    def forget(self, before: float) -> None:
        """Hold nothing for promised that was asked for before a moment."""
        gone = {run_id for run_id, asked_at in self.asked_at.items() if asked_at < before}
        self.acknowledged = {
            run_id: url for run_id, url in self.acknowledged.items() if run_id not in gone
        }
        self.readers = [reader for reader in self.readers if reader.run_id not in gone]

    async def started(self, runs: int) -> None:
        """Return when so many more runs were acknowledged."""
        wanted = len(self.acknowledged) + runs
        while len(self.acknowledged) < wanted:  # noqa: ASYNC110 - it is many tasks' doing
            await anyio.sleep(0.01)

    async def _one_run(self) -> None:
        try:
            run_id = await self._start()
            if run_id is not None:
                await self._stop_or_read(run_id)
        finally:
            self._busy -= 1

    async def _stop_or_read(self, run_id: str) -> None:
        chance = self.stand.chance.random()
        if chance < _STOPPED:
            await anyio.sleep(self.stand.chance.uniform(0, _LATEST_S))
            await self._stop(run_id)
        elif chance < _STOPPED + _READ:
            reader = Returning(self.stand, run_id)
            self.readers.append(reader)
            await reader.read()
            self.seen_to_end.add(run_id)

    async def _start(self) -> str | None:
        """Start a run; return its id, `None` where it was refused, or nobody knows."""
        url, now = self.stand.url, anyio.current_time()
        with self._unknown("start"):
            response = await self.stand.client.post(f"{url}/runs", json={"input": "Go."})
            self.seen[f"start {response.status_code}"] += 1
            if response.status_code == 202:
                run_id = str(response.json()["run_id"])
                self.acknowledged[run_id], self.asked_at[run_id] = url, now
                return run_id
            assert response.status_code == 503, response.text
            assert "Retry-After" in response.headers
        return None

    async def _stop(self, run_id: str) -> None:
        with self._unknown("stop"):
            response = await self.stand.client.delete(f"{self.stand.url}/runs/{run_id}")
            self.seen[f"stop {response.status_code}"] += 1
            assert response.status_code in (200, 202, 404, 409, 503), response.text
            if response.status_code == 202:
                self.promised.add(run_id)

    @contextmanager
    def _unknown(self, what: str) -> Iterator[None]:
        """Count an exchange that was not answered."""
        try:
            yield
        except httpx.TransportError:
            self.seen[f"{what} unknown"] += 1


@asynccontextmanager
async def driving(stand: Stand) -> AsyncIterator[Load]:
    """Put load on a stand while the context is open."""
    load = Load(stand, set(await stand.run_ids()))
    async with anyio.create_task_group() as group:
        group.start_soon(load.drive, group)
        yield load
        group.cancel_scope.cancel()
