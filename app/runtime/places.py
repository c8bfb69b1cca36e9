"""Room for so many runs at once; those that wait are let in in turn, tenant by tenant.

A tenant that comes with a thousand runs waits for them by itself: between two of its runs every
other tenant that waits gets one in. Within a tenant it is first come, first served.

A place that is given up goes straight to whoever is next, in the same step, so nobody who comes at
that moment can take it, and it is never counted as free in between. Whoever is cancelled in the
moment in which it was given a place passes it on.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from anyio.lowlevel import checkpoint


class Places:
    """So many places; `taken` of them are."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def taken(self) -> int:
        """How many are inside."""
        return self._taken

    @asynccontextmanager
    async def one(self, tenant: str) -> AsyncIterator[None]:
        """Be inside while the context is open; waits for a place."""
        await checkpoint()  # who was cancelled already does not come in
        await self._enter(tenant)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, tenant: str) -> None:
        if self._taken < self._total:
            self._taken += 1
            return
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(given)
        try:
            await given
        except asyncio.CancelledError:
            if given.cancelled():
                self._forget(tenant, given)
            else:
                self._leave()
            raise

    def _leave(self) -> None:
        """Give the place to whoever is next."""
        given = self._next()
        if given is None:
            self._taken -= 1
        else:
            given.set_result(None)

    def _next(self) -> asyncio.Future[None] | None:
        """Take the next tenant's next run off the queue; the tenant goes behind the others."""
        while self._waiting:
            tenant, queue = self._waiting.popitem(last=False)
            while queue:
                given = queue.popleft()
                if given.done():  # cancelled, and about to hear of it
                    continue
                if queue:
                    self._waiting[tenant] = queue
                return given
        return None

    def _forget(self, tenant: str, given: asyncio.Future[None]) -> None:
        queue = self._waiting.get(tenant, deque())
        with suppress(ValueError):  # skipped by `_next`
            queue.remove(given)
        if not queue:
            self._waiting.pop(tenant, None)
