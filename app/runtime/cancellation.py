"""The shared cancellation flag, and the scope it wakes.

A flag is a plain object that the run loop looks at between chunks, before each model call and
before each tool. That alone would leave a run deaf while the model is silent, so raising the flag
also cancels its scope: whatever the run awaits (a connection, the next token, a retry's pause, a
tool) is interrupted at once, and leaving the model's context closes its connection.

The scope is made before the run's task and entered inside it, so a cancel that comes before the
task's first step is neither lost nor in the way of the final event, which is written outside.
A member's flag stands below its team's: raised by either.
"""

from __future__ import annotations

import asyncio
import math
import time
from types import TracebackType

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from app.domain.closing import Ending, Failed, Stopped
from app.domain.errors import ModelFailed
from app.domain.events import Failure
from app.domain.run import Cancel
from app.observer.work import Stop
from app.runtime.clock import seconds_between


class CancellationFlag:
    """Raised once, by whoever wants a run to end early; `cause` says how it is to end.

    `deadline`, on the event loop's clock, cancels the scope without anybody's raising the flag.
    """

    __slots__ = ("_above", "_asked", "_stop", "cause", "scope")

    def __init__(
        self, above: CancellationFlag | None = None, *, deadline: float = math.inf
    ) -> None:
        self.cause: Stopped | Failed | None = None
        self.scope = anyio.CancelScope(deadline=deadline)
        self._above = above
        self._asked: tuple[Cancel, float] | None = None
        self._stop: Stop | None = None

    def is_raised(self) -> bool:
        """Whether this run, or the run above it, is to end.

        No property: it is asked at every delta, and Python 3.11 calls methods at half the price.
        """
        return self.cause is not None or (self._above is not None and self._above.is_raised())

    def raise_for(self, cause: Stopped | Failed) -> None:
        """End the run early. Only the first cause counts, but a cancel overrules a failure."""
        if self.cause is None or isinstance(cause, Stopped):
            self.cause = cause
        self.scope.cancel()

    @property
    def stop(self) -> Stop | None:
        """The request to stop that has reached this run, or the run above it."""
        return self._stop or (self._above.stop if self._above else None)

    def note_request(self, cancel: Cancel) -> None:
        """Take note of when somebody asked this replica to stop the run; the flag is not up yet."""
        self._asked = self._asked or (cancel, time.monotonic())

    def stop_for(self, cancel: Cancel, now: str) -> Stop:
        """Raise the flag for a request, which another replica may have got some time before now."""
        self.raise_for(Stopped(cancel))
        if self._asked is not None and self._asked[0] == cancel:
            asked_at = self._asked[1]
        else:
            asked_at = time.monotonic() - seconds_between(cancel.requested_at, now)
        self._stop = Stop("team" if self._above is None else "member", asked_at)
        return self._stop

    async def check(self) -> None:
        """Do nothing, or be cancelled here and now if the flag is raised; inside the scope only."""
        if self.is_raised():
            await checkpoint_if_cancelled()

    async def check_above(self) -> None:
        """Do nothing, or be cancelled here and now if the run above is to end."""
        if self._above is not None:
            await self._above.check()

    def ending(self, reached: Ending | None) -> Ending:
        """Name the outcome, outside the scope: the cause, else what the work reached by itself.

        Neither there means the deadline, for nothing else cancels the scope.
        """
        if self.cause is not None:
            return self.cause
        if reached is not None:
            return reached
        return Failed(Failure("deadline_exceeded", "The run's time was over."))


class IdleTimer:
    """Ends the block in it with `model_timeout` when nothing was heard for some seconds.

    A timer per chunk would cost more than the chunk; this one looks at the clock when it fires, and
    goes on for the rest of the time if something was heard meanwhile.
    """

    __slots__ = ("_handle", "_last", "_loop", "_scope", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._scope = anyio.CancelScope()
        self._last = self._loop.time()

    def heard(self, pause_s: float = 0.0) -> None:
        """Start counting anew, after a pause that is not the model's silence."""
        self._last = self._loop.time() + pause_s

    def __enter__(self) -> IdleTimer:
        self._scope.__enter__()
        self._handle = self._loop.call_later(self._seconds, self._look)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._handle.cancel()
        swallowed = bool(self._scope.__exit__(kind, error, traceback))
        if self._scope.cancelled_caught:
            raise ModelFailed("model_timeout", f"The model was silent for {self._seconds:g} s.")
        return swallowed

    def _look(self) -> None:
        rest = self._last + self._seconds - self._loop.time()
        if rest <= 0:
            self._scope.cancel()
        else:
            self._handle = self._loop.call_later(rest, self._look)
