"""Examples, made by the code that makes the real answers: they cannot show what it would not send.

One short story: a leader delegates to a member, the member writes, the leader answers; and the same
story stopped in the middle. Facts that occur in neither are told beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.api import shapes
from app.api.problems import KINDS, Refused, problem
from app.api.views import listed_view, member_view, run_view, team_view, view_of
from app.domain import events
from app.domain.events import EVENT_NAMES, Entry, Event, Failure, Origin, Usage, encode
from app.domain.run import Run, RunRequest
from app.domain.team import AgentSpec, TeamSpec

_Story = Sequence[tuple[Origin, Event]]

RUN_ID: Final = "5b1f0d3e-8c1a-4f0b-9d57-2f6f0f6a1c11"
MEMBER_RUN_ID: Final = "c2a7e6d4-3b90-4e52-8a6f-7d1e5b9c0f22"
_MODEL: Final = "openai:gpt-5.2-mini"
_LEADER: Final = Origin(RUN_ID, "storytelling", "Storytelling Team", "tuesday")
_WRITER: Final = Origin(MEMBER_RUN_ID, "storyteller", "StorytellerAgent", "tuesday", RUN_ID)
FIGURES: Final = """# HELP team_runs_running Runs that this process works on.
# TYPE team_runs_running gauge
team_runs_running 2.0
"""
_TASK: Final = "Write two sentences about a lighthouse."
_TALE: Final = "The lamp went out. Nobody noticed but the sea."
_USAGE: Final = Usage(310, 42, 352)
_DELEGATION: Final = events.ToolCallStarted(
    "call_1",
    "delegate_task_to_member",
    json.dumps({"member_id": "storyteller", "task": _TASK}),
    1,
)


REQUEST: Final[Mapping[str, Any]] = {
    "input": "Tell me a very short story about a lighthouse.",
    "team": "storytelling",
    "session_id": "tuesday",
    "metadata": {"ticket": "T-7"},
}


def _result(status: str, content: str) -> str:
    """Return what the leader reads of the delegation."""
    who = {"run_id": MEMBER_RUN_ID, "agent_id": _WRITER.id, "agent_name": _WRITER.name}
    return json.dumps({**who, "status": status, "content": content, "error": None})


def _closing(status: events.ToolStatus, content: str) -> Event:
    """Return the end of the delegation."""
    result = _result(status, content)
    return events.ToolCallCompleted("call_1", _DELEGATION.tool_name, status, result, 1)


_STORY: Final[_Story] = (
    (_LEADER, events.RunStarted(_MODEL, mode="coordinate")),
    (_LEADER, _DELEGATION),
    (_WRITER, events.RunStarted(_MODEL, task=_TASK, tool_call_id="call_1")),
    (_WRITER, events.RunContent("The lamp went out. ", 1)),
    (_WRITER, events.RunContent("Nobody noticed but the sea.", 1)),
    (_WRITER, events.RunCompleted(_TALE, "stop", Usage(120, 16, 136))),
    (_LEADER, _closing("completed", _TALE)),
    (_LEADER, events.RunContent(_TALE, 2)),
    (_LEADER, events.RunCompleted(_TALE, "stop", _USAGE)),
)
_BEGINNING: Final = 4
"""How many events of the story a run has that is stopped in the middle."""

_WHY: Final = "the user pressed stop"
_STOPPED: Final[_Story] = (
    *_STORY[:_BEGINNING],
    (_LEADER, events.RunCancelRequested(_WHY, "request")),
    (_WRITER, events.RunCancelled("The lamp went out. ", _WHY, Usage(120, 5, 125, True))),
    (_LEADER, _closing("cancelled", "The lamp went out. ")),
    (_LEADER, events.RunCancelled("", _WHY, Usage(290, 31, 321, True))),
)
_BESIDE_IT: Final[tuple[Event, ...]] = (
    events.ReasoningContentDelta("The sea should speak last.", 1),
    events.ToolCallStarted("call_2", "count_words", '{"text": "The lamp went out."}', 1),
    events.ToolCallCompleted("call_2", "count_words", "completed", "4", 1),
    events.ModelRetry(1, 0.5, "rate_limited", 429, "rate_limit_exceeded", 1),
    events.RunCancelRequested(_WHY, "request"),
    events.RunError(Failure("model_timeout", "the model fell silent"), "The lamp", _USAGE),
)


def _time(seconds: int) -> str:
    return f"2026-11-22T09:57:{seconds:02d}.123Z"


def _entries(story: _Story) -> list[Entry]:
    return [
        encode(place, _time(10 + place), origin, event)
        for place, (origin, event) in enumerate(story, 1)
    ]


def _run(story: _Story) -> Run:
    """Return the run whose log this is."""
    run = Run(
        RunRequest(
            RUN_ID, _LEADER.id, _LEADER.name, REQUEST["input"], _time(10), 900, "tuesday",
            REQUEST["metadata"],
        )
    )  # fmt: skip
    for entry in _entries(story):
        run.apply(entry)
    return run


def stream() -> str:
    """Return the story as server-sent events."""
    return "retry: 2000\n: ok\n" + b"".join(entry.frame for entry in _entries(_STORY)).decode()


def lines() -> str:
    """Return the story as NDJSON."""
    return "".join(events.data_of(entry.frame).decode() + "\n" for entry in _entries(_STORY))


def event(name: str) -> Mapping[str, Any]:
    """Return an event of this name."""
    origin = _LEADER if name.startswith("Team") else _WRITER
    told = [*_STORY, *_STOPPED, *((origin, fact) for fact in _BESIDE_IT)]
    fact = next(
        fact for by, fact in told if by == origin and by.prefix + type(fact).__name__ == name
    )
    place = 2 + EVENT_NAMES.index(name)
    frame = encode(place, _time(10 + place), origin, fact).frame
    found: Mapping[str, Any] = json.loads(events.data_of(frame))
    return found


def pending_run() -> shapes.Run:
    """Return a run that was just taken."""
    return run_view(_run(()))


def completed_run() -> shapes.Run:
    """Return a run that answered."""
    return run_view(_run(_STORY))


def cancelling_run() -> shapes.Run:
    """Return a run that was asked to stop, and has not yet."""
    return run_view(_run(_STOPPED[: _BEGINNING + 1]))


def cancelled_run() -> shapes.Run:
    """Return a run that was stopped."""
    return run_view(_run(_STOPPED))


def member_run() -> shapes.Run | shapes.MemberRun:
    """Return a member's run, as one asks for it by its own id."""
    return view_of(_run(_STORY).members[MEMBER_RUN_ID])


def member() -> shapes.Member:
    """Return a member's entry in its team run."""
    return member_view(_run(_STORY).members[MEMBER_RUN_ID])


def run_list() -> shapes.RunList:
    """Return a page of one run."""
    return {"runs": [listed_view(_run(_STORY))], "next": None}


def team() -> shapes.Team:
    """Return the team of the story."""
    member = AgentSpec(
        id=_WRITER.id, name=_WRITER.name, description="An agent that writes creative stories"
    )
    told = "A team that collaborates to write detailed stories"
    spec = TeamSpec(id=_LEADER.id, name=_LEADER.name, description=told, members=(member,))
    return team_view(spec, _MODEL)


_EXTRA: Final[Mapping[str, Any]] = {
    "invalid_request": {"errors": [{"loc": ["body", "input"], "msg": "must not be blank"}]},
    "run_finished": {"run": completed_run()},
    "run_active": {"run": pending_run()},
}


def refusal(code: str, path: str) -> Mapping[str, Any]:
    """Return a problem of this code, about a path template."""
    instance = path.format(run_id=RUN_ID, team_id=_LEADER.id)
    title = KINDS[code].title
    refused = Refused(code, title[0].lower() + title[1:], _EXTRA.get(code, {}))
    found: Mapping[str, Any] = json.loads(bytes(problem(refused, instance).body))
    return found
