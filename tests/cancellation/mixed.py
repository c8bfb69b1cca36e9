"""Upstreams on which every run is somewhere else when it is stopped."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tests.cancellation.cases import delegate, has_results, is_leader, slow_words
from tests.upstream import Drop, Fail, Hold, Json, Open, Plan, Say

LATEST_S = 0.3
"""The latest instant at which a run is stopped, after its start; seconds."""

_LATER = {"Retry-After": "30"}


def _both() -> Plan:
    return delegate("storyteller", "editor")


def _words() -> Plan:
    return slow_words(every_s=0.02)


_LEADER: Sequence[Callable[[], Plan]] = [
    _both,
    _both,
    _both,
    lambda: delegate("editor"),
    lambda: [Hold()],
    lambda: [Open(), Hold()],
    lambda: [Say("Once", " upon"), Hold()],
    _words,
    lambda: [Say("All at once.")],
    lambda: [Fail(503, headers=_LATER)],
    lambda: [Drop()],
    lambda: [Say("Once"), Drop(reset=True)],
]
_AGAIN: Sequence[Callable[[], Plan]] = [_words, lambda: [Say("The end.")]]
_MEMBER: Sequence[Callable[[], Plan]] = [
    _words,
    _words,
    lambda: [Hold()],
    lambda: [Open(), Hold()],
    lambda: [Say("A", " story"), Hold()],
    lambda: [Say("Done.")],
    lambda: [Fail(429, headers=_LATER)],
    lambda: [Fail(503)],
    lambda: [Say("A"), Drop(reset=True)],
]


class Mixed:
    """A script, and the random instants, from one seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - no secret, a test that can be repeated

    def script(self, body: Json, _: int) -> Plan:
        if not is_leader(body):
            return self.chance.choice(_MEMBER)()
        if has_results(body):
            return self.chance.choice(_AGAIN)()
        return self.chance.choice(_LEADER)()

    def instant(self) -> float:
        """After how many seconds somebody stops, or leaves."""
        return self.chance.uniform(0, LATEST_S)
