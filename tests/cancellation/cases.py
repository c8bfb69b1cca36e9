"""Where a run can be, as what leader and members are made to say, and how to know it is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.upstream import CallTool, Fail, Hold, Json, Open, Plan, Say, instructions_of, results_of

WORDS = [f"word{number} " for number in range(2000)]


def is_leader(body: Json) -> bool:
    return "The members of your team" in instructions_of(body)


def has_results(body: Json) -> bool:
    return bool(results_of(body))


def delegate(*members: str) -> Plan:
    return [
        CallTool(
            "delegate_task_to_member", json.dumps({"member_id": member, "task": "Do your part."})
        )
        for member in members
    ]


def slow_words(every_s: float = 0.002) -> Plan:
    return [Say(*WORDS, every_s=every_s)]


@dataclass(frozen=True)
class Case:
    """`leader` is asked with whether it has results already.

    A run is there when `calls` requests have arrived, and all of `there` stands in its stream, once
    for each of the `members`.
    """

    name: str
    leader: Callable[[bool], Plan]
    member: Callable[[], Plan] = lambda: [Say("Done.")]
    there: Sequence[str] = ()
    calls: int = 1
    members: int = 0

    def script(self, body: Json, _: int) -> Plan:
        return self.leader(has_results(body)) if is_leader(body) else self.member()


CASES = [
    Case("connecting", lambda _: [Hold()]),
    Case("before the first token", lambda _: [Open(), Hold()]),
    Case("leader's text", lambda _: slow_words(), there=["TeamRunContent"]),
    Case(
        "retry wait",
        lambda _: [Fail(503, headers={"Retry-After": "30"})],
        there=["TeamModelRetry"],
    ),
    Case(
        "member connecting",
        lambda again: [Say("So.")] if again else delegate("storyteller"),
        lambda: [Hold()],
        calls=2,
        members=1,
    ),
    Case(
        "member's text",
        lambda again: [Say("So.")] if again else delegate("storyteller"),
        slow_words,
        there=["event: RunContent"],
        calls=2,
        members=1,
    ),
    Case(
        "member's retry wait",
        lambda again: [Say("So.")] if again else delegate("storyteller"),
        lambda: [Fail(429, headers={"Retry-After": "30"})],
        there=["event: ModelRetry"],
        calls=2,
        members=1,
    ),
    Case(
        "two members in parallel",
        lambda again: [Say("So.")] if again else delegate("storyteller", "editor"),
        slow_words,
        there=["event: RunContent"],
        calls=3,
        members=2,
    ),
    Case("between turns", lambda _: delegate("editor"), lambda: [Say("Quick.")]),
]
