"""A process that stops a run whose tool never ends, and goes: `python -m tests.tools.leaving KIND`.

Prints when it asked for the end, when the run had ended, and when the process was about to go:
three readings of the machine's monotonic clock.
"""

from __future__ import annotations

import sys
from time import monotonic

import uvloop

from tests.tools.test_cancels import Machine, cast_with, started


async def main(kind: str) -> None:
    machine = Machine()
    async with started(machine, cast_with(getattr(machine, kind))) as (stage, run):
        sys.stdout.write(f"{monotonic()}\n")
        await stage.runner.cancel(run.run_id, None, "request")
        events = await stage.log(run)
        assert events[-1]["event"] == "TeamRunCancelled"
        sys.stdout.write(f"{monotonic()}\n")


uvloop.run(main(sys.argv[1]))
sys.stdout.write(f"{monotonic()}\n")
