"""The file is locked by another program, or its disk is full, under load."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from tests.durability.amounts import amount
from tests.durability.load import Load, driving
from tests.durability.mix import Mix
from tests.durability.probes import all_back, fails_closed
from tests.durability.stand import SEED, Stand, stand
from tests.durability.verdict import nothing_is_lost, stop_all
from tests.figures import FIGURES
from tests.stores.scene import locked
from tests.upstream import Hold, Open, in_turn

pytestmark = pytest.mark.anyio

OUTAGE_S = amount(3, 10, 10)
PATIENCE_S = 5.0
"""For how long a run holds back what its store does not take."""
RUNS = 15
FILLER_BYTES = 600_000
"""Most of the disk: what comes free must hold the ends of all runs that were taken before."""
FULL_S = 60.0
IN_A_ROW = 10


async def start_silent(made: Stand) -> str:
    """Start a run that says nothing; return its id."""
    made.upstream.script = in_turn([Open(), Hold()])
    run_id = await made.start(made.url)
    await made.upstream.arrived(1)
    return run_id


async def test_a_foreign_lock_is_told_in_time_and_gone_when_it_is_over(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with stand(f"sqlite:{path}") as made:
        silent = await start_silent(made)
        async with driving(made) as load:
            made.upstream.script = Mix(SEED).script
            await load.started(RUNS)
            with locked(path):
                over = anyio.current_time() + OUTAGE_S
                refused = await fails_closed(made, silent)
                response = await made.client.get(f"{made.url}/runs/{next(iter(load.acknowledged))}")
                assert response.status_code == 200, "what is there can be read all the while"
                await anyio.sleep_until(over)
            back = await all_back(made)
            await load.started(RUNS)
            await ends_well(f"a foreign lock for {OUTAGE_S} s", made, load, refused, back)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=True)  # noqa: S603, S607 - root's own
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)  # noqa: S603, S607 - root's own


@pytest.mark.system
async def test_a_full_disk_is_told_and_gone_when_there_is_room_again(disk: Path) -> None:
    filler = disk / "filler"
    filler.write_bytes(bytes(FILLER_BYTES))
    async with stand(f"sqlite:{disk}/runs.db") as made:
        silent = await start_silent(made)
        async with driving(made) as load:
            made.upstream.script = Mix(SEED).script
            await until_nothing_fits(made)
            over = anyio.current_time() + OUTAGE_S
            refused = await fails_closed(made, silent)
            await anyio.sleep_until(over)
            load.stop()
            filler.unlink()
            back = await all_back(made)
            await ends_well("a full disk", made, load, refused, back)


async def until_nothing_fits(made: Stand) -> None:
    """Return when the disk has no room for a single page.

    A little fits when more does not; each asking whether the store is ready takes a page of that.
    """
    refused = 0
    with anyio.fail_after(FULL_S):
        while refused < IN_A_ROW:
            ready = await made.client.get(f"{made.url}/readyz")
            refused = refused + 1 if ready.status_code == 503 else 0


async def ends_well(what: str, made: Stand, load: Load, refused: float, back: float) -> None:
    load.stop()
    await stop_all(made)
    ended = await nothing_is_lost(made, load)
    assert set(ended) <= {"completed", "cancelled", "store_unavailable"}
    if OUTAGE_S < PATIENCE_S:
        assert not ended["store_unavailable"], "a short outage costs no run"
    FIGURES.append(
        f"{what}: refused after {refused:.2f} s, back after {back:.2f} s; {dict(ended)};"
        f" asked: {dict(sorted(load.seen.items()))}"
    )
