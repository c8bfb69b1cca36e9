"""Where an event's CPU goes: what the service is at, looked at again and again by py-spy.

A share is that of the samples whose innermost Python function is in a part's files, what it calls
in C included. Only threads that hold the interpreter are looked at, for one that waits for the
kernel looks busy from outside; what CPU is not seen there is the event loop's and the kernel's.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.benchmarks.bench import Bench
from tests.benchmarks.client import Tally
from tests.benchmarks.measures import SETTLE_S, Load, streams
from tests.benchmarks.servers import AGENTOS_PYTHON, Target, serving
from tests.benchmarks.upstream import Plan

PY_SPY: Final = AGENTOS_PYTHON.with_name("py-spy")
"""It is of the extra `benchmarks`, like AgentOS."""

SECTION: Final = "Shares of an event's CPU, {} runs x 20 tokens a second"
_SECONDS: Final = 10
_RATE: Final = 400
PARTS: Final = (
    ("aiohttp and the SDK's transport", ("/aiohttp/", "/httpx2/", "/openai/")),
    ("reading what the model says", ("/app/models/",)),
    ("the team loop and its events", ("/app/runtime/", "/app/domain/")),
    ("the store and its readers", ("/app/stores/", "/app/api/following.py")),
    ("figures", ("/app/observer/", "/app/telemetry/")),
    ("sending", ("/app/api/", "/sse_starlette/", "/starlette/", "/uvicorn/protocols/")),
    ("tasks and scopes", ("/anyio/", "/asyncio/tasks.py", "/asyncio/futures.py")),
)
REST: Final = "the event loop and the kernel"
_INNERMOST: Final = re.compile(r"\(([^()]+):\d+\) (\d+)$", re.MULTILINE)


async def shares(bench: Bench, target: Target, runs: int = 100) -> None:
    """Say how much of the CPU of a paced event each part takes, in percent."""
    if not PY_SPY.exists():
        bench.report.note("py-spy: not installed, see tests/benchmarks/__init__.py")
        return
    load, bench.upstream.plan = Load(runs), Plan()
    tally = Tally(target.marker, target.final)
    async with (
        serving(target, bench.upstream.port) as server,
        streams(server, bench.upstream, tally, load),
    ):
        await asyncio.sleep(SETTLE_S)
        begun, cpu = time.monotonic(), server.cpu
        stacks = await _record(server.process.pid)
        busy = (server.cpu - cpu) / (time.monotonic() - begun)
    seen = by_part(stacks)
    seen[REST] += max(0, round(busy * _RATE * _SECONDS) - seen.total())
    bench.report.section(SECTION.format(runs))
    for name, count in seen.most_common():
        share = 100 * count / seen.total()
        bench.report.add("share of an event's CPU", name, "%", [share])


async def _record(pid: int) -> str:
    """Return py-spy's stacks, one a line, each with how often it was seen."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "stacks"
        asked = f"record --gil --pid {pid} --rate {_RATE} --duration {_SECONDS} --format raw"
        command: Sequence[str] = [*asked.split(), "--full-filenames", "--output", str(file)]
        spy = await asyncio.create_subprocess_exec(
            PY_SPY, *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, complaints = await spy.communicate()
        if spy.returncode:
            raise OSError(complaints.decode())
        return file.read_text("utf-8")


def by_part(stacks: str) -> Counter[str]:
    """Return how often py-spy's stacks, each a line that ends with a number, were in a part."""
    seen = Counter[str]()
    for file, count in _INNERMOST.findall(stacks):
        name = next((name for name, paths in PARTS if any(p in file for p in paths)), REST)
        seen[name] += int(count)
    return seen
