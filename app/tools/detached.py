"""Work that a cancel can leave behind: threads and tasks that never hold a run's end.

A run that is stopped must reach its final event within a second, whatever a tool does. Python can
end neither a thread nor a task that swallows its cancel, so both are run where they can be
abandoned:

- Threads are our own and daemons; those of asyncio and anyio are not, and one that never returns
  would hold the process's exit. An abandoned thread keeps its place in the limiter until it really
  ends: the places bound the threads there are, not those that somebody waits for.
- Tasks stand outside of the run's task group, which would wait for them. A cancelled one has
  `GRACE_S` to clean up, then it goes on alone.

What blocks the event loop itself is beyond this: such a function must not be `async`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import Thread
from typing import Any, Final, TypeVar

from anyio import CancelScope, CapacityLimiter

T = TypeVar("T")

logger = logging.getLogger(__name__)

GRACE_S: Final = 0.1
"""How long a cancelled task may take to clean up before it is left behind; seconds."""


async def in_thread(work: Callable[[], T], places: CapacityLimiter, name: str) -> T:
    """Do blocking work in a daemon thread; when cancelled, leave it there at once.

    Waits for a place first; `work` sees the caller's context variables.
    """
    borrower = object()  # the place is the thread's: the task that waits may be gone before it
    await places.acquire_on_behalf_of(borrower)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(tell: Callable[[], None]) -> None:
        places.release_on_behalf_of(borrower)
        if not answer.done():  # it is when the waiting was cancelled
            tell()

    def carry() -> None:
        try:
            tell = partial(answer.set_result, work())
        except BaseException as error:  # it belongs to whoever waits
            tell = partial(answer.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed: the process is about to go
            loop.call_soon_threadsafe(settle, tell)

    try:
        Thread(target=copy_context().run, args=(carry,), name=name, daemon=True).start()
    except RuntimeError:  # the system gives no more threads
        places.release_on_behalf_of(borrower)
        raise
    return await answer


class Tasks:
    """Tasks that are cancelled with whoever waits for them, and left behind if that is in vain."""

    def __init__(self) -> None:
        self.left_behind: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, T], name: str) -> T | None:
        """Do work in a task of its own; `None` when the work cancelled itself."""
        task = asyncio.create_task(work, name=name)
        try:
            await asyncio.wait((task,))
        finally:
            if not task.done():
                await self._stop(task)
        return None if task.cancelled() else task.result()

    async def _stop(self, task: asyncio.Task[Any]) -> None:
        task.cancel()
        with CancelScope(shield=True):
            await asyncio.wait((task,), timeout=GRACE_S)
        if not task.done():
            self._leave(task)

    def _leave(self, task: asyncio.Task[Any]) -> None:
        """Keep a reference, and take the task off the list that the loop's end waits for."""
        logger.warning("%s goes on although it was cancelled", task.get_name())
        self.left_behind.add(task)
        task.add_done_callback(self._ended)
        asyncio.tasks._unregister_task(task)  # noqa: SLF001 - public: "Extending asyncio"

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.left_behind.discard(task)
        error = None if task.cancelled() else task.exception()
        logger.info("%s, which had been left behind, ended", task.get_name(), exc_info=error)
