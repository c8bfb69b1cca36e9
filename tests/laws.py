"""The laws of the contract, checked on a log as any client reads it: bytes in, broken laws out.

Written against the contract's page, not against the service's code, of which it imports nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

FINAL = {"TeamRunCompleted", "TeamRunCancelled", "TeamRunError"}
MEMBER_FINAL = {"RunCompleted", "RunCancelled", "RunError"}
AFTER_A_CANCEL_NEVER = (
    "Content",
    "ReasoningContentDelta",
    "ToolCallStarted",
    "ModelRetry",
    "Started",
)

LogEvent = dict[str, Any]


def parse(stream: bytes) -> list[LogEvent]:
    """Read a stream of frames by the rules of server-sent events, and check each frame's shape."""
    events = []
    for block in stream.decode("ascii").split("\n\n"):
        fields = {}
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            if name in ("id", "event", "data"):
                assert name not in fields, f"{name} stands twice in a frame"
                fields[name] = value
            else:
                assert line in ("", "retry: 2000", ": ok", ": ping"), line
        if fields:
            event = json.loads(fields["data"])
            assert fields["event"] == event["event"]
            assert fields["id"] == str(event["seq"])
            events.append(event)
    return events


def check(events: list[LogEvent], *, finished: bool = True) -> None:
    """Assert every law that a log can show by itself."""
    _is_numbered(events)
    _begins_and_ends_as_it_may(events, finished=finished)
    _is_silent_after_a_cancel(events)
    _closes_what_it_opened(events, finished=finished)
    _tells_the_content_of_the_highest_turn(events)
    _names_everybody(events)


def _is_numbered(events: list[LogEvent]) -> None:
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def _begins_and_ends_as_it_may(events: list[LogEvent], *, finished: bool) -> None:
    names = [event["event"] for event in events]
    if names and names[0] != "TeamRunStarted":
        assert names in (["TeamRunCancelRequested", "TeamRunCancelled"], ["TeamRunError"]), names
    assert names.count("TeamRunStarted") <= 1
    finals = [name for name in names if name in FINAL]
    assert len(finals) == finished, finals
    if finished:
        assert names[-1] in FINAL
        assert (names[-1] == "TeamRunCancelled") == ("TeamRunCancelRequested" in names)


def _is_silent_after_a_cancel(events: list[LogEvent]) -> None:
    asked: set[str] = set()
    for event in events:
        below = {event["run_id"], event.get("parent_run_id")}
        if below & asked:
            assert not event["event"].endswith(AFTER_A_CANCEL_NEVER), event
        if event["event"].endswith("CancelRequested"):
            assert event["run_id"] not in asked, "a cancel request stands twice"
            asked.add(event["run_id"])


def _closes_what_it_opened(events: list[LogEvent], *, finished: bool) -> None:
    open_members: dict[str, str] = {}
    open_calls: set[tuple[str, str]] = set()
    ended: set[str] = set()
    for event in events:
        name, run_id = event["event"], event["run_id"]
        assert run_id not in ended, f"{name} follows the end of its run"
        call = (run_id, event.get("tool_call_id", ""))
        if name == "RunStarted":
            assert (event["parent_run_id"], event["tool_call_id"]) in open_calls
            open_members[run_id] = event["tool_call_id"]
        elif name.endswith("ToolCallStarted"):
            assert call not in open_calls
            open_calls.add(call)
        elif name.endswith("ToolCallCompleted"):
            open_calls.remove(call)
            assert call[1] not in open_members.values(), "a member outlives its call"
        elif name in MEMBER_FINAL:
            assert not [key for key in open_calls if key[0] == run_id], "a call outlives its run"
            del open_members[run_id]
            ended.add(run_id)
        elif name in FINAL:
            assert not open_members
            assert not open_calls
            ended.add(run_id)
    if finished:
        assert not open_members
        assert not open_calls


def _tells_the_content_of_the_highest_turn(events: list[LogEvent]) -> None:
    said: defaultdict[str, defaultdict[int, str]] = defaultdict(lambda: defaultdict(str))
    for event in events:
        name, turns = event["event"], said[event["run_id"]]
        if name in ("TeamRunContent", "RunContent"):
            assert event["content"]
            turns[event["turn"]] += event["content"]
        elif name in FINAL | MEMBER_FINAL:
            assert event["content"] == (turns[max(turns)] if turns else "")


def _names_everybody(events: list[LogEvent]) -> None:
    for event in events:
        assert {"event", "seq", "run_id", "created_at"} <= event.keys()
        if event["event"].startswith("Team"):
            assert {"team_id", "team_name"} <= event.keys()
        else:
            assert {"parent_run_id", "agent_id", "agent_name"} <= event.keys()
            assert event["parent_run_id"] == events[0]["run_id"]
