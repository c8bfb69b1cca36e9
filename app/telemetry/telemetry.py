"""Everything by which the service tells of itself, made at once, and open while it serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import anyio

from app.domain.team import TeamSpec
from app.observer.telling import Observers
from app.telemetry.exporting import open_tracing
from app.telemetry.journal import Journal
from app.telemetry.lag import keep_measuring_lag
from app.telemetry.metrics import Metrics


class Telemetry:
    """Figures, log lines, and traces if the environment asks for them."""

    def __init__(self, teams: Iterable[TeamSpec], environ: Mapping[str, str]) -> None:
        """Raises `ConfigurationError` for what the environment cannot ask for."""
        self.metrics = Metrics(teams)
        self._tracing = open_tracing(environ)

    @property
    def observers(self) -> Observers:
        """Who is told what happens."""
        tracing = [self._tracing] if self._tracing else []
        return Observers(self.metrics, Journal(), *tracing)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._tracing is not None:
                stack.push_async_callback(self._tracing.close)
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(group.cancel_scope.cancel)
            group.start_soon(keep_measuring_lag, self.metrics.observe_lag)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)
