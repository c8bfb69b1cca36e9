"""Where a run can be, as what leader and members are made to say, and how to know it is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

from tests.upstream import CallTool, Fail, Hold, Json, Open, Plan, Say, instructions_of, results_of

WORDS = [f"word{number} " for number in range(2000)]

WAIT_S = 0.6
"""A Retry-After above every first backoff, so that it is the wait."""

_WAITS = cycle(("30", str(WAIT_S)))


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


def refuse(status: int = 503) -> Plan:
    """Ask for patience: every other time a little, so that a retry that comes anyway is seen."""
    return [Fail(status, headers={"Retry-After": next(_WAITS)})]


def once(plan: Plan) -> Callable[[bool], Plan]:
    """Play a plan, and answer when its results are there."""
    return lambda again: [Say("So.")] if again else plan


def delegate_once(*members: str) -> Callable[[bool], Plan]:
    return once(delegate(*members))


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
    team: str = "storytelling"

    def script(self, body: Json, _: int) -> Plan:
        return self.leader(has_results(body)) if is_leader(body) else self.member()


RETRY_WAIT = Case("retry wait", lambda _: refuse(), there=["TeamModelRetry"])

CASES = [
    Case("connecting", lambda _: [Hold()]),
    Case("before the first token", lambda _: [Open(), Hold()]),
    Case("leader's text", lambda _: slow_words(), there=["TeamRunContent"]),
    RETRY_WAIT,
    Case("between turns", lambda _: delegate("editor"), lambda: [Say("Quick.")]),
    Case(
        "member connecting",
        delegate_once("storyteller"),
        lambda: [Hold()],
        calls=2,
        members=1,
    ),
    Case(
        "member before the first token",
        delegate_once("storyteller"),
        lambda: [Open(), Hold()],
        calls=2,
        members=1,
    ),
    Case(
        "member's text",
        delegate_once("storyteller"),
        slow_words,
        there=["event: RunContent"],
        calls=2,
        members=1,
    ),
    Case(
        "member's retry wait",
        delegate_once("storyteller"),
        lambda: refuse(429),
        there=["event: ModelRetry"],
        calls=2,
        members=1,
    ),
    Case(
        "member between turns",
        delegate_once("storyteller"),
        lambda: [CallTool("text_statistics", '{"text": "Quick."}')],
        there=["event: ToolCallCompleted"],
        calls=3,
        members=1,
    ),
    Case(
        "two members in parallel",
        delegate_once("storyteller", "editor"),
        slow_words,
        there=["event: RunStarted", "event: RunContent"],
        calls=3,
        members=2,
    ),
    Case("leader's async tool", lambda _: [CallTool("waits", "{}")], there=["TeamToolCallStarted"]),
    Case(
        "member's async tool",
        delegate_once("storyteller"),
        lambda: [CallTool("waits", "{}")],
        there=["event: ToolCallStarted"],
        calls=2,
        members=1,
    ),
    Case(
        "member's sync tool",
        delegate_once("storyteller"),
        lambda: [CallTool("blocks", "{}")],
        there=["event: ToolCallStarted"],
        calls=2,
        members=1,
    ),
    Case(
        "routed member's text",
        once([CallTool("delegate_task_to_member", '{"member_id": "storyteller"}')]),
        slow_words,
        there=["event: TeamRunContent"],
        calls=2,
        members=1,
        team="routing",
    ),
    Case(
        "broadcast to two members",
        once([CallTool("delegate_task_to_members", "{}")]),
        slow_words,
        there=["event: RunStarted", "event: RunContent"],
        calls=3,
        members=2,
        team="broadcasting",
    ),
]


def one_of_two(rest: Hold) -> Case:
    """Two members in parallel that have little to say, and end when they are let."""
    return Case(
        "one of two members",
        delegate_once("storyteller", "editor"),
        lambda: [Say(*WORDS[:20], every_s=0.002), rest, Say("The end.")],
        there=["event: RunStarted", "event: RunContent"],
        calls=3,
        members=2,
    )
