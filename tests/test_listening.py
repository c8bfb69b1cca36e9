"""How connections are let in: all that wait, and whatever happens to those who let them."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from app.domain.errors import ConfigurationError
from app.listening import Entrance, listen

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop, as in production"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return "asyncio", {"use_uvloop": request.param}


_TURNS = 10
"""Of the event loop: some to look, to open a connection, and to tell its protocol."""


class Guests:
    """Makes the protocols of connections, and knows which of these are open."""

    def __init__(self) -> None:
        self.arrived = 0
        self.present = 0

    def __call__(self) -> asyncio.Protocol:
        return _Guest(self)


class _Guest(asyncio.Protocol):
    def __init__(self, guests: Guests) -> None:
        self._guests = guests

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._guests.arrived += 1
        self._guests.present += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._guests.present -= 1


class Exhausted(socket.socket):
    """A listening socket of a process that has too many files open, the first time it asks."""

    refusals = 1

    def accept(self) -> tuple[socket.socket, Any]:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


@contextmanager
def knocking(
    count: int, kind: type[socket.socket] = socket.socket
) -> Iterator[tuple[Any, list[socket.socket]]]:
    """Have clients wait at a listening socket of some kind while the context is open."""
    with ExitStack() as stack:
        bound = listen("127.0.0.1", 0, 30)
        listening = stack.enter_context(kind(fileno=bound.detach()))
        address = listening.getsockname()
        clients = [socket.create_connection(address, timeout=5) for _ in range(count)]
        for client in clients:
            stack.enter_context(client)
        yield listening, clients


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not condition():
            await checkpoint()


# --- letting in -----------------------------------------------------------------------------------


async def test_all_who_wait_are_let_in_together() -> None:
    guests = Guests()
    with knocking(200) as (listening, _), closing(Entrance(listening, guests)):
        for _ in range(_TURNS):
            await checkpoint()
    assert guests.arrived == 200


async def test_a_flood_is_let_in_too() -> None:
    guests = Guests()
    with knocking(300) as (listening, _), closing(Entrance(listening, guests)):
        await until(lambda: guests.arrived == 300)


async def test_who_has_left_while_waiting_holds_nobody_up() -> None:
    guests = Guests()
    with knocking(2) as (listening, (gone, _)):
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()  # with RST
        with closing(Entrance(listening, guests)):
            await until(lambda: guests.arrived == 2)


async def test_without_room_for_another_file_it_goes_on_after_a_pause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guests = Guests()
    with knocking(3, Exhausted) as (full, _), closing(Entrance(full, guests, pause_s=0.01)):
        await until(lambda: guests.arrived == 3)
    assert [(each.levelno, each.message) for each in caplog.records] == [
        (logging.ERROR, "no connection can be let in: Too many open files")
    ]


# --- the end --------------------------------------------------------------------------------------


async def test_nobody_is_let_in_after_the_end_also_behind_a_pause() -> None:
    guests = Guests()
    with knocking(1, Exhausted) as (listening, _):
        with closing(Entrance(listening, guests, pause_s=0)):
            await until(lambda: not listening.refusals)
        for _ in range(_TURNS):
            await checkpoint()
    assert guests.arrived == 0


async def test_who_is_let_in_just_before_the_end_is_sent_away() -> None:
    guests = Guests()

    def at_the_end() -> asyncio.Protocol:
        entrance.close()
        return guests()

    with knocking(1) as (listening, (client,)):
        entrance = Entrance(listening, at_the_end)
        await until(lambda: guests.arrived == 1 and not guests.present)
        assert client.recv(1) == b""


# --- the socket -----------------------------------------------------------------------------------


def test_a_taken_address_is_told_in_one_sentence() -> None:
    with listen("127.0.0.1", 0, 30) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1, port {port}: "):
            listen("127.0.0.1", port, 30)


def test_an_address_that_is_none_is_told_in_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot listen on 203\.0\.113\.7, port 0: "):
        listen("203.0.113.7", 0, 30)


def test_accepted_connections_have_a_small_send_buffer_and_do_not_wait_for_more() -> None:
    with listen("127.0.0.1", 0, 2.5) as listening:
        client = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
    with client, accepted:
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * 32_768
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2500
