"""Where connections come in: the listening socket, and how they are taken from it.

The socket is made here because accepted connections inherit what is set on it: a small send
buffer, so that a client that reads nothing is noticed after 136 KB and not after 3.3 MB
(measured), and the kernel's own timeout for data that nobody takes.

uvloop takes one connection at each turn of the event loop, and under load a turn lasts for some
milliseconds, in which hundreds of models are read. So 500 clients that came in one moment, all with
a DELETE, had to wait for up to 3.4 s before they were heard at all. Here whoever waits is let in at
once, for 17 µs more a connection; all of them are served before the next word is.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

from app.domain.errors import ConfigurationError

logger = logging.getLogger(__name__)

_BACKLOG: Final = 2048
_SEND_BUFFER_BYTES: Final = 32_768
_MOST_AT_ONCE: Final = 256
"""How many are let in at one turn: a flood of them holds the others up for about 15 ms."""
_PAUSE_S: Final = 1.0
"""How long nobody is let in where the process has as many files open as it may."""


def listen(host: str, port: int, send_timeout_s: float) -> socket.socket:
    """Return a listening socket. Raises `ConfigurationError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        why = error.strerror or "the address is not one of this machine"
        raise ConfigurationError(f"cannot listen on {host}, port {port}: {why}") from error
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # asyncio sets this only where the socket's protocol number is told, which here it is not; an
    # answer in two writes would wait 40 ms for the client's delayed ACK
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux only
        milliseconds = int(send_timeout_s * 1000)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    return listening


class Entrance:
    """Lets connections in from a listening socket, until it is closed; the socket is not."""

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        pause_s: float = _PAUSE_S,
    ) -> None:
        self._listening = listening
        self._protocol = protocol
        self._pause_s = pause_s
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._is_closed = False
        listening.setblocking(False)
        self._open()

    def close(self) -> None:
        """Let nobody in any more."""
        self._is_closed = True
        self._loop.remove_reader(self._listening)

    def _open(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listening, self._let_in)

    def _let_in(self) -> None:
        for _ in range(_MOST_AT_ONCE):
            try:
                connection, _address = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError):  # the latter left while it waited
                return
            except OSError as error:
                self._pause(error)
                return
            task = self._loop.create_task(self._begin(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _begin(self, connection: socket.socket) -> None:
        transport, _ = await self._loop.connect_accepted_socket(self._protocol, connection)
        if self._is_closed:
            transport.close()

    def _pause(self, error: OSError) -> None:
        """Try again later: the socket stays readable, and the loop would do nothing else."""
        logger.error("no connection can be let in: %s", error.strerror)
        self._loop.remove_reader(self._listening)
        self._loop.call_later(self._pause_s, self._open)
