"""One process at a time owns a store's file.

The lock is on a file beside it: SQLite's own locks on the database would be lost as soon as
anybody in this process closed it. The kernel lets go of it when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import anyio

from app.domain.errors import ConfigurationError

_LOOK_AGAIN_S = 0.05


@asynccontextmanager
async def owning(path: Path, wait_s: float) -> AsyncIterator[None]:
    """Own a file while the context is open, waiting some seconds for its owner to go.

    Raises `ConfigurationError` when it stays, or where no file can be written.
    """
    with _open(path) as lock:
        with anyio.move_on_after(wait_s) as waiting:
            while not _take(lock):  # noqa: ASYNC110 - the kernel has no event for it
                await anyio.sleep(_LOOK_AGAIN_S)
        if waiting.cancelled_caught:
            raise ConfigurationError(f"the store's file {path} is in use by another process")
        yield


def _open(path: Path) -> IO[bytes]:
    try:
        return path.with_name(path.name + "-lock").open("ab")
    except OSError as error:
        reason = (error.strerror or "it failed").lower()
        raise ConfigurationError(f"the store's file {path} cannot be written: {reason}") from error


def _take(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
