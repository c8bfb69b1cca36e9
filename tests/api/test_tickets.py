from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from app.api.tickets import Tickets
from app.domain.events import Origin, RunStarted, encode
from app.domain.run import Run, RunRequest
from app.stores.memory import MemoryStore
from app.stores.redis import RedisStore
from app.stores.sqlite import SqliteStore
from tests.stores.valkey import running

pytestmark = pytest.mark.anyio

NOW = "2026-11-22T09:57:12.123Z"
CREATED_AT = datetime.fromisoformat(NOW).timestamp()


@dataclass
class Time:
    """A clock that stands still."""

    now: float = CREATED_AT

    def __call__(self) -> float:
        return self.now


def run_for(timeout_s: float = 900) -> Run:
    return Run(RunRequest(str(uuid4()), "team", "Team", "input", NOW, timeout_s, tenant="acme"))


async def test_a_ticket_opens_its_run_for_its_tenant() -> None:
    tickets, run = Tickets(MemoryStore()), run_for()
    ticket = await tickets.issue("acme", run)
    assert await tickets.tenant_in(ticket, run.run_id) == "acme"
    assert await tickets.tenant_in(ticket, str(uuid4())) is None


async def test_a_members_ticket_is_for_the_members_link() -> None:
    tickets, run = Tickets(MemoryStore()), run_for()
    member_id = str(uuid4())
    origin = Origin(member_id, "writer", "Writer", None, run.run_id)
    run.apply(encode(1, NOW, run.origin, RunStarted("m")))
    run.apply(encode(2, NOW, origin, RunStarted("m", task="t", tool_call_id="c")))
    ticket = await tickets.issue("acme", run.members[member_id])
    assert await tickets.tenant_in(ticket, member_id) == "acme"
    assert await tickets.tenant_in(ticket, run.run_id) is None


@pytest.mark.parametrize(
    ("ttl_s", "timeout_s", "lasts_s"),
    [(3600, 900, 3600), (10, 900, 960), (10, 0.5, 60.5), (961, 900, 961)],
)
async def test_a_ticket_lasts_its_time_and_to_a_minute_after_the_deadline(
    ttl_s: float, timeout_s: float, lasts_s: float
) -> None:
    time, run = Time(), run_for(timeout_s)
    tickets = Tickets(MemoryStore(), ttl_s=ttl_s, now=time)
    ticket = await tickets.issue("acme", run)
    time.now = CREATED_AT + lasts_s - 1
    assert await tickets.tenant_in(ticket, run.run_id) == "acme"
    time.now = CREATED_AT + lasts_s + 1
    assert await tickets.tenant_in(ticket, run.run_id) is None


async def test_whatever_is_changed_about_a_ticket_it_opens_nothing() -> None:
    tickets, run = Tickets(MemoryStore()), run_for()
    ticket = await tickets.issue("acme", run)
    payload, _, signature = ticket.partition(".")
    forged = [
        "",
        ".",
        "x",
        "ä",
        "\x00",
        payload,
        f"{payload}.",
        f".{signature}",
        f"{payload}.{signature[:-1]}",
        f"{payload[:-1]}.{signature}",
        f"x{ticket}",
        "x" * 10_000,
        await Tickets(MemoryStore()).issue("acme", run),
        await Tickets(MemoryStore(), [b"another"]).issue("acme", run),
    ]
    # the last characters of either part hold bits that decode to nothing: none is taken for another
    forged += [f"{ticket[:place]}{'A' if ticket[place] != 'A' else 'B'}{ticket[place + 1 :]}"
               for place in range(0, len(payload) - 1, 7)]  # fmt: skip
    assert [await tickets.tenant_in(each, run.run_id) for each in forged] == [None] * len(forged)


async def test_the_first_key_signs_and_all_verify_so_keys_can_be_changed() -> None:
    run, store = run_for(), MemoryStore()
    before, during, after = (
        Tickets(store, keys) for keys in ([b"old"], [b"new", b"old"], [b"new"])
    )
    old, new = await before.issue("acme", run), await during.issue("acme", run)
    assert await during.tenant_in(old, run.run_id) == "acme"
    assert await after.tenant_in(new, run.run_id) == "acme"
    assert await after.tenant_in(old, run.run_id) is None
    assert await before.tenant_in(new, run.run_id) is None


async def test_without_keys_the_stores_own_survives_a_restart(tmp_path: Path) -> None:
    run = run_for()
    async with SqliteStore(tmp_path / "runs.db") as store:
        ticket = await Tickets(store).issue("acme", run)
    async with SqliteStore(tmp_path / "runs.db") as store:
        assert await Tickets(store).tenant_in(ticket, run.run_id) == "acme"
        assert await Tickets(store, [b"set"]).tenant_in(ticket, run.run_id) is None


async def test_replicas_over_one_store_take_each_others_tickets() -> None:
    run = run_for()
    with running() as valkey:
        async with RedisStore(valkey.url) as one, RedisStore(valkey.url) as other:
            here, there = Tickets(one), Tickets(other)
            async with anyio.create_task_group() as group:  # both make a key at the same time
                group.start_soon(here.ready)
                group.start_soon(there.ready)
            for issues, looks in ((here, there), (there, here)):
                ticket = await issues.issue("acme", run)
                assert await looks.tenant_in(ticket, run.run_id) == "acme"
