"""The client that the README shows in TypeScript: it compiles strictly, and reads a whole run."""

from __future__ import annotations

import json
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from pathlib import Path

import anyio
import pytest

from tests import laws
from tests.cancellation.bench import bench
from tests.upstream import Say, in_turn

pytestmark = [pytest.mark.anyio, pytest.mark.system]

HERE = Path(__file__).parent
COMPILED = HERE / "node_modules" / ".cache" / "follow"
COMPILER = "node_modules/typescript/bin/tsc"
AS_NODE_WANTS = ("--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext")
FOLLOW = (
    f"import {{ follow }} from '{COMPILED}/follow.js';"
    "await follow(process.argv[1], (event) => console.log(JSON.stringify(event)));"
)


async def node(*arguments: str | Path) -> bytes:
    process = await create_subprocess_exec(
        "node", *arguments, cwd=HERE, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    with anyio.fail_after(60):
        out, err = await process.communicate()
    assert (process.returncode, err) == (0, b""), out + err
    return out


async def test_it_compiles_and_reads_a_run_to_its_end() -> None:
    await node(COMPILER, *AS_NODE_WANTS, "--outDir", COMPILED, "follow.ts")
    async with bench() as stand:
        stand.upstream.script = in_turn([Say("Once ", "\U0001f600\u2028", "there was.")])
        run_id = await stand.start()
        url = f"{stand.running.url}/runs/{run_id}/events"
        told = await node("--input-type=module", "-e", FOLLOW, url)
        log = laws.parse((await stand.client.get(url)).content)
    assert [json.loads(line) for line in told.splitlines()] == log
    assert log[-1]["event"] == "TeamRunCompleted"
