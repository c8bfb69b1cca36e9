"""Text that would like to be more than text: in every place a client or a model can write to.

What comes out of the service is read by `httpx_sse`, which shares no code with it, and is equal.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, Final

import httpx
import pytest
from httpx_sse import EventSource

from app.domain.events import (
    Event,
    Origin,
    RunCancelRequested,
    RunContent,
    ToolCallCompleted,
    encode,
)
from app.models.scripted import Call, Say, Step, Think
from app.ports import ModelRequest, ToolCall, ToolResult, ToolSpec
from tests.api.serving import serving
from tests.api.test_runs import stuck
from tests.runtime.playing import Cast, has_result

pytestmark = pytest.mark.anyio

NOW: Final = "2026-11-22T09:57:12.123Z"
NASTY: Final = (
    *(
        "\r",
        "\n",
        "\r\n",
        "\n\n",
        "\0",
        "\x1b[31m",
        "\x1b]0;x\a",
        "\u2028",
        "\u2029",
        "\x85",
        "\ufeff",
    ),
    *("data: ", "id: 7\n", "event: TeamRunCompleted\n", "retry: 1\n", ": ", '"', "\\", "\\u0000"),
    *(
        "</script><script>",
        "<!--",
        "${x}",
        "%s",
        "{0}",
        "%0d%0a",
        "\U0001f600",
        "é",
        "\u202e",
        "\ufffe",
    ),
)


def texts(count: int, seed: int) -> list[str]:
    """Make up texts of one to twelve parts: nasty ones, and characters of all of Unicode."""
    chance = random.Random(seed)  # noqa: S311 - no secret, a test that can be repeated

    def part() -> str:
        if chance.random() < 0.7:
            return chance.choice(NASTY)
        code = chance.randrange(0x110000)
        return "x" if 0xD800 <= code <= 0xDFFF else chr(code)

    return ["".join(part() for _ in range(chance.randint(1, 12))) for _ in range(count)]


def read(stream: bytes) -> list[dict[str, Any]]:
    """Parse a stream as a client does."""
    answer = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=stream)
    found = list(EventSource(answer).iter_sse())
    events = [json.loads(one.data) for one in found]
    assert [(one.event, one.id) for one in found] == [(e["event"], str(e["seq"])) for e in events]
    return events


def test_ten_thousand_texts_of_each_kind_come_back_equal_and_forge_nothing() -> None:
    made = texts(10_000, seed=6)
    kinds: dict[str, tuple[str, list[tuple[str, Event]]]] = {
        "content": ("content", [("Team", RunContent(text, 1)) for text in made]),
        "reason": ("reason", [("Team", RunCancelRequested(text, "request")) for text in made]),
        "result": (
            "result",
            [("Team", ToolCallCompleted("c", text, "completed", text, 1)) for text in made],
        ),
        "name": ("team_name", [(text, RunContent("x", 1)) for text in made]),
    }
    for field, said in kinds.values():
        frames = [
            encode(seq, NOW, Origin("r", "team", name, "s"), event).frame
            for seq, (name, event) in enumerate(said, start=1)
        ]
        stream = b"".join(frames)
        assert stream.isascii()
        assert [event[field] for event in read(stream)] == made


class Echo:
    """A tool that returns what it is given."""

    spec = ToolSpec("echo", "Echoes.", {"type": "object"})

    async def __call__(self, call: ToolCall) -> ToolResult:
        """Return it."""
        return ToolResult(call.call_id, call.arguments)


def saying_all(words: Sequence[str], calls: Sequence[str]) -> Cast:
    def script(request: ModelRequest) -> list[Step]:
        if has_result(request):
            return [step for word in words for step in (Say(word), Think(word))]
        return [Call("echo", text) for text in calls]

    return Cast(script, leader_tools={"echo": Echo()})


async def test_what_models_and_tools_write_comes_back_equal_over_http() -> None:
    words, calls = texts(1500, seed=1), texts(90, seed=2)
    async with serving(saying_all(words, calls)) as served:
        run = await served.finish()
        events = read((await served.client.get(run["links"]["events"])).content)
        lines = await served.client.get(
            run["links"]["events"], headers={"Accept": "application/x-ndjson"}
        )
    kinds = ("TeamRunContent", "TeamReasoningContentDelta")
    for kind in kinds:
        assert [event["content"] for event in events if event["event"] == kind] == words
    started = {
        e["tool_call_id"]: e["arguments"]
        for e in events
        if e["event"].endswith("Started") and "arguments" in e
    }
    results = {
        e["tool_call_id"]: e["result"] for e in events if e["event"].endswith("CallCompleted")
    }
    assert sorted(started.values()) == sorted(calls)
    assert results == started
    assert run["content"] == "".join(words)
    assert [json.loads(line) for line in lines.content.split(b"\n") if line] == events


async def test_what_clients_write_comes_back_equal_over_http() -> None:
    inputs = [text + "x" for text in texts(100, seed=3)]
    values = texts(1600, seed=4)
    reasons = [text[:200] for text in texts(100, seed=5)]
    async with serving(stuck()) as served:
        for place, (asked, reason) in enumerate(zip(inputs, reasons, strict=True)):
            notes = {f"{n}{v[:50]}": v for n, v in enumerate(values[place * 16 : place * 16 + 16])}
            body = {"input": asked, "metadata": notes}
            run = (await served.client.post("/runs", json=body)).json()
            assert (run["input"], run["metadata"]) == (asked, notes)
            path = f"/runs/{run['run_id']}"
            await served.client.delete(path, params={"reason": reason, "wait": 10})
            last = read((await served.client.get(f"{path}/events")).content)[-1]
            assert (last["event"], last["reason"]) == ("TeamRunCancelled", reason)
            stored = (await served.client.get(path)).json()
            assert (stored["input"], stored["metadata"]) == (asked, notes)
            assert stored["cancel"]["reason"] == reason
