"""What every store promises; each implementation passes this unchanged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from app.domain.errors import BadCursor, CancelIsDue, LeaseLost, Overloaded, RunIsFinal
from app.domain.events import (
    Event,
    Origin,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunContent,
    RunStarted,
    Usage,
    encode,
)
from app.domain.run import Cancel, Run, RunRequest
from app.domain.status import Status
from app.ports import Filter, Store
from app.stores.memory import MemoryStore
from app.stores.redis import RedisStore
from app.stores.sqlite import SqliteStore
from tests import laws
from tests.stores.valkey import Valkey, running

pytestmark = pytest.mark.anyio

NOW = "2026-11-22T09:57:12.123Z"
ALL = 1 << 30


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with running() as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, valkey: Valkey
) -> AsyncIterator[Store]:
    valkey.do("FLUSHALL")
    made: dict[str, Store] = {
        "memory": MemoryStore(),
        "sqlite": SqliteStore(tmp_path / "runs.db"),
        "redis": RedisStore(valkey.url),
    }
    async with made[request.param] as opened:
        yield opened


def request_for(team_id: str = "team", session_id: str | None = None) -> RunRequest:
    return RunRequest(str(uuid4()), team_id, "Team", "input", NOW, 900, session_id)


async def write(store: Store, run: Run, *events: Event, by: Origin | None = None) -> None:
    first = run.last_event_id + 1
    entries = [encode(seq, NOW, by or run.origin, e) for seq, e in enumerate(events, first)]
    stored = store.append(run.run_id, entries)
    if stored is not None:
        await stored


async def complete(store: Store, run: Run) -> None:
    await write(store, run, RunStarted("m"), RunCompleted("", "stop", Usage()))


async def test_a_new_run_is_pending_and_its_log_empty(store: Store) -> None:
    request = request_for()
    run = await store.create(request)
    loaded = await store.load(request.run_id)
    assert loaded is not None
    assert loaded.request == run.request == request
    assert (loaded.status, loaded.last_event_id) == (Status.PENDING, 0)
    page = await store.read(request.run_id, 0, ALL)
    assert (page.frames, page.last, page.is_end) == (b"", 0, False)


async def test_what_is_appended_is_read_from_any_cursor_in_pages(store: Store) -> None:
    run = await store.create(request_for())
    await write(store, run, RunStarted("m"), *(RunContent(f"{n} ", 1) for n in range(50)))
    await write(store, run, RunCompleted(run.content, "stop", Usage()))
    whole = await store.read(run.run_id, 0, ALL)
    assert (whole.last, whole.is_end) == (52, True)
    laws.check(laws.parse(whole.frames))
    for limit in (1, 1000):
        for after in range(52):
            frames, last, is_end = b"", after, False
            while not is_end:
                page = await store.read(run.run_id, last, limit)
                assert page.last > last
                frames, last, is_end = frames + page.frames, page.last, page.is_end
            assert whole.frames.endswith(frames)
            assert frames.count(b"\n\n") == 52 - after


async def test_a_cursor_at_the_end_reads_nothing(store: Store) -> None:
    run = await store.create(request_for())
    await complete(store, run)
    for after in (2, 3, 10**17):
        page = await store.read(run.run_id, after, ALL)
        assert (page.frames, page.is_end) == (b"", True)


async def test_the_loaded_run_says_what_the_log_says(store: Store) -> None:
    run = await store.create(request_for())
    member = Origin(str(uuid4()), "editor", "Editor", None, run.run_id)
    await write(store, run, RunStarted("m", mode="coordinate"), RunContent("a", 1))
    await write(store, run, RunStarted("m", task="t", tool_call_id="c"), by=member)
    by_team, by_member = await store.load(run.run_id), await store.load(member.run_id)
    assert by_team is not None
    assert by_member is not None
    assert (by_team.content, by_team.status) == ("a", Status.RUNNING)
    assert by_member.run_id == run.run_id
    assert by_member.members[member.run_id].task == "t"


async def test_nothing_follows_the_final_event(store: Store) -> None:
    run = await store.create(request_for())
    await complete(store, run)
    with pytest.raises(RunIsFinal):
        await write(store, run, RunContent("late", 1))
    assert (await store.read(run.run_id, 0, ALL)).last == 2


async def test_an_append_to_a_run_that_is_not_here_is_refused(store: Store) -> None:
    with pytest.raises(LeaseLost):
        await write(store, Run(request_for()), RunStarted("m"))


async def test_a_flag_refuses_the_whole_batch_with_another_end(store: Store) -> None:
    run = await store.create(request_for())
    await write(store, run, RunStarted("m"))
    told: list[tuple[str, Cancel]] = []
    store.on_flag(lambda run_id, cancel: told.append((run_id, cancel)))
    cancel = Cancel(NOW, "why")
    flagged = await store.request_cancel(run.run_id, cancel)
    assert flagged is not None
    assert flagged.status is Status.CANCELLING
    assert told == [(run.run_id, cancel)]
    with pytest.raises(CancelIsDue):
        await write(store, run, RunContent("x", 1), RunCompleted("x", "stop", Usage()))
    assert run.last_event_id == 1
    await write(store, run, RunContent("on its way", 1))
    await write(
        store, run, RunCancelRequested("why", "request"), RunCancelled("on its way", "why", Usage())
    )
    loaded = await store.load(run.run_id)
    assert loaded is not None
    assert (loaded.status, loaded.cancel) == (Status.CANCELLED, cancel)


async def test_only_the_first_flag_is_told(store: Store) -> None:
    run = await store.create(request_for())
    told: list[Cancel] = []
    store.on_flag(lambda _, cancel: told.append(cancel))
    for reason in ("first", "second"):
        flagged = await store.request_cancel(run.run_id, Cancel(NOW, reason))
        assert flagged is not None
        assert flagged.cancel is not None
        assert flagged.cancel.reason == "first"
    assert [cancel.reason for cancel in told] == ["first"]


async def test_a_members_flag_is_its_own(store: Store) -> None:
    run = await store.create(request_for())
    member = Origin(str(uuid4()), "editor", "Editor", None, run.run_id)
    await write(store, run, RunStarted("m"))
    await write(store, run, RunStarted("m", task="t", tool_call_id="c"), by=member)
    flagged = await store.request_cancel(member.run_id, Cancel(NOW, None))
    assert flagged is not None
    assert (flagged.run_id, flagged.status) == (member.run_id, Status.CANCELLING)
    assert run.status is Status.RUNNING
    with pytest.raises(CancelIsDue):
        await write(store, run, RunCompleted("", "stop", Usage()), by=member)


async def test_a_flag_that_comes_too_late_is_not_raised(store: Store) -> None:
    run = await store.create(request_for())
    await complete(store, run)
    late = await store.request_cancel(run.run_id, Cancel(NOW, None))
    assert late is not None
    assert (late.status, late.cancel) == (Status.COMPLETED, None)


async def test_unknown_runs_are_none(store: Store) -> None:
    assert await store.load("unknown") is None
    assert await store.request_cancel("unknown", Cancel(NOW, None)) is None


async def test_a_watcher_is_woken_by_an_append_and_by_a_flag(store: Store) -> None:
    run = await store.create(request_for())
    with anyio.fail_after(5), store.watch(run.run_id) as hint:
        await write(store, run, RunStarted("m"))
        await hint.wait()
        await store.request_cancel(run.run_id, Cancel(NOW, None))
        await hint.wait()


async def test_a_list_is_newest_first_filtered_and_goes_on_from_its_cursor(store: Store) -> None:
    runs = [
        await store.create(request_for(f"team{n % 2}", "s" if n == 3 else None)) for n in range(6)
    ]
    await complete(store, runs[0])

    async def ids(which: Filter) -> list[str]:
        return [run.run_id for run in await store.list(which)]

    newest_first = [run.run_id for run in reversed(runs)]
    assert await ids(Filter()) == newest_first
    assert await ids(Filter(limit=2)) == newest_first[:2]
    assert await ids(Filter(limit=3, after=newest_first[1])) == newest_first[2:5]
    assert await ids(Filter(team_id="team1")) == newest_first[0::2]
    assert await ids(Filter(session_id="s")) == [runs[3].run_id]
    assert await ids(Filter(statuses=frozenset({Status.COMPLETED}))) == [runs[0].run_id]
    with pytest.raises(BadCursor):
        await store.list(Filter(after=str(uuid4())))


async def test_a_run_with_a_key_that_is_taken_is_the_first_one_again(store: Store) -> None:
    keyed = replace(request_for(), idempotency_key="key", body_digest="one")
    first = await store.create(keyed)
    for digest in ("one", "two"):
        again = await store.create(
            replace(request_for(), idempotency_key="key", body_digest=digest)
        )
        assert (again.run_id, again.request.body_digest) == (first.run_id, "one")
    other = await store.create(replace(request_for(), idempotency_key="key", tenant="other"))
    assert other.run_id != first.run_id
    assert len(await store.list(Filter())) == 1


async def test_a_list_is_its_tenants_own(store: Store) -> None:
    mine = await store.create(replace(request_for(), tenant="me"))
    await store.create(replace(request_for(), tenant="you"))
    assert [run.run_id for run in await store.list(Filter(tenant="me"))] == [mine.run_id]


async def test_a_sweep_removes_old_runs_whole_some_at_a_time(store: Store) -> None:
    runs = [
        await store.create(replace(request_for(), idempotency_key=f"key {n}")) for n in range(4)
    ]
    for run in runs[:3]:
        await complete(store, run)
    assert await store.sweep(NOW, 10) == 0
    later = "2026-11-22T09:57:12.124Z"
    assert [await store.sweep(later, 2) for _ in range(3)] == [2, 1, 0]
    for run in runs[:3]:
        assert await store.load(run.run_id) is None
        assert (await store.read(run.run_id, 0, ALL)).is_end
    assert await store.load(runs[3].run_id) is not None
    again = await store.create(replace(request_for(), idempotency_key="key 0"))
    assert again.run_id != runs[0].run_id


async def test_a_purge_removes_a_final_run_whole(store: Store) -> None:
    keyed = replace(request_for(session_id="s"), idempotency_key="key")
    run = await store.create(keyed)
    member = Origin(str(uuid4()), "editor", "Editor", None, run.run_id)
    await write(store, run, RunStarted("m"))
    await write(store, run, RunStarted("m", task="t", tool_call_id="c"), by=member)
    await write(store, run, RunCompleted("", "stop", Usage()), by=member)
    await write(store, run, RunCompleted("", "stop", Usage()))
    with store.watch(run.run_id) as hint:
        await store.purge(run.run_id)
        assert await store.load(run.run_id) is None
        assert await store.load(member.run_id) is None
        assert await store.list(Filter()) == await store.list(Filter(session_id="s")) == []
        with anyio.fail_after(5):
            while not (await store.read(run.run_id, 0, ALL)).is_end:
                await hint.wait()
    again = await store.create(replace(request_for(), idempotency_key="key"))
    assert again.run_id != run.run_id


async def test_a_purge_leaves_what_is_not_final_and_what_is_not_there(store: Store) -> None:
    run, other = await store.create(request_for()), await store.create(request_for())
    await complete(store, other)
    await store.purge(run.run_id)
    await store.purge(str(uuid4()))
    assert await store.load(run.run_id) is not None
    assert await store.load(other.run_id) is not None


async def test_a_secret_is_made_once_and_random(store: Store) -> None:
    secrets = [await store.secret(name) for name in ("one", "two", "one")]
    assert secrets[0] == secrets[2] != secrets[1]
    assert {len(secret) for secret in secrets} == {32}


async def test_a_list_does_not_go_on_after_another_tenants_run(store: Store) -> None:
    foreign = await store.create(replace(request_for(), tenant="you"))
    with pytest.raises(BadCursor):
        await store.list(Filter(tenant="me", after=foreign.run_id))


async def test_a_store_of_living_runs_has_nothing_to_claim(store: Store) -> None:
    await store.create(request_for())
    await store.renew()
    assert await store.claim_abandoned() == ()


async def test_it_answers(store: Store) -> None:
    await store.ping()


# --- the memory store's own -----------------------------------------------------------------------


async def test_a_full_memory_store_drops_the_oldest_finished_run_and_no_other() -> None:
    store = MemoryStore(max_bytes=17_000)
    running = await store.create(request_for())
    done = [await store.create(request_for()) for _ in range(3)]
    for run in done:
        await complete(store, run)
    newer = await store.create(request_for())
    assert [await store.load(run.run_id) is None for run in (running, *done, newer)] == [
        False,
        True,
        False,
        False,
        False,
    ]
    gone = await store.read(done[0].run_id, 0, ALL)
    assert (gone.frames, gone.is_end) == (b"", True)


async def test_a_memory_store_full_of_running_runs_takes_no_more() -> None:
    store = MemoryStore(max_bytes=9_000)
    for _ in range(3):
        await store.create(request_for())
    with pytest.raises(Overloaded):
        await store.create(request_for())
