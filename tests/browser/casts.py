"""Who plays in more than one of these tests."""

from __future__ import annotations

import anyio

from app.models.scripted import Say, Step, Until
from app.ports import ModelRequest
from tests.runtime.playing import Cast, delegating_to


def two_who_never_end(then: str = "Our tale.") -> Cast:
    never = anyio.Event()

    def member(_: ModelRequest) -> list[Step]:
        return [Say("Once "), Say("upon"), Until(never)]

    leader = delegating_to("writer", "editor", then=then)
    return Cast(leader, {"writer": member, "editor": member})
