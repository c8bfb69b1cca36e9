"""The body of a provider's answer, as its bytes arrive.

They are taken where the transport puts them, in aiohttp's `StreamReader`: between that and the
SDK's own iterator stand six generators, those of its adapter, of httpx2's client, decoders and
chunker and of the SDK's wrapper, which every chunk would climb through although there is nothing
to decode (at a model's pace, 10 of 75 µs of CPU that an event costs). A body that is compressed
although nobody asked for that, or that comes over another transport, is read through them.

aiohttp tells of a connection that breaks at once, ahead of what had come before and was not read
yet. While a batch is being stored, a provider may say the rest, its end included, and cut the
connection: what is unread then is not lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import StreamReader
from openai import AsyncAPIResponse

Receive = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Body:
    """A body on its way.

    `receive` returns the bytes that have arrived since, when there are any, and none at the end;
    it raises where the connection broke. `unread` returns, and forgets, what came ahead of that.
    """

    receive: Receive
    unread: Callable[[], bytes] = bytes


def body_of(response: AsyncAPIResponse[Any]) -> Body:
    """Return the body of a response."""
    content: object = response.http_response.stream
    for behind in ("_stream", "_aiohttp_response", "content"):  # httpx2's wrapper, the adapter
        content = getattr(content, behind, None)
    if isinstance(content, StreamReader) and "content-encoding" not in response.headers:
        return Body(content.readany, partial(_unread, content))
    return Body(partial(anext, response.iter_bytes(), b""))


def _unread(content: StreamReader) -> bytes:
    if content._buffer:  # noqa: SLF001 - aiohttp gives it to nobody any more
        return content._read_nowait(-1)  # noqa: SLF001 - as above
    return b""
