"""Work that a cancel can leave behind, away from any run."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest
from anyio import CapacityLimiter

from app.tools.detached import in_thread

TOO_MUCH_STACK = 1 << 46
"""Bytes; no system has them for a thread, and refuses it as it does when it has no more threads."""


@pytest.mark.anyio
async def test_what_the_work_raises_is_raised_where_it_is_waited_for() -> None:
    def work() -> None:
        raise KeyError

    places = CapacityLimiter(1)
    with pytest.raises(KeyError):
        await in_thread(work, places, "work")
    assert places.borrowed_tokens == 0


@pytest.mark.anyio
async def test_without_a_thread_the_place_is_given_back() -> None:
    places = CapacityLimiter(1)
    usual = threading.stack_size(TOO_MUCH_STACK)
    try:
        with pytest.raises(RuntimeError, match="new thread"):
            await in_thread(lambda: None, places, "work")
    finally:
        threading.stack_size(usual)
    assert places.borrowed_tokens == 0


def test_a_thread_may_end_after_the_loop_is_closed() -> None:
    go_on, threads = threading.Event(), list[threading.Thread]()

    def work() -> None:
        threads.append(threading.current_thread())
        go_on.wait()

    async def leave() -> None:
        with anyio.move_on_after(0.01):
            await in_thread(work, CapacityLimiter(1), "work")

    asyncio.run(leave())
    go_on.set()
    threads[0].join(10)  # an error in it would be one of this test
    assert not threads[0].is_alive()
