"""Keeps this replica's runs claimed, ends the runs of dead ones, and removes what is old.

A replica that lives says so several times within the life of a lease. One that is silent for
longer has lost its runs: whoever claims them first writes their final events, so that no reader
waits for ever; should it wake up after all, its appends are refused.
"""

from __future__ import annotations

import logging
import time
from typing import Final

import anyio
import anyio.lowlevel

from app.domain.errors import StoreUnavailable
from app.observer.facts import StoreBack, StoreLost
from app.observer.telling import Observers
from app.ports import Clock, Store
from app.runtime.runner import Runner

logger = logging.getLogger(__name__)

_RENEWALS: Final = 3
"""How often a lease is renewed within its life: two may get lost."""

_SWEEP_EVERY_S: Final = 60.0
_SWEEP_STEP: Final = 100
"""Runs that are removed at once; between steps others have their turn."""


async def keep_leases(
    store: Store, runner: Runner, lease_ttl_s: float, observers: Observers
) -> None:
    """Renew and claim until cancelled; the first time at once."""
    lost_at: float | None = None
    while True:
        try:
            await store.renew()
            for run in await store.claim_abandoned():
                runner.end_abandoned(run)
        except StoreUnavailable:
            if lost_at is None:
                lost_at = time.monotonic()
                observers.note(StoreLost())
        else:
            if lost_at is not None:
                observers.note(StoreBack(time.monotonic() - lost_at))
                lost_at = None
        await anyio.sleep(lease_ttl_s / _RENEWALS)


async def keep_sweeping(store: Store, clock: Clock, retention_s: float) -> None:
    """Remove finished runs whose time is over, until cancelled."""
    while True:
        try:
            while await store.sweep(clock.now(-retention_s), _SWEEP_STEP) == _SWEEP_STEP:
                await anyio.lowlevel.checkpoint()
        except StoreUnavailable:
            logger.warning("old runs could not be removed: the store does not answer")
        await anyio.sleep(min(_SWEEP_EVERY_S, retention_s))
