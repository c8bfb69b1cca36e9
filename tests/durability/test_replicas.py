"""Two replicas are one service: keys, sessions, lists; and two processes share no file."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest

from tests.durability.amounts import amount
from tests.durability.stand import Stand, stand
from tests.durability.verdict import ended_once
from tests.figures import FIGURES
from tests.upstream import Hold, Json, Say, in_turn

pytestmark = pytest.mark.anyio

KEYS = amount(3, 10, 100)
AT_ONCE = 50
LEASE_TTL_S = 1.0
START_S = 20.0


async def test_a_key_sent_fifty_times_at_once_to_two_replicas_starts_one_run(pair: Stand) -> None:
    pair.upstream.script = in_turn([Say("Once", " upon", every_s=0.02)])
    for _ in range(KEYS):
        calls, before = len(pair.upstream.exchanges), len(await pair.run_ids())
        answers = await fifty_at_once(pair, key=str(uuid4()))
        assert {answer.status_code for answer in answers} <= {200, 202}
        (run_id,) = {answer.json()["run_id"] for answer in answers}
        replayed = Counter(answer.headers.get("Idempotency-Replayed") for answer in answers)
        assert replayed == {None: 1, "true": AT_ONCE - 1}
        await ended_once(pair, run_id)
        assert len(pair.upstream.exchanges) == calls + 1
        assert len(await pair.run_ids()) == before + 1
    FIGURES.append(f"Idempotency-Key: {KEYS} x {AT_ONCE} at once over two replicas, a run each")


async def fifty_at_once(made: Stand, key: str) -> list[httpx.Response]:
    answers: list[httpx.Response] = []

    async def one(url: str) -> None:
        body, headers = {"input": "Go."}, {"Idempotency-Key": key}
        answers.append(await made.client.post(f"{url}/runs", json=body, headers=headers))

    async with anyio.create_task_group() as group:
        for number in range(AT_ONCE):
            group.start_soon(one, made.replicas[number % 2].url)
    return answers


async def test_a_key_used_with_another_body_elsewhere_is_refused(pair: Stand) -> None:
    pair.upstream.script = in_turn([Say("Once")])
    headers = {"Idempotency-Key": str(uuid4())}
    here, there = (f"{replica.url}/runs" for replica in pair.replicas)
    first = await pair.client.post(here, json={"input": "Go."}, headers=headers)
    other = await pair.client.post(there, json={"input": "Stay."}, headers=headers)
    assert (first.status_code, other.status_code) == (202, 422)
    assert other.json()["code"] == "idempotency_key_reused"


async def test_a_session_goes_on_at_another_replica(pair: Stand) -> None:
    here, there = (replica.url for replica in pair.replicas)
    session = uuid4().hex
    pair.upstream.script = in_turn([Say("Blue.")])
    first = await pair.start(here, input="My colour?", session_id=session)
    await pair.settled(there, first)
    pair.upstream.script = in_turn([Say("Well"), Hold()])
    calls = len(pair.upstream.exchanges)
    second = await pair.start(there, input="Sure?", session_id=session)
    await (await pair.upstream.arrived(calls + 1)).wrote(1)
    await until_said(pair, here, second, "Well")
    await pair.client.delete(f"{here}/runs/{second}")
    await ended_once(pair, second, here)
    pair.upstream.script = in_turn([Say("Yes.")])
    third = await pair.start(here, input="So?", session_id=session)
    await ended_once(pair, third, there)
    told = [text_of(item) for item in pair.upstream.exchanges[-1].body["input"]]
    assert told == ["My colour?", "Blue.", "Sure?", "Well [stopped]", "So?"]


async def until_said(made: Stand, url: str, run_id: str, text: str) -> None:
    with anyio.fail_after(10):
        while (await made.settled(url, run_id, wait_s=0))["content"] != text:
            pass


def text_of(item: Json) -> str:
    """The text of one item of a conversation, in whichever of the API's two shapes."""
    content: Any = item["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


async def test_a_second_process_on_a_file_waits_and_ends_with_one_clear_sentence(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"
    async with stand(f"sqlite:{path}"):
        begin = anyio.current_time()
        status, said = await run_to_its_end(f"sqlite:{path}")
        took = anyio.current_time() - begin
    assert status == 2, said
    assert said.splitlines()[-1].startswith("team-runs: ")
    assert "in use by another process" in said
    assert "Traceback" not in said
    assert LEASE_TTL_S < took < LEASE_TTL_S + START_S


async def run_to_its_end(store_url: str) -> tuple[int | None, str]:
    """Serve from a store until that ends by itself; return exit status and output."""
    settings = {"STORE_URL": store_url, "MODEL": "scripted:", "PORT": "0"}
    settings |= {"LEASE_TTL_S": str(LEASE_TTL_S), "LOG_FORMAT": "text"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", "serve"),
        env=os.environ | {f"TEAM_RUNS_{name}": value for name, value in settings.items()},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        with anyio.fail_after(START_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    return process.returncode, said.decode()


async def test_a_restart_that_overlaps_waits_for_the_file_and_goes_on(tmp_path: Path) -> None:
    async with stand(f"sqlite:{tmp_path}/runs.db", DRAIN_TIMEOUT_S="2") as made:
        (old,) = made.replicas
        made.upstream.script = in_turn([Say("Once"), Hold()])
        run_id = await made.start(old.url)
        await (await made.upstream.arrived(1)).wrote(1)
        new = made.join()
        async with anyio.create_task_group() as group:
            group.start_soon(new.start)
            old.running.stop()
            assert await old.gone() == 0
        run = await ended_once(made, run_id)
        assert run["error"]["code"] == "interrupted"
        made.upstream.script = in_turn([Say("Again.")])
        again = await ended_once(made, await made.start(made.url))
        assert again["content"] == "Again."
