"""`team-runs demo`, without any setting or key: what the README's first command ends with.

It starts a server, which starts the small model; the witness is the model's own server, which
tells at `/slots` what it was asked for and whether it still writes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.figures import FIGURES
from tests.process.demo import NeverCameError, Transcript, demo
from tests.process.family import PROC, command_of, descendants, listening_ports

pytestmark = pytest.mark.anyio

PROMISED_S = 0.3
SLACK = 5
SLOT_TOKENS = [8192, 8192]
LEADER_TOKENS, MEMBER_TOKENS = 500, 700
LOOK_EVERY_S = 0.02
AIM_S = 20
"""How long a whole run is to last at least, so that a DELETE after 8 s falls into text."""


async def model_below(pid: int) -> tuple[int, str]:
    """Return the model's process below the demo's, and its address, when it serves."""
    while True:
        for one in descendants(pid):
            if "local_server.py" in command_of(one):
                for port in listening_ports(one):
                    return one, f"http://127.0.0.1:{port}"
        await anyio.sleep(LOOK_EVERY_S)


async def slots(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Return what the model's slots do; nothing while it loads."""
    answer = await client.get("/slots")
    return answer.json() if answer.is_success else []


async def caps(client: httpx.AsyncClient) -> list[int]:
    """Return how many tokens the answers may have that are being written."""
    busy = [slot for slot in await slots(client) if slot["is_processing"]]
    return [slot["params"]["max_tokens"] for slot in busy]


async def first_cap(client: httpx.AsyncClient) -> int:
    while not (busy := await caps(client)):  # noqa: ASYNC110 - the model's server tells nobody
        await anyio.sleep(LOOK_EVERY_S)
    return busy[0]


async def test_the_demo_stops_the_local_model_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    try:
        await stop_in_the_members_text(tmp_path)
    except NeverCameError:  # on a machine so busy that nobody has spoken when Stop is pressed
        await stop_in_the_members_text(tmp_path, "--delay", "40")


async def stop_in_the_members_text(folder: Path, *options: str) -> None:
    with anyio.fail_after(90):
        async with demo(folder, *options) as process:
            told = Transcript(process)
            await told.until("Storytelling Team: begins")
            model, url = await model_below(process.pid)
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                assert await first_cap(client) == LEADER_TOKENS
                await told.until(r"\[StorytellerAgent\] \w")
                assert await caps(client) == [MEMBER_TOKENS]
                assert [slot["n_ctx"] for slot in await slots(client)] == SLOT_TOKENS
                await told.until("→ DELETE /runs/")
                asked = time.perf_counter()
                with anyio.fail_after(SLACK * PROMISED_S):
                    while await caps(client):
                        pass
                took = time.perf_counter() - asked
            await told.rest()
            assert await process.wait() == 0, told.text
    FIGURES.append(
        f"demo: the local model idle {1000 * took:.0f} ms after DELETE was announced"
        f" (promised: {1000 * PROMISED_S:.0f})"
    )
    assert told.has_line("status +cancelled$"), told.text
    assert told.has_line("cancelled +yes$")
    assert told.has_line("tokens +about [1-9]")
    assert not (PROC / str(model)).exists()


@pytest.mark.system  # not for what it needs but for how long it takes: half a minute to a minute
async def test_the_demo_that_is_let_be_completes_on_the_local_model(tmp_path: Path) -> None:
    with anyio.fail_after(240):
        async with demo(tmp_path, "--no-cancel") as process:
            told = Transcript(process)
            await told.until("Storytelling Team: begins")
            began = time.perf_counter()
            await told.rest()
            took = time.perf_counter() - began
            assert await process.wait() == 0, told.text
    FIGURES.append(f"demo: a whole run on the local model {took:.0f} s (aim: at least {AIM_S})")
    assert told.has_line("status +completed$"), told.text
    assert told.has_line(r"\[StorytellerAgent\] \w")
    assert told.has_line(r"\[Storytelling Team\] \w")
    assert told.has_line("content +[^(]")
