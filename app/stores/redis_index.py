"""What spans runs: in which order they came, which have ended, what a list goes through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from app.domain.errors import BadCursor
from app.domain.run import Run, RunRequest
from app.ports import Filter
from app.stores import redis_keys as keys
from app.stores.redis_link import Link
from app.stores.redis_runs import milliseconds
from app.stores.redis_scripts import UNNAME, Command

_OPEN = "open"
"""The status by which unfinished runs are found."""
_CHUNK = 100
"""How many runs are looked at together, at most."""


def listed_commands(request: RunRequest, number: int) -> list[Command]:
    """Return what puts a new run into its lists."""
    indexes = [*_lasting(request), keys.index(request.tenant, "status", _OPEN)]
    return [("ZADD", index, number, request.run_id) for index in indexes]


def finished_commands(run: Run, number: int) -> list[Command]:
    """Return what says of a run that it has ended."""
    tenant, run_id = run.request.tenant, run.run_id
    ended_at = milliseconds(run.finished_at or run.request.created_at)
    return [
        ("ZADD", keys.index(tenant, "status", run.status), number, run_id),
        ("ZADD", keys.FINISHED, ended_at, run_id),
        ("ZREM", keys.index(tenant, "status", _OPEN), run_id),
    ]


def removed_commands(run: Run) -> list[Command]:
    """Return what removes a finished run whole; the last reply tells whether it was there.

    The index of finished runs is left for the end: what stops in between is done again. A long log
    is given back to the system beside what Redis has to answer.
    """
    request, of = run.request, keys.RunKeys(run.run_id)
    by_status = (keys.index(request.tenant, "status", name) for name in (run.status, _OPEN))
    indexes = [*_lasting(request), *by_status]
    commands: list[Command] = [("ZREM", index, run.run_id) for index in indexes]
    commands += [("DEL", keys.member(run_id)) for run_id in run.members]
    if request.idempotency_key is not None:
        commands.append(free_command(request.tenant, request.idempotency_key, run.run_id))
    return [
        *commands,
        ("UNLINK", of.run, of.log, of.flags, of.members),
        ("ZREM", keys.FINISHED, run.run_id),
    ]


def free_command(tenant: str, key: str, run_id: str) -> Command:
    """Return what frees an idempotency key, if it is this run's."""
    return UNNAME((keys.idempotency(tenant, key),), run_id)


@dataclass(frozen=True, slots=True)
class Lists:
    """Goes through the indexes."""

    link: Link
    load: Callable[[str], Awaitable[Run | None]]

    async def list(self, which: Filter) -> Sequence[Run]:
        """Return team runs, newest first. Raises `BadCursor`."""
        index, before = _index_for(which), "+inf"
        if which.after is not None:
            before = f"({await self._number(which.tenant, which.after)}"
        found: list[Run] = []
        while True:
            chunk = ("LIMIT", 0, min(_CHUNK, 2 * which.limit))
            (numbered,) = await self.link.ask(
                ("ZREVRANGEBYSCORE", index, before, "-inf", "WITHSCORES", *chunk)
            )
            runs = await self._load([str(each, "ascii") for each in numbered[::2]])
            found += [run for run in runs if run is not None and which.shows(run)]
            if not numbered or len(found) >= which.limit:
                return found[: which.limit]
            before = f"({int(numbered[-1])}"

    async def sweep(self, finished_before: str, limit: int) -> int:
        """Remove up to `limit` runs that ended before a time; return how many it were."""
        before = f"({milliseconds(finished_before)}"
        (old,) = await self.link.ask(
            ("ZRANGEBYSCORE", keys.FINISHED, "-inf", before, "LIMIT", 0, limit)
        )
        run_ids = [str(run_id, "ascii") for run_id in old]
        runs = await self._load(run_ids)
        removed = 0
        for run_id, run in zip(run_ids, runs, strict=True):
            if run is None:
                await self.link.ask(("ZREM", keys.FINISHED, run_id))
                continue
            *_, gone = await self.link.ask(*removed_commands(run))
            removed += gone
        return removed

    async def _load(self, run_ids: Sequence[str]) -> Sequence[Run | None]:
        return await asyncio.gather(*map(self.load, run_ids))

    async def _number(self, tenant: str, run_id: str) -> int:
        (number,) = await self.link.ask(("ZSCORE", keys.index(tenant, "all"), run_id))
        if number is None:
            raise BadCursor("there is no run where the list should go on")
        return int(float(number))


def _lasting(request: RunRequest) -> Iterator[str]:
    """Yield the indexes in which a run stays for as long as it is kept."""
    yield keys.index(request.tenant, "all")
    yield keys.index(request.tenant, "team", request.team_id)
    if request.session_id is not None:
        yield keys.index(request.tenant, "session", request.session_id)


def _index_for(which: Filter) -> str:
    """Return the index that holds least of what is not asked for."""
    if which.session_id is not None:
        return keys.index(which.tenant, "session", which.session_id)
    classes = {status if status.is_final else _OPEN for status in which.statuses}
    if len(classes) == 1:
        return keys.index(which.tenant, "status", *classes)
    if which.team_id is not None:
        return keys.index(which.tenant, "team", which.team_id)
    return keys.index(which.tenant, "all")
