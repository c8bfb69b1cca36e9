from __future__ import annotations

import anyio
import pytest
from starlette.types import Message

from app.api.readers import ClientGone, Readers, TooManyReaders
from app.domain.errors import Overloaded
from app.stores.watchers import Signal

pytestmark = pytest.mark.anyio

PAGE = {"type": "http.response.body", "body": b"12345", "more_body": True}


async def taking(_: Message) -> None:
    pass


async def never_taking(_: Message) -> None:
    await anyio.sleep_forever()


async def test_a_hint_ends_a_wait_and_so_does_silence() -> None:
    readers = Readers(heartbeat_s=0.01)
    with readers.join("run") as reader, anyio.fail_after(5):
        hint = Signal()
        reader.heed(hint)
        await hint.wait()
        assert reader.was_woken
        reader.was_woken = False
        hint.tell()
        await hint.wait()
        assert not reader.was_woken


async def test_a_write_that_lasts_too_long_ends_the_reading_and_a_short_one_does_not() -> None:
    readers = Readers(heartbeat_s=60, send_timeout_s=0.01)
    with readers.join("one") as quick, readers.join("two") as stuck, anyio.fail_after(5):
        await quick.write(taking, PAGE)
        with stuck.patience:
            await stuck.write(never_taking, PAGE)
    assert stuck.patience.cancelled_caught
    assert not quick.patience.cancel_called
    assert (quick.sent_bytes, stuck.sent_bytes) == (5, 0)


@pytest.mark.parametrize("error", [OSError(), RuntimeError("the handler is closed")])
async def test_a_client_that_cannot_be_written_to_is_gone(error: Exception) -> None:
    async def closed(_: Message) -> None:
        raise error

    with Readers().join("run") as reader, pytest.raises(ClientGone):
        await reader.write(closed, PAGE)


async def test_closing_ends_the_waits_of_all_readers_and_tells_those_that_come_later() -> None:
    readers, never = Readers(), Signal()
    with readers.join("run") as reader, anyio.fail_after(5):
        reader.heed(never)
        async with anyio.create_task_group() as group:

            async def waiting() -> None:
                await never.wait()
                assert reader.was_woken
                assert reader.is_closing

            group.start_soon(waiting)
            await anyio.wait_all_tasks_blocked()
            readers.close()
    with readers.join("run") as late:
        assert late.is_closing


async def test_places_are_counted_by_run_and_in_all_and_given_back() -> None:
    readers = Readers(max_readers=2, max_per_run=1)
    with readers.join("one"):
        with pytest.raises(TooManyReaders):
            readers.check_room_at("one")
        readers.check_room_at("two")
        with readers.join("two"), pytest.raises(Overloaded):
            readers.check_room_at("three")
    readers.check_room_at("one")
    assert readers.count == 0


async def test_waits_are_counted_by_themselves() -> None:
    readers = Readers(max_readers=1, max_per_run=1)
    with readers.wait():
        assert not readers.has_room_to_wait
        readers.check_room_at("one")
    with readers.join("one"):
        assert readers.has_room_to_wait
