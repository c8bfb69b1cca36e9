"""The one connection of a process on which Redis tells what has changed.

What is told here is a hint. Messages are lost whenever the connection is, so nothing depends on
them but speed: whoever listens also looks at what is stored, once a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Never

import anyio
from redis.asyncio import Connection

from app.stores.redis_link import FAILURES, Dialer
from app.stores.watchers import Signal

logger = logging.getLogger(__name__)

_PING_S: Final = 2.0
_SILENCE_S: Final = 3 * _PING_S
"""After how much silence, pings being answered otherwise, the connection is given up."""
_PAUSE_S: Final = 0.5

Hear = Callable[[str, bytes | None], None]
"""Told a channel and what was said, and `None` when the channel begins to be heard."""


class News:
    """Hears some channels; it works while `serve` does."""

    def __init__(self, dialer: Dialer, hear: Hear) -> None:
        self._dialer = dialer
        self._hear = hear
        self._wanted: set[str] = set()
        self._changed = Signal()

    def subscribe(self, channel: str) -> None:
        """Hear a channel, as soon and as long as there is a connection."""
        self._wanted.add(channel)
        self._changed.tell()

    def unsubscribe(self, channel: str) -> None:
        """Hear it no more."""
        self._wanted.discard(channel)
        self._changed.tell()

    async def serve(self) -> Never:
        """Keep a connection, and make another one when it is lost."""
        while True:
            try:
                async with self._dialer.connected() as connection:
                    await self._converse(connection)
            except FAILURES as error:
                logger.info("no news from Redis: %s", type(error).__name__)
            except BaseExceptionGroup as group:
                _, others = group.split(FAILURES)
                if others is not None:
                    raise others from None
                logger.info("no news from Redis any more")
            await asyncio.sleep(_PAUSE_S)

    async def _converse(self, connection: Connection) -> None:
        async with anyio.create_task_group() as both:
            both.start_soon(self._tell_wishes, connection)
            both.start_soon(self._listen, connection)

    async def _tell_wishes(self, connection: Connection) -> Never:
        """Subscribe to what is wanted, and ping."""
        told: set[str] = set()
        while True:
            wanted = set(self._wanted)
            for command, channels in (
                ("SUBSCRIBE", wanted - told),
                ("UNSUBSCRIBE", told - wanted),
            ):
                if channels:
                    await connection.send_command(command, *channels, check_health=False)
            told = wanted
            with anyio.move_on_after(_PING_S) as due:
                await self._changed.wait()
            if due.cancelled_caught:
                await connection.send_command("PING", check_health=False)

    async def _listen(self, connection: Connection) -> Never:
        while True:
            async with asyncio.timeout(_SILENCE_S):
                message = await connection.read_response()
            if message[0] == b"message":
                self._hear(str(message[1], "utf-8"), message[2])
            elif message[0] == b"subscribe":
                self._hear(str(message[1], "utf-8"), None)
