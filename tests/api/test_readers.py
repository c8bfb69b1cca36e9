from __future__ import annotations

import anyio
import pytest

from app.api.problems import Refused
from app.api.readers import Readers
from app.domain.errors import Overloaded
from app.stores.watchers import Signal

pytestmark = pytest.mark.anyio


async def test_a_hint_ends_a_wait_and_so_does_silence() -> None:
    readers = Readers(heartbeat_s=0.01)
    with readers.join("run") as reader, anyio.fail_after(5):
        told = Signal()
        assert not await reader.wait(told)
        told.tell()
        assert await reader.wait(told)


async def test_closing_ends_the_waits_of_all_readers_there_are_and_will_be() -> None:
    readers, never = Readers(), Signal()
    with readers.join("run") as reader, anyio.fail_after(5):
        async with anyio.create_task_group() as group:

            async def waiting() -> None:
                assert not await reader.wait(never)

            group.start_soon(waiting)
            await anyio.wait_all_tasks_blocked()
            readers.close()
        assert not await reader.wait(never)
    with readers.join("run") as late, anyio.fail_after(5):
        assert late.is_closing
        assert not await late.wait(never)


async def test_places_are_counted_by_run_and_in_all_and_given_back() -> None:
    readers = Readers(max_readers=2, max_per_run=1)
    with readers.join("one"):
        with pytest.raises(Refused):
            readers.check_room_at("one")
        readers.check_room_at("two")
        with readers.join("two"), pytest.raises(Overloaded):
            readers.check_room_at("three")
    readers.check_room_at("one")
    assert readers.count == 0
