"""The server: uvicorn, that lets the runs end before it closes.

uvicorn closes connections first and shuts the application down after; with streams open that
would be never. So `shutdown` begins with the drain: runs get their grace, their final events go
out, GET, events and DELETE are served all the while. Then whatever streams are left are asked to
end, and only then does uvicorn close. A second signal cuts the grace short.

uvicorn tells the loss of a connection to the last request on it alone. A client may have sent one
ahead while a stream goes on, and the stream would only learn of it when it next writes, so
`Connection` tells all that are not answered.

What was imported and built by the time of the start is there for good, and is taken out of the
garbage collector's sight: 150,000 objects that it would walk through again and again while runs
start, each time for 50 ms in which nobody is served. And it looks less often: what waits for a
commit when it happens to look is taken for something that stays, and the walk through everything
that stays came every few seconds (350 runs on SQLite: a p99 of 190 ms, and of 20 without).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Final, Protocol, cast

import uvicorn
from anyio import CancelScope
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.api.heads import BoundedRequests, bounded
from app.api.services import Services
from app.domain.errors import ConfigurationError
from app.listening import Entrance, listen

logger = logging.getLogger(__name__)

_GC_THRESHOLDS: Final = (5_000, 10, 50)
_CLOSING_S: Final = 2
"""How long streams that were asked to end may take to send what they had; seconds."""

OnReady = Callable[[int], None]


class ServerSettings(Protocol):
    """Where to listen, and how patient to be, in seconds; port 0 takes a free one."""

    @property
    def host(self) -> str: ...  # noqa: D102 - the settings say it
    @property
    def port(self) -> int: ...  # noqa: D102 - the settings say it
    @property
    def send_timeout_s(self) -> float: ...  # noqa: D102 - the settings say it
    @property
    def drain_timeout_s(self) -> float: ...  # noqa: D102 - the settings say it


def serve(api: FastAPI, settings: ServerSettings, on_ready: OnReady | None = None) -> None:
    """Serve until a signal; `on_ready` is called with the port once requests are taken.

    Raises `ConfigurationError` when the address, or what the application needs, cannot be had.
    """
    listening = listen(settings.host, settings.port, settings.send_timeout_s)
    try:
        Server(api, settings.drain_timeout_s, on_ready).run([listening])
    except SystemExit:  # uvicorn's way to say that the application did not start
        refusal: ConfigurationError | None = getattr(api.state, "refusal", None)
        if refusal is None:
            raise
        raise refusal from None


class Connection(BoundedRequests):
    """A connection of which every open request hears that it is lost."""

    _cycles: tuple[RequestResponseCycle, ...] = ()

    def on_headers_complete(self) -> None:
        """Take note of a request."""
        super().on_headers_complete()
        open_ones = (cycle for cycle in self._cycles if not cycle.response_complete)
        self._cycles = (*open_ones, self.cycle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those that are not answered."""
        super().connection_lost(exc)
        for cycle in self._cycles:
            cycle.disconnected = not cycle.response_complete
            cycle.message_event.set()


class Server(uvicorn.Server):
    """Serves the API on one socket until a signal, or `should_exit`, asks it to stop."""

    def __init__(
        self, api: FastAPI, drain_timeout_s: float, on_ready: OnReady | None = None
    ) -> None:
        services: Services = api.state.services
        super().__init__(
            uvicorn.Config(
                api,
                loop="uvloop",
                http=bounded(Connection, services.limits.read_timeout_s),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,  # it would show query strings
                server_header=False,
                timeout_graceful_shutdown=_CLOSING_S,
            )
        )
        self._api = api
        self._drain_timeout_s = drain_timeout_s
        self._on_ready = on_ready
        self._is_in_a_hurry = False
        self._cut_grace: Callable[[], object] | None = None
        self._entrances: list[Entrance] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell the address to whoever wants to know."""
        await super().startup([])  # uvicorn's own way to listen is not ours
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        for listening in sockets or ():
            self._entrances.append(Entrance(listening, self._connection))
            host, port = listening.getsockname()[:2]
            logger.info("listening on %s, port %d", host, port)
            if self._on_ready is not None:
                self._on_ready(port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the runs end, then the streams, then close."""
        services: Services = self._api.state.services
        loop = asyncio.get_running_loop()
        with CancelScope() as grace:
            self._cut_grace = partial(loop.call_soon_threadsafe, grace.cancel)
            await services.runner.drain(0 if self._is_in_a_hurry else self._drain_timeout_s)
        if grace.cancelled_caught:
            await services.runner.drain(0)
        services.uploads.close()
        services.readers.close()
        for entrance in self._entrances:
            entrance.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal: the first begins the end, the second hurries it, however soon it comes.

        uvicorn looks at `should_exit` ten times a second, so both may come before there is a grace
        to cut. It would raise the signal again when it is done, and the process would die of it;
        a server that was asked to stop, and did, has the exit status 0.
        """
        self._is_in_a_hurry = self.should_exit
        if self._cut_grace is not None:
            self._cut_grace()
        self.should_exit = True

    def _connection(self) -> asyncio.Protocol:
        """Return what serves one connection; made as uvicorn makes them."""
        make = cast("type[Connection]", self.config.http_protocol_class)
        return make(self.config, self.server_state, self.lifespan.state)
