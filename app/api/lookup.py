"""Finding the run that a path names.

Ids that could be none of ours are not asked for: the store sees lower-case UUIDs only.
"""

from __future__ import annotations

import re
from typing import Final

from app.domain.errors import RunNotFound
from app.domain.run import MemberRun, Run
from app.ports import Store

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def checked_id(run_id: str) -> str:
    """Return the id, or raise `RunNotFound` when no run can have it."""
    if not _UUID.fullmatch(run_id):
        raise RunNotFound("there is no run with this id")
    return run_id


async def find_run(store: Store, run_id: str, tenant: str) -> Run:
    """Return a tenant's team run with this id, or the one with a member run with it.

    Raises `RunNotFound`; another tenant's run is like none at all.
    """
    run = await store.load(checked_id(run_id))
    if run is None or run.request.tenant != tenant:
        raise RunNotFound("there is no run with this id")
    return run


def part(run: Run, run_id: str) -> Run | MemberRun:
    """Return the run itself, or the member run of it that has this id."""
    return run.find(run_id) or run
