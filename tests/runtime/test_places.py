"""Places: never more than there are, none lost, and tenants take turns."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import pytest
from anyio import CancelScope
from hypothesis import given, settings
from hypothesis import strategies as st

from app.runtime.places import Places

pytestmark = pytest.mark.anyio


@dataclass(eq=False)
class Visitor:
    """Somebody who comes for a place, and stays until told to go.

    `before` is how many had been let in when it came.
    """

    tenant: str
    entered: list[Visitor]
    scope: CancelScope = field(default_factory=CancelScope)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False
    before: int = 0

    async def visit(self, places: Places) -> None:
        with self.scope:
            async with places.one(self.tenant):
                self.entered.append(self)
                await self.done.wait()
        self.is_over = True


async def settle() -> None:
    """Let everybody do what they can: each needs a few turns of the loop for its next step."""
    for _ in range(8):
        await asyncio.sleep(0)


async def entrances(total: int, tenants: Sequence[str]) -> list[str]:
    """Fill the places, have these tenants wait in this order; return in which they get in."""
    places, entered = Places(total), list[Visitor]()
    async with anyio.create_task_group() as group:
        for tenant in ["first"] * total + list(tenants):
            group.start_soon(Visitor(tenant, entered).visit, places)
            await settle()
        for place in range(total + len(tenants)):
            entered[place].done.set()
            await settle()
    assert places.taken == 0
    return [visitor.tenant for visitor in entered[total:]]


async def test_there_are_never_more_inside_than_there_are_places() -> None:
    places, entered = Places(2), list[Visitor]()
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(Visitor("a", entered).visit, places)
        await settle()
        assert (len(entered), places.taken) == (2, 2)
        group.cancel_scope.cancel()
    assert places.taken == 0


async def test_tenants_take_turns() -> None:
    assert "".join(await entrances(1, "aaaaabbc")) == "abcabaaa"


async def test_a_flood_holds_another_tenant_up_by_one_run_at_most() -> None:
    assert (await entrances(1, "a" * 100 + "b")).index("b") == 1


async def test_within_a_tenant_it_is_first_come_first_served() -> None:
    places, entered = Places(1), list[Visitor]()
    visitors = [Visitor("a", entered) for _ in range(5)]
    async with anyio.create_task_group() as group:
        for visitor in visitors:
            group.start_soon(visitor.visit, places)
        for visitor in visitors:
            await settle()
            visitor.done.set()
    assert entered == visitors


async def test_who_is_cancelled_while_waiting_gives_its_turn_up() -> None:
    places, entered = Places(1), list[Visitor]()
    inside, gone, waiting = (Visitor("a", entered) for _ in range(3))
    async with anyio.create_task_group() as group:
        for visitor in (inside, gone, waiting):
            group.start_soon(visitor.visit, places)
        await settle()
        gone.scope.cancel()
        await settle()
        assert gone.is_over
        inside.done.set()
        await settle()
        assert entered == [inside, waiting]
        waiting.done.set()
    assert places.taken == 0


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_place_given_in_the_moment_of_a_cancel_is_passed_on(cancel_first: bool) -> None:
    places, entered = Places(1), list[Visitor]()
    inside, gone, waiting = (Visitor("a", entered) for _ in range(3))
    async with anyio.create_task_group() as group:
        for visitor in (inside, gone, waiting):
            group.start_soon(visitor.visit, places)
        await settle()
        steps = [gone.scope.cancel, inside.done.set]
        for step in steps if cancel_first else reversed(steps):
            step()
        await settle()
        assert (entered, gone.is_over) == ([inside, waiting], True)
        waiting.done.set()
    assert places.taken == 0


async def test_who_was_cancelled_before_it_came_does_not_come_in() -> None:
    places, entered = Places(1), list[Visitor]()
    visitor = Visitor("a", entered)
    visitor.scope.cancel()
    await visitor.visit(places)
    assert (entered, places.taken) == ([], 0)


Action = tuple[str, int]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["come a", "come b", "come c", "go", "go", "cancel", "settle"]),
        st.integers(0, 30),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(total=st.integers(1, 3), actions=ACTIONS)
def test_whatever_happens_no_place_is_lost_and_no_tenant_is_passed_over_twice(
    total: int, actions: list[Action]
) -> None:
    anyio.run(play, total, actions)


async def play(total: int, actions: list[Action]) -> None:
    places, entered, visitors = Places(total), list[Visitor](), list[Visitor]()
    async with anyio.create_task_group() as group:
        for action, number in actions:
            chosen = visitors[number % len(visitors)] if visitors else None
            if action.startswith("come"):
                await settle()
                visitors.append(Visitor(action[-1], entered, before=len(entered)))
                group.start_soon(visitors[-1].visit, places)
                await settle()  # it waits now, or is inside
            elif action == "settle":
                await settle()
                assert places.taken == min(total, sum(not each.is_over for each in visitors))
            elif chosen is not None and action == "cancel":
                chosen.scope.cancel()
            elif chosen in entered:
                chosen.done.set()
            assert places.taken <= total
        await settle()
        for visitor in visitors:
            check_turns(visitor, entered)
            visitor.done.set()
    assert places.taken == 0


def check_turns(visitor: Visitor, entered: list[Visitor]) -> None:
    """While it waited, no other tenant was let in more than once more often than its own."""
    if visitor.is_over and visitor not in entered:
        return
    end = entered.index(visitor) if visitor in entered else len(entered)
    turns = Counter(each.tenant for each in entered[visitor.before : end])
    assert all(count <= turns[visitor.tenant] + 1 for count in turns.values()), turns
