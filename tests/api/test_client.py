"""A typed client, generated from the committed document, starts, reads and stops runs.

The generator is openapi-python-client; it takes OpenAPI up to 3.1, so it is fed a copy whose
version says so. It does not know `itemSchema`, which 3.2 added: it makes a class of every event all
the same, and the stream is read with httpx-sse, each frame into the class of its name.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from httpx_sse import aconnect_sse

from app.domain.events import EVENT_NAMES
from tests.api.serving import Served, serving
from tests.api.test_openapi import DOCUMENT
from tests.api.test_runs import has_spoken, stuck
from tests.runtime.playing import Cast, delegating_to, saying

pytestmark = pytest.mark.anyio

NAME = "generated_client"


def downgraded() -> str:
    """Return the document as one of OpenAPI 3.1."""
    return json.dumps({**DOCUMENT, "openapi": "3.1.1"})


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("client")
    generate(folder)
    sys.path.insert(0, str(folder))
    try:
        yield import_module(NAME)
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
            del sys.modules[name]


def generate(folder: Path) -> None:
    (folder / "openapi.json").write_text(downgraded())
    (folder / "settings.yaml").write_text("post_hooks: []\n")  # they would format and lint it
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"]
    options = ["--path=openapi.json", "--config=settings.yaml", f"--output-path={NAME}"]
    made = subprocess.run(  # noqa: S603 - the arguments are ours
        [*command, *options, "--meta=none"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr


class Client:
    """The generated client, aimed at a served API."""

    def __init__(self, generated_client: Any, served: Served) -> None:
        self.models: Any = import_module(f"{NAME}.models")
        self._client = generated_client
        self._served = served

    async def call(self, tag: str, operation: str, *args: Any, **kwargs: Any) -> Any:
        """Call an operation; return the whole answer, `parsed` in it."""
        module = import_module(f"{NAME}.api.{tag}.{operation}")
        return await module.asyncio_detailed(*args, client=self._client, **kwargs)

    async def start(self, **keys: Any) -> Any:
        body = self.models.RunBody.from_dict({"input": "Hello.", **keys})
        return (await self.call("runs", "start_run", body=body)).parsed

    async def events(self, run_id: Any) -> AsyncIterator[Any]:
        """Read a run's events, each as an object of its own class."""
        async with aconnect_sse(self._served.client, "GET", f"/runs/{run_id}/events") as source:
            async for event in source.aiter_sse():
                yield getattr(self.models, event.event).from_dict(event.json())


@asynccontextmanager
async def calling(generated: ModuleType, served: Served) -> AsyncIterator[Client]:
    async with generated.Client(base_url=str(served.client.base_url)) as client:
        yield Client(client, served)


async def test_it_has_a_class_for_every_event(generated: ModuleType) -> None:
    models = import_module(f"{generated.__name__}.models")
    for name in EVENT_NAMES:
        assert "seq" in getattr(models, name).__annotations__, name


async def test_it_starts_a_run_reads_it_and_follows_its_events(generated: ModuleType) -> None:
    cast = Cast(delegating_to("writer"), {"writer": saying("A ", "tale.")})
    async with serving(cast) as served, calling(generated, served) as client:
        run = await client.start(metadata={"k": "v"})
        assert (run.status, run.metadata.to_dict()) == (client.models.Status.PENDING, {"k": "v"})
        events = [event async for event in client.events(run.run_id)]
        assert [event.seq for event in events] == [*range(1, len(events) + 1)]
        assert isinstance(events[0], client.models.TeamRunStarted)
        assert isinstance(events[-1], client.models.TeamRunCompleted)
        pieces = [event.content for event in events if isinstance(event, client.models.RunContent)]
        assert pieces == ["A ", "tale."]
        ended = (await client.call("runs", "get_run", run.run_id)).parsed
        assert ended.status == client.models.Status.COMPLETED
        assert ended.content == events[-1].content == "The end."
        (member,) = ended.members
        found = (await client.call("runs", "get_run", member.run_id)).parsed
        assert isinstance(found, client.models.MemberRun)
        assert found.parent_run_id == run.run_id


async def test_it_stops_a_run(generated: ModuleType) -> None:
    async with serving(stuck()) as served, calling(generated, served) as client:
        run = await client.start()
        await has_spoken(served, str(run.run_id))
        stopped = await client.call("runs", "cancel_run", run.run_id, reason="enough", wait=10)
        assert (stopped.status_code, stopped.parsed.status) == (200, client.models.Status.CANCELLED)
        assert (stopped.parsed.cancel.reason, stopped.parsed.content) == ("enough", "Once ")
        events = [event async for event in client.events(run.run_id)]
        assert isinstance(events[-1], client.models.TeamRunCancelled)
        assert events[-1].reason == "enough"


async def test_it_reads_problems(generated: ModuleType) -> None:
    async with serving() as served, calling(generated, served) as client:
        run = await served.finish()
        late = await client.call("runs", "cancel_run", run["run_id"])
        assert isinstance(late.parsed, client.models.RunFinished)
        assert str(late.parsed.run.run_id) == run["run_id"]
        assert late.parsed.run.content == run["content"]
        refused = await client.start(input=" ")
        assert isinstance(refused, client.models.InvalidRequest)
        assert [flaw.loc for flaw in refused.errors] == [["body", "input"]]


async def test_it_lists_runs_and_teams(generated: ModuleType) -> None:
    async with serving() as served, calling(generated, served) as client:
        run = await served.finish()
        done = [client.models.Status.COMPLETED]
        page = (await client.call("runs", "list_runs", status=done, limit=1)).parsed
        assert [str(one.run_id) for one in page.runs] == [run["run_id"]]
        teams = (await client.call("teams", "list_teams")).parsed
        assert [team.id for team in teams.teams] == ["team"]
