"""Steps of a run against each other, and against what readers see."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from app.domain.errors import CancelIsDue, StoreUnavailable
from app.domain.events import (
    RunCancelled,
    RunCancelRequested,
    RunContent,
    Usage,
)
from app.domain.run import Run
from app.domain.status import Status
from app.ports import Filter
from app.stores.sqlite import SqliteStore
from tests import laws
from tests.contract.test_store import ALL, request_for, write
from tests.stores.scene import (
    COMPLETED,
    STOP,
    Outcome,
    entries_for,
    locked,
    log_of,
    running,
)

pytestmark = pytest.mark.anyio


async def test_nothing_shows_before_its_commit(store: SqliteStore, path: Path) -> None:
    run = await running(store)
    with anyio.fail_after(5), store.watch(run.run_id) as hint:
        with locked(path):
            stored = store.append(run.run_id, entries_for(run, RunContent("x", 1), COMPLETED))
            asked = Outcome()
            async with anyio.create_task_group() as group:
                group.start_soon(asked.keep, hint.wait)
                await anyio.wait_all_tasks_blocked()
                assert asked.result == "none yet"
                group.cancel_scope.cancel()
            page = await store.read(run.run_id, 0, ALL)
            assert (page.last, page.is_end) == (1, False)
            assert await store.load(run.run_id) is run
            assert (run.status, run.last_event_id) == (Status.RUNNING, 1)
            assert not await store.list(Filter(statuses=frozenset({Status.COMPLETED})))
        await stored
        await hint.wait()
    assert (run.status, (await store.read(run.run_id, 1, ALL)).is_end) == (Status.COMPLETED, True)


async def test_a_new_run_shows_only_when_it_is_stored(store: SqliteStore, path: Path) -> None:
    request, created = request_for(), Outcome()
    async with anyio.create_task_group() as group:
        with locked(path):
            group.start_soon(created.keep, lambda: store.create(request))
            await anyio.wait_all_tasks_blocked()
            assert await store.load(request.run_id) is None
            assert await store.list(Filter()) == []
    assert isinstance(created.result, Run)
    assert await store.load(request.run_id) is created.result


async def test_a_cancel_behind_a_final_event_on_its_way_is_too_late(
    store: SqliteStore, path: Path
) -> None:
    run, told, asked = await running(store), list[str](), Outcome()
    store.on_flag(lambda run_id, _: told.append(run_id))
    async with anyio.create_task_group() as group:
        with locked(path):
            stored = store.append(run.run_id, entries_for(run, COMPLETED))
            group.start_soon(asked.keep, lambda: store.request_cancel(run.run_id, STOP))
            await anyio.wait_all_tasks_blocked()
            assert asked.result == "none yet"
        await stored
    assert asked.result is run
    assert (run.status, run.cancel, told) == (Status.COMPLETED, None, [])


async def test_a_final_event_behind_a_flag_on_its_way_is_refused_once_the_run_shows_it(
    store: SqliteStore, path: Path
) -> None:
    run, asked, order = await running(store), Outcome(), list[str]()
    store.on_flag(lambda _, cancel: order.append(f"told {cancel.reason}"))
    async with anyio.create_task_group() as group:
        with locked(path):
            group.start_soon(asked.keep, lambda: store.request_cancel(run.run_id, STOP))
            await anyio.wait_all_tasks_blocked()
            stored = store.append(run.run_id, entries_for(run, COMPLETED))
            assert run.status is Status.RUNNING
        with pytest.raises(CancelIsDue):
            await stored
        order.append("refused")
    assert order == ["told why", "refused"]
    assert (asked.result, run.cancel, run.last_event_id) == (run, STOP, 1)
    await write(store, run, RunCancelRequested("why", "request"), RunCancelled("", "why", Usage()))
    laws.check(await log_of(store, run))


async def test_a_flag_that_is_not_stored_is_not_up(store: SqliteStore, path: Path) -> None:
    run, asked, told = await running(store), Outcome(), list[str]()
    store.on_flag(lambda run_id, _: told.append(run_id))
    with anyio.fail_after(2):
        with locked(path):
            async with anyio.create_task_group() as group:
                group.start_soon(asked.keep, lambda: store.request_cancel(run.run_id, STOP))
                await anyio.wait_all_tasks_blocked()
                with pytest.raises(StoreUnavailable):
                    await write(store, run, COMPLETED)
    assert isinstance(asked.result, StoreUnavailable)
    assert (run.status, run.cancel, told) == (Status.RUNNING, None, [])
    await write(store, run, COMPLETED)
    laws.check(await log_of(store, run))


async def test_a_busy_run_does_not_keep_a_cancel_out(store: SqliteStore) -> None:
    run = await running(store)

    async def talk() -> None:
        while not run.is_cancelling:
            await write(store, run, RunContent("x", 1))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(talk)
            await anyio.wait_all_tasks_blocked()
            before = run.last_event_id
            await store.request_cancel(run.run_id, STOP)
    assert run.last_event_id - before < 5


async def test_a_batch_numbered_before_the_last_one_was_stored_is_not_taken(
    store: SqliteStore,
) -> None:
    run = await running(store)
    first, second = (store.append(run.run_id, entries_for(run, RunContent(t, 1))) for t in "ab")
    await first
    with pytest.raises(StoreUnavailable):
        await second
    await write(store, run, RunContent("c", 1))
    assert [e.get("content") for e in await log_of(store, run)] == [None, "a", "c"]


async def test_nothing_is_stored_at_once(store: SqliteStore, path: Path) -> None:
    run = await running(store)
    with locked(path), anyio.fail_after(1):
        await store.append(run.run_id, [])
    assert run.last_event_id == 1


async def test_what_nobody_waits_for_is_stored(store: SqliteStore) -> None:
    run, request = await running(store), request_for()
    store.append(run.run_id, entries_for(run, COMPLETED))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.create(request)
    assert run.status is Status.COMPLETED
    assert await store.load(request.run_id) is not None


async def test_two_runs_with_one_key_at_the_same_time_are_one(store: SqliteStore) -> None:
    outcomes = [Outcome() for _ in range(5)]
    async with anyio.create_task_group() as group:
        for outcome in outcomes:
            request = replace(request_for(), idempotency_key="key")
            group.start_soon(outcome.keep, lambda request=request: store.create(request))
    assert len({id(outcome.result) for outcome in outcomes}) == 1
    assert len(await store.list(Filter())) == 1


async def test_a_unit_that_cannot_be_stored_fails_alone(store: SqliteStore) -> None:
    run = await running(store)
    again = Outcome()
    async with anyio.create_task_group() as group:
        group.start_soon(again.keep, lambda: store.create(run.request))
        group.start_soon(write, store, run, COMPLETED)
    assert isinstance(again.result, sqlite3.IntegrityError)
    assert run.status is Status.COMPLETED
