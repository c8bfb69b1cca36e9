"""What is gathered on its way to a store: nothing is lost, and only who can wait does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.stores.gathering import Gathering

pytestmark = pytest.mark.anyio


class Sent:
    """Takes what is ready, when it is."""

    def __init__(self, least_s: float) -> None:
        self.batches: list[list[str]] = []
        self.came = asyncio.Event()
        self.gathering = Gathering[str](least_s, self._take)

    def _take(self) -> None:
        self.batches.append(self.gathering.take())
        self.came.set()

    async def next(self) -> list[str]:
        with anyio.fail_after(10):
            await self.came.wait()
        self.came.clear()
        return self.batches[-1]


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_comes_first_goes_at_once_and_others_wait() -> None:
    sent = Sent(least_s=60)
    sent.gathering.add("a1", by="a")
    assert sent.batches == [], "not before the next turn, for what else comes in this one"
    assert await sent.next() == ["a1"]
    sent.gathering.add("b1", by="b")
    sent.gathering.add("c1", by="c")
    await turns()
    assert sent.batches == [["a1"]]
    assert len(sent.gathering) == 2


async def test_who_waits_goes_when_the_time_has_passed() -> None:
    sent = Sent(least_s=0.005)
    sent.gathering.add("a1", by="a")
    await sent.next()
    taken_at = asyncio.get_running_loop().time()
    sent.gathering.add("b1", by="b")
    await turns()
    sent.gathering.add("c1", by="c")
    assert await sent.next() == ["b1", "c1"]
    assert asyncio.get_running_loop().time() >= taken_at + 0.004, "the loop's clock counts in ms"


async def test_who_comes_right_behind_itself_alone_waits_for_nobody() -> None:
    sent = Sent(least_s=60)
    for word in ("a1", "a2", "a3"):
        sent.gathering.add(word, by="a")
        assert await sent.next() == [word]
    sent.gathering.add("b1", by="b")
    sent.gathering.add("a4", by="a")
    assert await sent.next() == ["b1", "a4"], "it takes those along who wait"
    sent.gathering.add("a5", by="a")
    await turns()
    assert len(sent.batches) == 4, "it was not alone any more"


async def test_what_cannot_wait_goes_at_once_and_takes_along_what_waits() -> None:
    sent = Sent(least_s=60)
    sent.gathering.add("a1", by="a")
    await sent.next()
    sent.gathering.add("b1", by="b")
    sent.gathering.add("flag")
    sent.gathering.add("c1", by="c")
    assert await sent.next() == ["b1", "flag", "c1"]


async def test_a_hurry_is_for_what_is_there() -> None:
    sent = Sent(least_s=60)
    sent.gathering.hurry()  # nobody waits
    sent.gathering.add("a1", by="a")
    await sent.next()
    sent.gathering.add("b1", by="b")
    sent.gathering.hurry()
    sent.gathering.hurry()
    assert await sent.next() == ["b1"]
    await turns()
    assert len(sent.batches) == 2


async def test_what_was_taken_without_being_asked_is_not_told_again() -> None:
    sent = Sent(least_s=0.001)
    sent.gathering.add("a1", by="a")
    assert sent.gathering.take() == ["a1"]
    await anyio.wait_all_tasks_blocked()
    assert sent.batches == []


@given(st.lists(st.sampled_from(["a", "b", "c", None, "turn"]), max_size=40))
def test_all_goes_once_and_in_order(steps: Sequence[str | None]) -> None:
    async def check() -> None:
        sent, added = Sent(least_s=0.0005), []
        for place, step in enumerate(steps):
            if step == "turn":
                await asyncio.sleep(0)
            else:
                sent.gathering.add(f"{step}{place}", by=step)
                added.append(f"{step}{place}")
        while len(sent.gathering):
            await sent.next()
        assert [item for batch in sent.batches for item in batch] == added
        assert all(sent.batches), "nobody is sent for nothing"

    asyncio.run(check())
