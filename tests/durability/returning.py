"""A reader that loses its connection at any byte, and comes back at any replica with its cursor."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import anyio
import httpx

from tests.durability.stand import Stand

Cut = Callable[[], int | None]
"""After how many bytes the next connection ends, `None` for not before its end."""

_END = re.compile(rb"^event: TeamRun(?:Completed|Cancelled|Error)$", re.MULTILINE)
_SEQ = re.compile(rb"^id: (\d+)$", re.MULTILINE)
_NOT_THE_LOGS = re.compile(rb"^(?:retry: |:).*\n", re.MULTILINE)
_PAUSE_S = 0.05
SILENCE_S = 3.0
"""Three heartbeats of the stand's."""


def never() -> None:
    """Cut nothing."""


def frames_in(body: bytes) -> bytes:
    """The whole frames of a stream that may have been cut anywhere."""
    whole, end, _ = body.rpartition(b"\n\n")
    return _NOT_THE_LOGS.sub(b"", whole + end)


@dataclass
class Returning:
    """Reads a run to its end; `frames` is what it has seen, each frame once it was whole."""

    stand: Stand
    run_id: str
    cut: Cut = never
    frames: bytearray = field(default_factory=bytearray)
    connections: int = 0
    _body: bytearray = field(default_factory=bytearray)

    @property
    def has_begun(self) -> bool:
        """Whether it has seen a whole frame yet."""
        return bool(self.frames) or b"\n\n" in self._body

    @property
    def cursor(self) -> str:
        """The place of the last whole frame, empty for none."""
        seqs = _SEQ.findall(self.frames)
        return seqs[-1].decode() if seqs else ""

    async def read(self) -> None:
        """Read until the final event is there, or nothing more can come."""
        is_over = False
        while not is_over:
            with suppress(httpx.TransportError):
                is_over = await self._read_once()
            if not is_over:
                await anyio.sleep(_PAUSE_S)

    async def _read_once(self) -> bool:
        """Read over one connection; return whether the run's end was reached."""
        self.connections += 1
        url, headers = f"{self.stand.url}/runs/{self.run_id}/events", {}
        if cursor := self.cursor:
            headers["Last-Event-ID"] = cursor
        limit = self.cut()
        self._body.clear()
        try:
            async with self.stand.client.stream(
                "GET", url, headers=headers, timeout=SILENCE_S
            ) as response:
                if response.status_code in (204, 404):
                    return True
                assert response.status_code == 200, response
                async for chunk in response.aiter_raw():
                    self._body += chunk
                    if limit is not None and len(self._body) >= limit:
                        break
        finally:
            self.frames += frames_in(bytes(self._body[:limit]))
        return _END.search(self.frames) is not None
