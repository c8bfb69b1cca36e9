"""What the SQLite store keeps over restarts, and which files it takes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from app.domain.errors import CancelIsDue, ConfigurationError
from app.domain.events import (
    Origin,
    RunCompleted,
    RunContent,
    RunStarted,
    Usage,
)
from app.domain.run import MemberRun
from app.domain.status import Status
from app.ports import Filter
from app.stores.sqlite import SqliteStore
from tests import laws
from tests.contract.test_store import complete, request_for, write
from tests.figures import FIGURES
from tests.stores.kills import kill_writers
from tests.stores.pace import pace_of
from tests.stores.scene import (
    COMPLETED,
    STOP,
    Outcome,
    execute,
    log_of,
    running,
)
from tests.views import everything

pytestmark = pytest.mark.anyio


async def test_runs_are_after_a_restart_what_they_were(path: Path) -> None:
    async with SqliteStore(path) as store:
        done, flagged, pending = (
            await running(store),
            await running(store),
            await store.create(replace(request_for(), session_id="s", metadata={"a": "b"})),
        )
        members = [Origin(f"m{n}", "editor", "Editor", None, flagged.run_id) for n in range(3)]
        for member in members:
            started = RunStarted("m", task="t\ud83d", tool_call_id="c")
            await write(store, flagged, started, RunContent("\ud83d", 1), by=member)
        await write(store, flagged, COMPLETED, by=members[0])
        for run_id in ("m1", flagged.run_id):
            await store.request_cancel(run_id, replace(STOP, reason=run_id))
        await write(store, flagged, RunContent("on its way", 1))
        await complete(store, pending)
        await write(store, done, RunContent("x", 1))
        before = [everything(run) for run in (done, flagged, pending)]
    async with SqliteStore(path) as store:
        assert [everything(run) for run in reversed(await store.list(Filter()))] == before
        claimed = await store.claim_abandoned()
        assert {run.run_id for run in claimed} == {done.run_id, flagged.run_id}
        assert await store.claim_abandoned() == ()
        by_member = await store.load("m2")
        assert by_member is not None
        assert everything(by_member) == before[1]
        with pytest.raises(CancelIsDue):
            await write(store, by_member, COMPLETED)
        (cancelling,) = await store.list(Filter(statuses=frozenset({Status.CANCELLING})))
        assert cancelling is by_member
        await write(store, claimed[0], RunContent("y", 1), RunCompleted("xy", "stop", Usage()))
        laws.check(await log_of(store, claimed[0]))


async def test_a_finished_run_is_found_by_its_member_and_not_claimed(path: Path) -> None:
    async with SqliteStore(path) as store:
        run = await running(store)
        member = Origin("member", "editor", "Editor", None, run.run_id)
        await write(store, run, RunStarted("m", task="t", tool_call_id="c"), COMPLETED, by=member)
        await write(store, run, COMPLETED)
    async with SqliteStore(path) as store:
        assert await store.claim_abandoned() == ()
        loaded = await store.load("member")
        assert loaded is not None
        assert everything(loaded) == everything(run)
        late = await store.request_cancel("member", STOP)
        assert isinstance(late, MemberRun)
        assert (late.status, late.cancel) == (Status.COMPLETED, None)
        assert await store.sweep("9", 10) == 1
        assert await store.load("member") is None
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as file:
            tables = ("runs", "requests", "snapshots", "frames", "members", "flags")
            counts = [file.execute(f"SELECT count(*) FROM {t}").fetchone() for t in tables]  # noqa: S608 - ours
        file.close()
        assert counts == [(0,)] * 6


async def test_acknowledged_events_and_flags_survive_a_kill(path: Path) -> None:
    with anyio.fail_after(60):
        promised = await kill_writers(path, rounds=3)
    assert promised.last


# --- opening --------------------------------------------------------------------------------------


async def test_a_file_has_one_owner_and_the_next_one_waits_for_it(path: Path) -> None:
    second = Outcome()

    async def take_over() -> str:
        async with SqliteStore(path, lease_ttl_s=5) as store:
            return str(len(await store.list(Filter())))

    async with anyio.create_task_group() as group, SqliteStore(path) as store:
        await store.create(request_for())
        with pytest.raises(ConfigurationError, match="in use by another process"):
            async with SqliteStore(path, lease_ttl_s=0.1):
                pass
        group.start_soon(second.keep, take_over)
        await anyio.wait_all_tasks_blocked()
        assert second.result == "none yet"
    assert second.result == "1"


def a_text(path: Path) -> None:
    path.write_text("This is no database. " * 1000)


def another_programs(path: Path) -> None:
    execute(path, "CREATE TABLE notes (text)")


def a_newer_version(path: Path) -> None:
    execute(path, "PRAGMA user_version = 999")


def a_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def damaged_frames(path: Path) -> None:
    execute(path, "UPDATE frames SET frames = CAST('id: 1' || char(10, 10) AS BLOB)")


def damaged_pages(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))


@pytest.mark.parametrize(
    ("spoil", "was_ours", "sentence"),
    [
        (a_text, False, "not a database"),
        (another_programs, False, "not one of this service"),
        (a_folder, False, "cannot be opened"),
        (a_newer_version, True, "newer version"),
        (damaged_frames, True, "damaged"),
        (damaged_pages, True, "malformed"),
    ],
)
async def test_a_file_that_cannot_be_used_stops_the_start_with_a_sentence(
    path: Path, spoil: Callable[[Path], None], was_ours: bool, sentence: str
) -> None:
    if was_ours:
        async with SqliteStore(path) as store:
            await running(store)
    spoil(path)
    with pytest.raises(ConfigurationError, match=sentence):
        async with SqliteStore(path):
            pass


async def test_a_path_where_nothing_can_be_written_stops_the_start(path: Path) -> None:
    a_text(path)
    for nowhere in (path / "runs.db", path.with_name("missing") / "runs.db"):
        with pytest.raises(ConfigurationError, match="cannot be written"):
            async with SqliteStore(nowhere):
                pass


# --- figures --------------------------------------------------------------------------------------


async def test_appends_at_the_pace_of_talking_models(path: Path) -> None:
    pace = await pace_of(SqliteStore(path), seconds=1)
    FIGURES.append(f"sqlite: an append, 100 runs at 20 events a second each: {pace}")
    assert pace.p50_ms < 50
