"""Runs made by hand: logs of any length, written at any pace, without a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from uuid import uuid4

from app.domain.events import (
    Entry,
    Event,
    Origin,
    RunCompleted,
    RunContent,
    RunStarted,
    ToolCallCompleted,
    ToolCallStarted,
    Usage,
    encode,
)
from app.domain.run import Run, RunRequest
from app.ports import Store
from app.runtime.clock import SystemClock

Said = tuple[Origin, Event]
WORDS = ("Once upon a time ", "there was ", "a dragon, ", "and she ", "learned.\n")


class HandMade:
    """A run of the team `team` with the member `writer`, in a store; `length` so far."""

    def __init__(self, store: Store, run: Run) -> None:
        self._store = store
        self._clock = SystemClock()
        self.run = run
        self.run_id = run.run_id
        self.leader = run.origin
        self.writer = Origin(str(uuid4()), "writer", "Writer", None, run.run_id)
        self.length = 0

    def append(self, said: Iterable[Said]) -> None:
        """Write events to the log, all with the time it is now."""
        now = self._clock.now()
        entries = [self._entry(now, origin, event) for origin, event in said]
        assert self._store.append(self.run_id, entries) is None

    def _entry(self, now: str, origin: Origin, event: Event) -> Entry:
        self.length += 1
        return encode(self.length, now, origin, event)

    def begin(self) -> None:
        """The leader delegates to the writer."""
        call = ToolCallStarted("call_1", "delegate_task_to_member", '{"member_id":"writer"}', 1)
        started = RunStarted("scripted:", task="Go.", tool_call_id="call_1")
        self.append(
            [
                (self.leader, RunStarted("scripted:", mode="coordinate")),
                (self.leader, call),
                (self.writer, started),
            ]
        )

    def write(self, count: int) -> None:
        """The writer writes that many pieces."""
        words = islice(_endless(), self.length, self.length + count)
        self.append([(self.writer, RunContent(word, 1)) for word in words])

    def answer(self, count: int) -> None:
        """The writer is done; the leader answers in that many pieces, and that is the end."""
        member = next(iter(self.run.members.values()))
        done = RunCompleted(member.content, "stop", Usage(10, 20, 30))
        result = ToolCallCompleted("call_1", "delegate_task_to_member", "completed", "{}", 1)
        self.append([(self.writer, done), (self.leader, result)])
        self.append([(self.leader, RunContent(word, 2)) for word in islice(_endless(), count)])
        final = RunCompleted(self.run.content, "stop", Usage(100, 200, 300))
        self.append([(self.leader, final)])


def _endless() -> Iterator[str]:
    while True:
        yield from WORDS


async def hand_made(store: Store) -> HandMade:
    request = RunRequest(
        run_id=str(uuid4()),
        team_id="team",
        team_name="Team",
        input="Write.",
        created_at=SystemClock().now(),
        timeout_s=900,
    )
    return HandMade(store, await store.create(request))
