"""An upstream on which runs live for a moment, for a while, or until somebody ends them."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.cancellation.cases import delegate, has_results, is_leader
from tests.upstream import Hold, Json, Open, Plan, Say

WORDS = [f"word{number} " for number in range(15)]


def words(every_s: float = 0.02) -> Plan:
    """A short answer: 15 words."""
    return [Say(*WORDS, every_s=every_s)]


class Mix:
    """A script from one seed; about one run in five never ends by itself."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - no secret, a test that can be repeated

    def script(self, body: Json, _: int) -> Plan:
        if is_leader(body) and not has_results(body):
            return self._chance.choice(_LEADER)()
        return self._chance.choice(_OTHERS)()


_LEADER: list[Callable[[], Plan]] = [
    words,
    words,
    lambda: [Say("All at once.")],
    lambda: delegate("editor"),
    lambda: delegate("storyteller", "editor"),
    lambda: [Say("Once"), Hold()],
    lambda: [Hold()],
]
_OTHERS: list[Callable[[], Plan]] = [
    words,
    words,
    words,
    lambda: [Say("Done.")],
    lambda: [Say("Done.")],
    lambda: [Open(), Hold()],
]
