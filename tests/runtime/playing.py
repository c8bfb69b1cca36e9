"""A team with scripted models, run over the memory store: what the runtime's tests stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from app.domain.run import Run
from app.domain.team import Mode
from app.models.scripted import Call, Say, Script, ScriptedModel, Step
from app.observer.telling import Observers
from app.ports import ModelRequest, Tool, ToolResult
from app.runtime.agent import Agent
from app.runtime.clock import SystemClock
from app.runtime.delegation import Member
from app.runtime.orders import Order
from app.runtime.run_log import Limits
from app.runtime.runner import Capacity, Runner
from app.runtime.team import Team
from app.stores.memory import MemoryStore
from tests import laws


def has_result(request: ModelRequest) -> bool:
    """Whether a tool has answered in this conversation already."""
    return any(isinstance(item, ToolResult) for item in request.conversation)


def delegating_to(*members: str, then: str = "The end.") -> Script:
    """A leader that delegates side by side, and answers when it has the results."""

    def script(request: ModelRequest) -> list[Step]:
        if has_result(request):
            return [Say(then)]
        return [
            Call("delegate_task_to_member", {"member_id": id_, "task": "Go."}) for id_ in members
        ]

    return script


def saying(*words: str) -> Script:
    """An agent that says words, one delta each."""
    return lambda _: [Say(word) for word in words]


@dataclass
class Cast:
    """Who plays: the leader's script, and each member's by id."""

    leader: Script
    members: Mapping[str, Script] = field(default_factory=dict)
    mode: Mode = "coordinate"
    must_delegate: bool = False
    pass_input: bool = False
    tools: Mapping[str, Tool] = field(default_factory=dict)
    leader_tools: Mapping[str, Tool] = field(default_factory=dict)
    max_output_tokens: int | None = None

    def __post_init__(self) -> None:
        self.models = {
            name: ScriptedModel(script, f"scripted:{name}")
            for name, script in {"leader": self.leader, **self.members}.items()
        }

    def team(self) -> Team:
        leader = Agent(
            "team", "Team", self.models["leader"], "Lead.", max_output_tokens=self.max_output_tokens
        )
        members = {
            id_: Member(Agent(id_, id_.title(), self.models[id_], "Work."), "", self.tools)
            for id_ in self.members
        }
        return Team(
            self.mode, leader, members, self.leader_tools, self.must_delegate, self.pass_input
        )


@dataclass
class Stage:
    """A runner with one team."""

    runner: Runner
    store: MemoryStore
    cast: Cast

    async def start(self, order: Order | None = None) -> Run:
        return (await self.runner.start(order or Order("Hello."))).run

    async def log(self, run: Run) -> list[laws.LogEvent]:
        """Wait for the run's end, and return its log, which obeys the laws."""
        await self.until(run, lambda: run.status.is_final)
        events = laws.parse((await self.store.read(run.run_id, 0, 1 << 30)).frames)
        laws.check(events)
        return events

    async def until(self, run: Run, condition: object) -> None:
        """Wait until a condition of the run holds, at most 10 s."""
        assert callable(condition)
        with anyio.fail_after(10), self.store.watch(run.run_id) as hint:
            while not condition():
                await hint.wait()

    @property
    def open_streams(self) -> int:
        return sum(model.open for model in self.cast.models.values())


@asynccontextmanager
async def playing(
    cast: Cast,
    limits: Limits | None = None,
    capacity: Capacity | None = None,
    store: MemoryStore | None = None,
    observers: Observers | None = None,
) -> AsyncIterator[Stage]:
    store = store or MemoryStore()
    teams = {"team": cast.team()}
    async with Runner(store, teams, SystemClock(), limits, capacity, observers) as runner:
        yield Stage(runner, store, cast)


def names(events: list[laws.LogEvent]) -> list[str]:
    return [event["event"] for event in events]
