"""Work in a task of its own is, for whoever awaits it, work like any other."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import anyio
import pytest

from app.domain.errors import ModelFailed
from app.runtime.own_task import in_own_task

pytestmark = pytest.mark.anyio

WHERE: ContextVar[str] = ContextVar("where")


async def test_it_returns_what_the_work_returns_and_sees_the_callers_context() -> None:
    async def work() -> tuple[str, bool]:
        await asyncio.sleep(0)
        return WHERE.get(), asyncio.current_task() is caller

    WHERE.set("here")
    caller = asyncio.current_task()
    assert await in_own_task(work()) == ("here", False)


async def test_it_raises_what_the_work_raises_and_no_group() -> None:
    failure = ModelFailed("model_error", "The model failed.")

    async def work() -> None:
        raise failure

    with pytest.raises(ModelFailed) as raised:
        await in_own_task(work())
    assert raised.value is failure
    assert failure.__cause__ is None


async def test_a_cancel_of_the_caller_waits_until_the_work_has_cleaned_up() -> None:
    done: list[str] = []
    begun = anyio.Event()

    async def work() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
            done.append("cleaned up")

    async def call() -> None:
        with scope:
            await in_own_task(work())
        done.append("left")

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await begun.wait()
        scope.cancel()
    assert done == ["cleaned up", "left"]
