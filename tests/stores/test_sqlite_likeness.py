"""Whatever is done to it, restarts included, the SQLite store says what the memory store says."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.closing import Answered, Ending, Failed, Said, Stopped, close_member, close_run
from app.domain.errors import AppendRefused, BadCursor
from app.domain.events import Entry, Failure, Origin, RunContent, RunStarted, encode
from app.domain.run import Cancel, MemberRun, Run, RunRequest
from app.domain.status import Status
from app.ports import Filter, Page, Store
from app.stores.memory import MemoryStore
from app.stores.sqlite import SqliteStore
from tests.views import everything

EXAMPLES = 100
ENDINGS: Sequence[Ending] = (
    Answered("stop"),
    Failed(Failure("model_error", "It failed.")),
    Stopped(Cancel("t", "r")),
)
WHICH = st.integers(0, 5)
FILTERS = st.builds(
    Filter,
    statuses=st.frozensets(st.sampled_from(list(Status)), max_size=3),
    tenant=st.sampled_from(["", "", "t"]),
    team_id=st.sampled_from([None, None, "team0"]),
    session_id=st.sampled_from([None, None, "s"]),
    limit=st.integers(1, 4),
)
CREATE = ("create", "", "team0", "s", None)
STEPS = st.one_of(
    st.tuples(
        st.just("create"),
        st.sampled_from(["", "t"]),
        st.sampled_from(["team0", "team1"]),
        st.sampled_from([None, "s"]),
        st.sampled_from([None, None, "key"]),
    ),
    st.tuples(st.just("begin"), WHICH),
    st.tuples(st.just("say"), WHICH, WHICH),
    st.tuples(st.just("say"), WHICH, WHICH),
    st.tuples(st.just("end member"), WHICH, WHICH, st.sampled_from(ENDINGS)),
    st.tuples(st.just("end"), WHICH, st.sampled_from(ENDINGS)),
    st.tuples(st.just("cancel"), WHICH, WHICH),
    st.tuples(st.just("read"), WHICH, st.integers(0, 30), st.sampled_from([1, 500, 1 << 20])),
    st.tuples(st.just("list"), FILTERS, st.one_of(st.none(), WHICH)),
    st.tuples(st.just("sweep"), st.integers(0, 40)),
    st.tuples(st.just("reopen")),
)


class Pair:
    """The two stores, and what was done to both."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.stores: list[Store] = [MemoryStore(), SqliteStore(path)]
        self._requests: list[RunRequest] = []
        self._time = 0

    async def do(self, what: str, *given: Any) -> None:
        self._time += 1
        outcomes = [await self._outcome(store, what, given) for store in self.stores]
        assert outcomes[0] == outcomes[1], (what, given)
        for request in self._requests:
            seen = [await store.load(request.run_id) for store in self.stores]
            assert (seen[0] and everything(seen[0])) == (seen[1] and everything(seen[1])), what

    async def reopen(self) -> None:
        await self.stores[1].__aexit__(None, None, None)
        self.stores[1] = await SqliteStore(self._path).__aenter__()
        unfinished = {r.run_id for r in await self.stores[1].claim_abandoned()}
        runs = [await self.stores[0].load(request.run_id) for request in self._requests]
        assert unfinished == {run.run_id for run in runs if run and not run.status.is_final}

    async def _outcome(self, store: Store, what: str, given: tuple[Any, ...]) -> object:
        match what, given:
            case "create", (tenant, team, session, key):
                return await self._create(store, tenant, team, session, key)
            case "list", (which, after):
                return await self._list(store, which, after)
            case "sweep", (before,):
                return await store.sweep(self._at(before), 99)
        run_id = self._nth(given[0]).run_id
        if what == "read":
            page: Page = await store.read(run_id, *given[1:])
            return page
        run = await store.load(run_id)
        return "gone" if run is None else await self._change(store, run, what, given[1:])

    async def _change(self, store: Store, run: Run, what: str, given: tuple[Any, ...]) -> object:
        if what == "cancel":
            return await self._cancel(store, run, *given)
        return await self._append(store, run, self._said(run, what, given))

    def _nth(self, nth: int) -> RunRequest:
        return self._requests[nth % len(self._requests)]

    async def _create(
        self, store: Store, tenant: str, team: str, session: str | None, key: str | None
    ) -> str:
        request = RunRequest(
            f"run {self._time}", team, "Team", "input", self._at(self._time), 9, session
        )
        run = await store.create(replace(request, tenant=tenant, idempotency_key=key))
        if run.request not in self._requests:
            self._requests.append(run.request)
        return run.run_id

    async def _list(self, store: Store, which: Filter, after: int | None) -> object:
        if after is not None:
            request = self._nth(after)
            which = replace(which, after=request.run_id, tenant=request.tenant)
        try:
            return [everything(run) for run in await store.list(which)]
        except BadCursor:
            return BadCursor

    async def _cancel(self, store: Store, run: Run, nth: int) -> object:
        whom = [run.run_id, *run.members][nth % (1 + len(run.members))]
        target = await store.request_cancel(whom, Cancel(self._at(self._time), "why"))
        assert target is not None
        return target.run_id, target.status, target.cancel

    async def _append(self, store: Store, run: Run, said: Sequence[Said]) -> object:
        first = run.last_event_id + 1
        now = self._at(self._time)
        entries: list[Entry] = [encode(seq, now, *each) for seq, each in enumerate(said, first)]
        try:
            if (stored := store.append(run.run_id, entries)) is not None:
                await stored
        except AppendRefused as refused:
            return "refused" if run.status.is_final else type(refused)
        return "stored"

    def _said(self, run: Run, what: str, given: tuple[Any, ...]) -> Sequence[Said]:
        """What an orderly writer would say, even if it is too late for it."""
        members = [m for m in run.members.values() if not m.status.is_final]
        said: Sequence[Said] = [(run.origin, RunContent("x", 1))]
        if run.started_at is None:
            said = [(run.origin, RunStarted("m"))]
        elif what == "begin":
            member = Origin(f"member {self._time}", "a", "A", None, run.run_id)
            said = [(member, RunStarted("m", task="t", tool_call_id="c"))]
        elif what == "say":
            origins = [run.origin, *(member.origin for member in members)]
            piece = RunContent(f"{given[0]} ", 1 + given[0] // 3)
            said = [(origins[given[0] % len(origins)], piece)] * 3
        elif what == "end member" and members:
            member_run = members[given[0] % len(members)]
            said = close_member(member_run, _lawful(member_run, given[1]))
        elif what == "end" and not run.status.is_final:
            said = close_run(run, _lawful(run, given[0]), {})
        return said

    @staticmethod
    def _at(time: int) -> str:
        return f"2026-11-22T09:57:12.{time:03}Z"


def _lawful(of: Run | MemberRun, ending: Ending) -> Ending:
    """A run is stopped only when it was asked to stop."""
    return ENDINGS[1] if isinstance(ending, Stopped) and of.cancel is None else ending


async def play(steps: Sequence[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(Path(folder) / "runs.db")
        await pair.stores[1].__aenter__()
        try:
            for what, *given_ in [CREATE, CREATE, *steps]:
                if what == "reopen":
                    await pair.reopen()
                else:
                    await pair.do(what, *given_)
        finally:
            await pair.stores[1].__aexit__(None, None, None)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=5, max_size=40))
def test_both_stores_say_the_same(steps: list[tuple[Any, ...]]) -> None:
    anyio.run(play, steps)
