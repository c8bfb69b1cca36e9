"""What a run leaves in the log: one line for each thing that happened, and nobody's words."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from app.domain.errors import ModelFailed
from app.domain.run import Run, RunRequest
from app.models.scripted import Fail, RetrySoon, Say, Script, Step, Until
from app.observer.facts import (
    AbandonedRunEnded,
    DrainBegan,
    DrainEnded,
    LeaseLost,
    ReaderGone,
    StoreBack,
    StoreLost,
)
from app.observer.telling import REQUEST_ID, Observers
from app.ports import Retry
from app.runtime.orders import Order
from app.telemetry.journal import Journal
from app.telemetry.logging import OURS, configure_logging
from tests.api.serving import services_for, serving
from tests.runtime.playing import Cast, Stage, delegating_to, playing, saying
from tests.service import service
from tests.upstream import Json, Plan, Upstream
from tests.upstream import Say as Speak

pytestmark = pytest.mark.anyio

Line = dict[str, Any]
STUCK: Script = lambda _: [Say("canary-answer "), Until(anyio.Event())]  # noqa: E731 - in one line


@dataclass
class Log:
    """What was logged."""

    out: io.StringIO

    @property
    def lines(self) -> list[Line]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    @property
    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines]

    def one(self, message: str) -> Line:
        """Return the line with this message, of which there is one."""
        (found,) = (line for line in self.lines if line["message"] == message)
        return {key: value for key, value in found.items() if key not in ("time", "message")}


@pytest.fixture
def log() -> Iterator[Log]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    out = io.StringIO()
    configure_logging("info", "json", out)
    yield Log(out)
    root.handlers[:], root.level = before
    logging.getLogger("uvicorn.access").disabled = False
    for name in OURS:
        logging.getLogger(name).setLevel(logging.NOTSET)


@asynccontextmanager
async def told(cast: Cast) -> AsyncIterator[Stage]:
    async with playing(cast, observers=Observers(Journal())) as stage:
        yield stage
        with anyio.fail_after(10):
            while stage.runner.load.running:
                await anyio.lowlevel.checkpoint()


async def test_a_run_that_answers_is_four_lines(log: Log) -> None:
    async with told(Cast(delegating_to("a"), {"a": saying("canary-answer")})) as stage:
        run = await stage.start(Order("canary-prompt", tenant="acme"))
        await stage.log(run)
    assert log.messages == ["run accepted", "run started", "member ended", "run ended"]
    ids = {"run_id": run.run_id, "team_id": "team", "tenant": "acme"}
    assert all(ids.items() <= line.items() for line in log.lines)
    end = log.one("run ended")
    assert (end["status"], end["level"]) == ("completed", "info")
    assert end["duration_s"] >= log.one("member ended")["duration_s"]
    assert end["output_tokens"] == run.usage.output_tokens
    member = log.one("member ended")
    assert (member["member_id"], member["member_run_id"]) == ("a", next(iter(run.members)))
    assert member["output_tokens"] == run.members[member["member_run_id"]].usage.output_tokens
    assert "canary" not in log.out.getvalue()


async def test_a_stop_is_told_when_it_is_asked_for_and_when_it_is_done(log: Log) -> None:
    async with told(Cast(delegating_to("a"), {"a": STUCK})) as stage:
        run = await stage.start()
        await stage.until(run, lambda: run.last_event_id >= 4)
        await stage.runner.cancel(run.run_id, "canary-reason", "request")
        await stage.runner.cancel(run.run_id, "canary-reason again", "request")
        await stage.log(run)
    assert log.messages[2:] == ["cancel requested", "member ended", "run ended"]
    assert log.one("cancel requested")["by"] == "request"
    assert log.one("cancel requested")["run_id"] == run.run_id
    assert [line["status"] for line in log.lines[3:]] == ["cancelled", "cancelled"]
    assert "canary" not in log.out.getvalue()


async def test_failures_and_retries_are_warnings_with_their_codes(log: Log) -> None:
    failed = ModelFailed(
        "model_error", "canary-sentence", upstream_status=500, upstream_code="server_error"
    )
    steps: list[Step] = [RetrySoon(Retry(1, 0.0, "rate_limited", 429)), Fail(failed)]
    async with told(Cast(lambda _: steps)) as stage:
        await stage.log(await stage.start())
    retry, call, end = (
        log.one(message) for message in ("model call repeated", "model call ended", "run ended")
    )
    assert (retry["code"], retry["upstream_status"], retry["attempt"]) == ("rate_limited", 429, 1)
    assert (call["code"], call["upstream_code"]) == ("model_error", "server_error")
    assert end["code"] == "model_error"
    assert {line["level"] for line in (retry, call, end)} == {"warning"}
    assert "canary" not in log.out.getvalue()


async def test_a_request_and_the_run_it_started_have_one_id(log: Log) -> None:
    observers = Observers(Journal())
    services = services_for(Cast(saying("x")), observers=observers)
    async with serving(services=services) as served:
        answers = [await served.client.post("/runs?wait=10", json={"input": "x"}) for _ in "ab"]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == 2
    for answer, id_ in zip(answers, ids, strict=True):
        of_run = [line for line in log.lines if line.get("run_id") == answer.json()["run_id"]]
        assert [line["message"] for line in of_run] == ["run accepted", "run started", "run ended"]
        assert {line["request_id"] for line in of_run} == {id_}


def test_a_line_without_a_request_has_no_request_id(log: Log) -> None:
    assert REQUEST_ID.get() is None
    logging.getLogger("app").info("hello")
    assert "request_id" not in log.one("hello")


def test_what_happens_to_the_process_is_told(log: Log) -> None:
    journal = Journal()
    now = "2026-11-22T09:57:12.123Z"
    for fact in (
        LeaseLost("run"),
        AbandonedRunEnded(Run(RunRequest("run", "team", "Team", "canary-prompt", now, 900))),
        StoreLost(),
        StoreBack(2.34567),
        DrainBegan(3),
        DrainEnded(0, 1.5),
        ReaderGone("run", "left", 10, 1.0),
        ReaderGone("run", "dropped", 10, 1.0),
        ReaderGone("run", "completed", 10, 1.0),
    ):
        journal.note(fact)
    assert [(line["level"], line["message"]) for line in log.lines] == [
        ("warning", "lease lost"),
        ("warning", "abandoned run ended"),
        ("error", "store does not answer"),
        ("warning", "store answers again"),
        ("info", "drain began"),
        ("info", "drain ended"),
        ("info", "reader left"),
        ("warning", "reader dropped"),
    ]
    assert log.one("store answers again")["outage_s"] == 2.346
    assert log.one("drain began")["unfinished"] == 3
    assert log.one("reader left")["sent_bytes"] == 10
    assert "canary" not in log.out.getvalue()


async def test_a_service_tells_its_runs_and_its_drain_in_json_off_a_terminal(
    tmp_path: Path,
) -> None:
    def script(body: Json, number: int) -> Plan:
        return [Speak("canary-answer")]

    async with Upstream(script) as upstream:
        settings = {
            "OPENAI_API_KEY": "canary-key",
            "OPENAI_BASE_URL": upstream.base_url,
            "STORE_URL": f"sqlite:{tmp_path / 'runs.db'}",
            "LOG_FORMAT": "json",
        }
        async with service(**settings) as running:
            async with running.client() as client:
                await client.post("/runs?wait=20", json={"input": "canary-prompt"})
            running.stop()
            await running.ended()
    lines = [json.loads(line) for line in running.log]
    messages = [line["message"] for line in lines if line["logger"] == "app.telemetry.journal"]
    assert messages == ["run accepted", "run started", "run ended", "drain began", "drain ended"]
    assert "uvicorn.error" in {line["logger"] for line in lines}
    assert "canary" not in "".join(running.log)
