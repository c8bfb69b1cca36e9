"""How a run comes into Redis: stored, named by its idempotency key, listed, and then owned.

A run is there before its key leads to it, and in the lists when both are settled. A creation that
Redis does not answer is given up, and whoever asked may ask again with the same key: so the key is
freed, once Redis is back. The run, if it is there all the same, is found by `claim_abandoned`, and
ended, not removed: somebody else may have been told of it by its key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from app.domain.errors import StoreUnavailable
from app.domain.run import Run, RunRequest
from app.stores import redis_keys as keys
from app.stores.redis_claims import Claims
from app.stores.redis_index import free_command, listed_commands
from app.stores.redis_link import Link
from app.stores.redis_owner import Owner
from app.stores.redis_runs import Owned, request_text
from app.stores.redis_scripts import CREATE, NAME, Command


class Creations:
    """Creates runs for an owner; `load` returns a run that is there already."""

    def __init__(
        self, owner: Owner, link: Link, claims: Claims, load: Callable[[str], Awaitable[Run | None]]
    ) -> None:
        self._owner = owner
        self._link = link
        self._claims = claims
        self._load = load
        self._given_up: dict[str, RunRequest] = {}

    async def create(self, request: RunRequest) -> Run:
        """Store a new, pending run, or return the one with its idempotency key."""
        while True:
            with self._claims.creating(request.run_id):
                created = await self._created_or_named(request)
            if isinstance(created, Run):
                return created
            if (run := await self._load(created)) is not None:
                return run
            await self._link.ask(_freed(request, created))

    def free_keys(self) -> None:
        """Have the keys of creations that were given up lead nowhere."""
        for request in self._given_up.values():
            self._link.hand_over(
                _freed(request, request.run_id), partial(self._is_free, request.run_id)
            )

    async def _created_or_named(self, request: RunRequest) -> Run | str:
        """Return a new run of this replica, or the id of the run that has its key already."""
        run_id = request.run_id
        named = await self._named(request)
        if named is not None:
            return named
        (number,) = await self._link.ask(("INCR", keys.NUMBER))
        create = CREATE((keys.RunKeys(run_id).run,), request_text(request), self._owner.replica_id)
        mine = keys.owned(self._owner.replica_id)
        try:
            await self._link.ask(self._claims.lease(), ("ZADD", mine, number, run_id), create)
            if (winner := await self._name(request)) != run_id:
                gone = ("DEL", keys.RunKeys(run_id).run), ("ZREM", mine, run_id)
                await self._link.ask(*gone)
                return winner
            await self._link.ask(*listed_commands(request, number))
        except StoreUnavailable:
            if request.idempotency_key is not None:
                self._given_up[run_id] = request
                self.free_keys()
            raise
        return self._owner.adopt(Owned(Run(request), number, fence=1))

    async def _named(self, request: RunRequest) -> str | None:
        if request.idempotency_key is None:
            return None
        key = keys.idempotency(request.tenant, request.idempotency_key)
        (named,) = await self._link.ask(("GET", key))
        return None if named is None else str(named, "ascii")

    async def _name(self, request: RunRequest) -> str:
        """Have a run's key lead to it, unless it leads to another one; return where it leads."""
        if request.idempotency_key is None:
            return request.run_id
        key = keys.idempotency(request.tenant, request.idempotency_key)
        (winner,) = await self._link.ask(NAME((key,), request.run_id))
        return str(winner, "ascii")

    def _is_free(self, run_id: str, reply: Any) -> None:
        if not isinstance(reply, Exception):
            self._given_up.pop(run_id, None)


def _freed(request: RunRequest, run_id: str) -> Command:
    return free_command(request.tenant, request.idempotency_key or "", run_id)
