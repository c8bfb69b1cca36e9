"""The whole service before a provider that nobody here wrote: PyPI's `llmock`, and its own record.

It says how far each reply had come when its client left, and breaks its replies on demand. What the
service makes of that is looked at as a client sees it: over HTTP. The fixture `llmock` is the
package's own pytest plugin: a real server, in a thread of the test's process. Silence before the
headers is not among its faults here: it would sit through it and never see the client leave.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import pytest
from llmock.journal import RequestRecord
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Reply, ToolCall
from llmock.testing import LLMockServer

from tests import laws
from tests.cancellation.bench import reading
from tests.figures import FIGURES
from tests.service import service

pytestmark = pytest.mark.anyio

WORDS = [f"word{number} " for number in range(1000)]
TEXT = "".join(WORDS)
LEAD_IN = 4
"""llmock's chunks ahead of the first word."""
PACE_MS = 5
IDLE_TIMEOUT_S = 1.0
DELEGATE = "delegate_task_to_member"

Run = dict[str, Any]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def client(llmock_server: LLMockServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service whose provider is llmock."""
    settings = {"OPENAI_BASE_URL": llmock_server.base_url(), "OPENAI_API_KEY": "sk-test"}
    idle = str(IDLE_TIMEOUT_S)
    async with (
        service(MODEL="openai:gpt-4o", MODEL_IDLE_TIMEOUT_S=idle, **settings) as running,
        running.client() as made,
    ):
        await start(made, wait_s=20)  # the first call loads half of the SDK; that is not silence
        yield made
        assert "Traceback" not in "".join(running.log), running.log


async def records(llmock: LLMock) -> list[RequestRecord]:
    """What llmock remembers, once it has noticed what became of every request."""
    return await anyio.to_thread.run_sync(lambda: llmock.requests)


async def start(client: httpx.AsyncClient, wait_s: float = 0) -> Run:
    body = {"input": "A story, please."}
    response = await client.post("/runs", json=body, params={"wait": wait_s})
    run: Run = response.json()
    return run


async def log_of(client: httpx.AsyncClient, run: Run) -> list[laws.LogEvent]:
    events = laws.parse((await client.get(run["links"]["events"])).content)
    laws.check(events)
    return events


def all_of(events: list[laws.LogEvent], name: str) -> list[laws.LogEvent]:
    return [event for event in events if event["event"] == name]


# --- stopped --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Telling:
    """Who tells a long story when somebody presses Stop: so many replies, shown by these events."""

    replies: int
    shown: str
    calls: tuple[ToolCall, ...] = ()

    def script(self, llmock: LLMock) -> None:
        if self.calls:
            llmock.add(Reply(tool_calls=self.calls))
        llmock.add(Reply(text=TEXT, times=self.replies)).pace(PACE_MS)


def to(member: str) -> ToolCall:
    return ToolCall(DELEGATE, {"member_id": member, "task": "Tell it."})


@pytest.mark.parametrize(
    "telling",
    [
        pytest.param(Telling(1, "event: TeamRunContent"), id="the leader"),
        pytest.param(Telling(1, "event: RunContent", (to("editor"),)), id="a member"),
        pytest.param(
            Telling(2, "event: RunContent", (to("storyteller"), to("editor"))), id="two members"
        ),
    ],
)
async def test_a_cancel_in_mid_text_ends_the_replies_where_they_are(
    client: httpx.AsyncClient, llmock: LLMock, telling: Telling
) -> None:
    telling.script(llmock)
    run = await start(client)
    async with reading(client, run["run_id"]) as watcher:
        await watcher.until(telling.shown, 10 * telling.replies)
        pressed = time.monotonic()
        response = await client.delete(run["links"]["self"], params={"wait": 20})
        assert (response.status_code, response.json()["status"]) == (200, "cancelled")
        await watcher.over()
    laws.check(watcher.events)
    remembered = await records(llmock)
    aborted = [record for record in remembered if not record.completed]
    assert len(aborted) == telling.replies
    for record in aborted:
        assert (record.status, record.fault) == (200, None)
        assert LEAD_IN < record.chunks_sent < len(WORDS) / 2
    heard = [e["content"] for e in watcher.events if telling.shown.endswith(f" {e['event']}")]
    assert len(heard) <= sum(record.chunks_sent - LEAD_IN for record in aborted)
    latest_ms = max(record.ended_at - pressed for record in aborted) * 1000
    FIGURES.append(f"DELETE to llmock's end of {telling.replies} replies: {latest_ms:.1f} ms")
    await nothing_grows(client, llmock, remembered)


async def nothing_grows(
    client: httpx.AsyncClient, llmock: LLMock, remembered: list[RequestRecord]
) -> None:
    """Let another run go from its beginning to its end; the record of the first stays as it is."""
    llmock.pace(0).reply("The end.")
    run = await start(client, wait_s=20)
    assert (run["status"], run["content"]) == ("completed", "The end.")
    *before, _ = await records(llmock)
    assert before == remembered


# --- broken ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """What goes wrong in the leader's only reply, and the run's `error` that comes of it.

    Of `words` fewer may be heard where the connection breaks: the HTTP client lets go of what came
    in the same moment as the break, and on a busy machine that is more than one.
    """

    name: str
    script: Callable[[LLMock], LLMock]
    code: str
    upstream_status: int | None = None
    words: int = 0
    requests: int = 1
    breaks: bool = False


MID_TEXT = LEAD_IN + 3
BROKEN = [
    Broken(
        "disconnect",
        lambda it: it.disconnect(after_chunks=MID_TEXT),
        "model_incomplete",
        words=3,
        breaks=True,
    ),
    Broken(
        "truncate",
        lambda it: it.truncate(after_chunks=MID_TEXT),
        "model_incomplete",
        words=3,
        breaks=True,
    ),
    Broken("truncate at once", lambda it: it.truncate(after_chunks=1), "model_incomplete"),
    Broken("malformed", lambda it: it.corrupt(after_chunks=MID_TEXT), "model_error", words=3),
    Broken("stall", lambda it: it.stall(after_chunks=MID_TEXT), "model_timeout", words=3),
    Broken("stall at once", lambda it: it.stall(after_chunks=1), "model_timeout"),
    Broken("slow first token", lambda it: it.slow_first_token(30), "model_timeout"),
    Broken("400", lambda it: it.fail(400), "model_error", 400),
    Broken("401", lambda it: it.fail(401), "model_error", 401),
    Broken("outage", lambda it: it.outage(), "model_error", 503, requests=3),
]


@pytest.mark.parametrize("broken", [pytest.param(one, id=one.name) for one in BROKEN])
async def test_a_broken_reply_is_the_runs_error_and_never_its_completion(
    client: httpx.AsyncClient, llmock: LLMock, broken: Broken
) -> None:
    broken.script(llmock.reply(TEXT))
    run = await start(client, wait_s=20)
    assert run["status"] == "error"
    assert run["error"]["code"] == broken.code
    assert run["error"]["upstream_status"] == broken.upstream_status
    heard = run["content"].count(" ")
    assert run["content"] == "".join(WORDS[:heard])
    assert heard <= broken.words
    assert heard == broken.words or broken.breaks
    events = await log_of(client, run)
    assert len(all_of(events, "TeamModelRetry")) == broken.requests - 1
    for record in await records(llmock):
        assert record.stall_waited is None or record.stall_waited < 2 * IDLE_TIMEOUT_S
    assert len(await records(llmock)) == broken.requests


async def test_a_connection_lost_before_the_first_word_is_tried_again(
    client: httpx.AsyncClient, llmock: LLMock
) -> None:
    llmock.disconnect(after_chunks=1).add(Reply(text="Here.", times=2))
    run = await start(client, wait_s=20)
    assert (run["status"], run["content"]) == ("completed", "Here.")
    (retry,) = all_of(await log_of(client, run), "TeamModelRetry")
    assert (retry["code"], retry["upstream_status"]) == ("connection_error", None)
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize(
    ("status", "code", "retry_after"),
    [(429, "rate_limited", 1.2), (503, "server_error", None), (500, "server_error", None)],
)
async def test_a_refusal_that_may_pass_is_waited_for_and_tried_again(
    client: httpx.AsyncClient,
    llmock: LLMock,
    status: int,
    code: str,
    retry_after: float | None,
) -> None:
    llmock.fail(status, retry_after=retry_after).reply("Here.")
    run = await start(client, wait_s=20)
    assert (run["status"], run["content"]) == ("completed", "Here.")
    (retry,) = all_of(await log_of(client, run), "TeamModelRetry")
    assert (retry["attempt"], retry["code"], retry["upstream_status"]) == (1, code, status)
    assert retry["delay_s"] >= (retry_after or 0.25)
    refused, answered = await records(llmock)
    assert answered.started_at - refused.ended_at >= retry["delay_s"] - 0.01
    llmock.assert_resilient(strict=True)


# --- tools ----------------------------------------------------------------------------------------


async def test_a_team_works_as_it_should_when_nothing_is_broken(
    client: httpx.AsyncClient, llmock: LLMock
) -> None:
    """llmock calls a tool that it is offered, by itself, and answers when it has the result."""
    run = await start(client, wait_s=20)
    (member,) = run["members"]
    assert (run["status"], member["status"]) == ("completed", "completed")
    assert run["content"]
    (call,) = all_of(await log_of(client, run), "TeamToolCallCompleted")
    assert (call["tool_name"], call["status"]) == (DELEGATE, "completed")
    assert len(await records(llmock)) == 3
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("kind", ["unknown_tool", "malformed_arguments"])
async def test_a_broken_tool_call_is_a_result_that_the_leader_reads(
    client: httpx.AsyncClient, llmock: LLMock, kind: str
) -> None:
    llmock.break_tool_call(kind)
    run = await start(client, wait_s=20)
    assert (run["status"], run["members"]) == ("completed", [])
    events = await log_of(client, run)
    (begun,) = all_of(events, "TeamToolCallStarted")
    (done,) = all_of(events, "TeamToolCallCompleted")
    assert done["status"] == "error"
    assert (begun["tool_name"] == DELEGATE) == (kind == "malformed_arguments")
    _, last = await records(llmock)
    assert last.body["input"][-1]["output"] == done["result"]
    llmock.assert_resilient(strict=True)
