"""Whether a run ended once, and everybody who is asked says the same; seen from outside."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import anyio

from tests import laws
from tests.durability.load import Load
from tests.durability.returning import frames_in
from tests.durability.stand import Stand

FINAL: Final = {
    "TeamRunCompleted": "completed",
    "TeamRunCancelled": "cancelled",
    "TeamRunError": "error",
}
ENDED_S: Final = 30.0
"""How long a reader may still wait when nothing disturbs it any more."""


async def log_at(stand: Stand, url: str, run_id: str) -> bytes:
    """The log of a run that has ended, as this replica tells it."""
    response = await stand.client.get(f"{url}/runs/{run_id}/events")
    assert response.status_code == 200, response.text
    return frames_in(response.content)


async def ended_once(stand: Stand, run_id: str, url: str | None = None) -> dict[str, Any]:
    """Hold a run's log against the laws and against its status; return the run."""
    url = url or stand.url
    run = await stand.settled(url, run_id)
    events = laws.parse(await log_at(stand, url, run_id))
    laws.check(events)
    final = events[-1]
    told = {"status": FINAL[final["event"]], "last_event_id": final["seq"]}
    told |= {key: final[key] for key in ("content", "usage", "error") if key in final}
    assert {key: run[key] for key in told} == told, run_id
    assert (run["cancel"] is not None) == (run["status"] == "cancelled")
    return run


async def nothing_is_lost(stand: Stand, load: Load) -> Counter[str]:
    """Hold everything that was promised against what there is; return how the load's runs ended.

    Runs are there that nobody acknowledged: their answers are unknown, and they too end once.
    """
    with anyio.fail_after(ENDED_S):
        await load.idle()
    listed = await stand.run_ids()
    assert len(listed) == len(set(listed))
    there = set(listed) - load.earlier
    assert set(load.acknowledged) <= there
    ended: Counter[str] = Counter()
    for run_id in there:
        run = await ended_once(stand, run_id)
        ended[run["error"]["code"] if run["error"] else run["status"]] += 1
        assert run_id not in load.promised or run["status"] == "cancelled", "a broken promise"
    for reader in load.readers:
        assert reader.frames == await log_at(stand, stand.url, reader.run_id)
    return ended


async def stop_all(stand: Stand) -> None:
    """Stop every run that has not ended, and return when all have."""
    unfinished = {"status": ["pending", "running", "cancelling"]}
    with anyio.fail_after(ENDED_S):
        while True:
            response = await stand.client.get(f"{stand.url}/runs", params=unfinished)
            assert response.status_code == 200, response.text
            if not (runs := response.json()["runs"]):
                return
            for run in runs:
                address = f"{stand.url}/runs/{run['run_id']}"
                await stand.client.delete(address, params={"wait": 5})
