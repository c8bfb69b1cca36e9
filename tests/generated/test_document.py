"""schemathesis over the committed OpenAPI document: all its phases and checks, a real process.

`SOAK=full .venv/bin/pytest tests/generated` makes a thousand requests and more of each operation.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import anyio
import pytest

from tests.durability.amounts import amount
from tests.figures import FIGURES
from tests.service import service

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLES = amount(10, 100, 1000)
MINUTES = amount(3, 5, 30)
_GENERATED = re.compile(r"(\d+) generated.*")


async def generate(url: str, folder: Path) -> tuple[int, str]:
    """Run schemathesis; return its exit status and what it says."""
    options = ["--url", url, "--header", "Authorization: Bearer first", "--checks", "all"]
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file"),
        *(str(HERE / "schemathesis.toml"), "run", str(ROOT / "openapi" / "openapi.json")),
        *options,
        *("--max-examples", str(EXAMPLES)),
        *(("--seed", "1") if EXAMPLES < 1000 else ()),  # a check tells of changes, not of luck
    ]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    env["SCHEMATHESIS_HOOKS"] = "tests.generated.hooks"
    with anyio.fail_after(60 * MINUTES):
        ended = await anyio.run_process(command, env=env, cwd=folder, check=False)
    return ended.returncode, (ended.stdout + ended.stderr).decode()


async def test_whatever_is_made_up_from_the_document_gets_the_answer_it_describes(
    tmp_path: Path,
) -> None:
    settings = {
        "API_KEYS": "acme:first,rival:other",
        "MODEL": f"scripted:{HERE / 'script.yaml'}",
        "STORE_URL": "memory:",
        "MAX_RUNS_PER_TENANT": "1200",
    }
    async with service(**settings) as running:
        status, said = await generate(running.url, tmp_path)
        assert status == 0, said
        async with running.client() as client:
            assert (await client.get("/readyz")).status_code == 200
        running.stop()
        assert await running.ended() == 0
    assert [line for line in running.log if "ERROR" in line or "Traceback" in line] == []
    found = _GENERATED.search(said)
    assert found, said
    FIGURES.append(f"requests made up from the OpenAPI document: {found[0]}")
