"""A model that is called again when a call failed before its first token.

Decisions:

- Once anything was said, reasoning included, nothing is tried again: it would be said twice. An
  empty batch says nothing; a model that has begun unheard, with a call's arguments, gives its
  failures no `retry_code`.
- Silence is not tried again: whoever waits has waited long enough, and the bill is running.
- The wait is told as `Retry` before it begins, and a cancel ends it at once.
- Backoff doubles from 0.5 s to 8 s, between half of that and all of it by chance, so that clients
  that failed together don't return together. A provider that names a time is given it; one that
  names more than a minute has said no.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import count
from typing import Final

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from app.domain.errors import ModelFailed
from app.ports import Model, ModelEvent, ModelRequest, Retry

FIRST_DELAY_S: Final = 0.5
MAX_DELAY_S: Final = 8.0
MAX_RETRY_AFTER_S: Final = 60.0


class RetryingModel:
    """Makes at most `retries` + 1 requests a call.

    `chance` returns a number from 0 to 1.
    """

    def __init__(
        self, model: Model, retries: int = 2, *, chance: Callable[[], float] = random.random
    ) -> None:
        self._model = model
        self._retries = retries
        self._chance = chance

    @property
    def name(self) -> str:
        """The name of the model that is called."""
        return self._model.name

    @asynccontextmanager
    async def stream(
        self, request: ModelRequest
    ) -> AsyncGenerator[AsyncIterator[Sequence[ModelEvent]]]:
        """Call the model; see `app.ports.Model`."""
        async with aclosing(self._attempts(request)) as batches:
            yield batches

    async def _attempts(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        for attempt in count(1):
            is_silent = True
            try:
                async with self._model.stream(request) as batches:
                    async for batch in batches:
                        is_silent = is_silent and not batch
                        yield batch
            except ModelFailed as failure:
                retry = self._after(failure, attempt) if is_silent else None
                if retry is None:
                    raise
            else:
                return
            await checkpoint_if_cancelled()  # a stopped run tells of no retry
            yield [retry]
            await anyio.sleep(retry.delay_s)

    def _after(self, failure: ModelFailed, attempt: int) -> Retry | None:
        """Decide what follows a failed attempt: another one, or `None`."""
        asked_s = failure.retry_after_s or 0.0
        if failure.retry_code is None or failure.code == "model_timeout":
            return None
        if attempt > self._retries or asked_s > MAX_RETRY_AFTER_S:
            return None
        return Retry(
            attempt,
            round(max(asked_s, backoff_s(attempt, self._chance())), 3),
            failure.retry_code,
            failure.upstream_status,
            failure.upstream_code,
        )


def backoff_s(attempt: int, chance: float) -> float:
    """Return how long to wait after the given attempt, from 1, in seconds."""
    longest: float = min(FIRST_DELAY_S * 2 ** (attempt - 1), MAX_DELAY_S)
    return longest * (1 + chance) / 2
