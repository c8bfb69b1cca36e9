"""Runs that nobody works on any more, and how another replica comes to own them.

They are the unfinished runs of replicas whose lease is missing, and this replica's own that it does
not know: a creation that was given up and then done all the same, a claim that was cut short.

A lease that is over must stay so for a moment. When Redis comes back after an outage, or its clock
is set, the leases of the living are over too, and each needs the time to come back itself.

Whoever comes to own a run renews its lease in the same breath, and a replica is struck off only
while its lease is over. So one that was frozen, wakes up, takes a run and dies is found dead again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from app.domain.run import Run
from app.stores import redis_keys as keys
from app.stores.redis_folds import Folds
from app.stores.redis_link import Link
from app.stores.redis_owner import Owner
from app.stores.redis_runs import Owned, claim
from app.stores.redis_scripts import BURY, LEASE, Command

logger = logging.getLogger(__name__)

_PATIENCE_S: Final = 1.5
"""How long a lease must be over, at most; the living renew theirs once a second."""


class Claims:
    """Takes runs over for an owner."""

    def __init__(self, owner: Owner, link: Link, folds: Folds, ttl_s: float) -> None:
        """A replica that has been silent for `ttl_s` seconds is dead."""
        self._patience_s = min(_PATIENCE_S, ttl_s / 2)
        self._lease_ms = round((ttl_s - self._patience_s) * 1000)
        self._owner = owner
        self._link = link
        self._folds = folds
        self._over_since: dict[str, float] = {}
        self._creating: set[str] = set()
        self._claimed: list[Run] = []

    @contextmanager
    def creating(self, run_id: str) -> Iterator[None]:
        """While the context is open, a run is not known yet, but somebody sees to it."""
        self._creating.add(run_id)
        try:
            yield
        finally:
            self._creating.discard(run_id)

    async def claim_abandoned(self) -> Sequence[Run]:
        """Own the unfinished runs whose owners are gone, and return them.

        What is owned when this is cut short is returned by the next call: nobody else ends it.
        """
        latest = asyncio.get_running_loop().time() - self._patience_s
        dead = [replica_id for replica_id, since in self._over_since.items() if since <= latest]
        for replica_id in (self._owner.replica_id, *dead):
            await self._take_over(replica_id)
        claimed, self._claimed = self._claimed, []
        return tuple(claimed)

    def renew(self) -> None:
        """Renew the lease, and see whose are over."""
        self._link.hand_over(self.lease(), self._renewed)

    def lease(self) -> Command:
        """Return the command that renews the lease."""
        return LEASE((keys.REPLICAS,), self._owner.replica_id, self._lease_ms)

    def give_up(self) -> None:
        """Let the lease be over."""
        self._link.hand_over(("ZADD", keys.REPLICAS, 0, self._owner.replica_id), _nothing)

    def _renewed(self, over: Any) -> None:
        """Note whose leases are over; after an outage everybody gets new patience."""
        before, now = self._over_since, asyncio.get_running_loop().time()
        if isinstance(over, Exception):
            over = []
        self._over_since = {each: before.get(each, now) for each in map(_text, over)}

    async def _take_over(self, replica_id: str) -> None:
        """Claim what a replica owns, itself included, and nobody here works on."""
        (numbered,) = await self._link.ask(("ZRANGE", keys.owned(replica_id), 0, -1, "WITHSCORES"))
        run_ids = map(_text, numbered[::2])
        for run_id, number in zip(run_ids, map(int, numbered[1::2]), strict=True):
            if run_id in self._creating or self._owner.get(run_id) is not None:
                continue
            if (run := await self._claim(run_id, number, replica_id)) is not None:
                self._claimed.append(run)
        if replica_id != self._owner.replica_id:
            await self._link.ask(BURY((keys.REPLICAS,), replica_id))

    async def _claim(self, run_id: str, number: int, old_owner: str) -> Run | None:
        """Own a run, if it still is the old owner's; return it if it has no end yet."""
        of, me = keys.RunKeys(run_id), self._owner.replica_id
        ((owner, fence),) = await self._link.ask(("HMGET", of.run, "owner", "fence"))
        if owner != old_owner.encode():
            await self._link.ask(("ZREM", keys.owned(old_owner), run_id))
            return None
        *_, taken = await self._link.ask(
            self.lease(),
            ("ZADD", keys.owned(me), number, run_id),
            claim(of, int(fence), old_owner, me),
        )
        if taken is None:
            return None
        run = await self._folds.fresh(run_id)
        if old_owner != me:
            await self._link.ask(("ZREM", keys.owned(old_owner), run_id))
        if run is None:
            return None
        logger.warning("run %s of replica %s is taken over", run_id, old_owner)
        self._owner.adopt(Owned(run, number, int(fence) + 1))
        return None if run.status.is_final else run


def _text(name: bytes) -> str:
    return str(name, "ascii")


def _nothing(_: Any) -> None:
    """Go on: a lease that is not given up ends by itself."""
