"""The runs of this replica that have not ended: how many there may be, and when there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import anyio

from app.domain.errors import Overloaded, TooManyRuns


class Unfinished:
    """Ids of runs; up to `total`, and of one tenant up to `per_tenant` (`None`: all)."""

    def __init__(self, total: int, per_tenant: int | None = None) -> None:
        self._total = total
        self._per_tenant = total if per_tenant is None else per_tenant
        self._tenants: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._idle = anyio.Event()

    def __len__(self) -> int:
        return len(self._tenants)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tenants)

    def admit(self, run_id: str, tenant: str) -> None:
        """Take a run in. Raises `Overloaded`, and `TooManyRuns` where it is the tenant's doing."""
        if len(self._tenants) >= self._total:
            raise Overloaded("this replica has as many runs as it takes")
        if self._counts[tenant] >= self._per_tenant:
            raise TooManyRuns("as many runs as you may have at once have not ended yet")
        self._tenants[run_id] = tenant
        self._counts[tenant] += 1

    def discard(self, run_id: str) -> None:
        """Let a run go: it has ended."""
        tenant = self._tenants.pop(run_id)
        self._counts[tenant] -= 1
        if not self._counts[tenant]:
            del self._counts[tenant]
        if not self._tenants:
            self._idle.set()

    async def none_left(self) -> None:
        """Return when all have ended."""
        while self._tenants:
            self._idle = anyio.Event()
            await self._idle.wait()
