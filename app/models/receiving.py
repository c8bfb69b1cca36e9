"""The body of a provider's answer, as its bytes arrive.

They are taken where the transport puts them, in aiohttp's `StreamReader`: between that and the
SDK's own iterator stand six generators, those of its adapter, of httpx2's client, decoders and
chunker and of the SDK's wrapper, which every chunk would climb through although there is nothing
to decode (at a model's pace, 10 of 75 µs of CPU that an event costs). A body that is compressed
although nobody asked for that, or that comes over another transport, is read through them.

A connection that breaks is told of at once, ahead of what had come before it and was not read yet;
here it is told of behind that. While a batch is being stored, a provider may say the rest, its end
included, and cut the connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import StreamReader
from openai import AsyncAPIResponse

Receive = Callable[[], Awaitable[bytes]]
"""Returns the bytes that have arrived since, when there are any; none at the body's end."""


def receiving(response: AsyncAPIResponse[Any]) -> Receive:
    """Return how the body of a response is received."""
    content: object = response.http_response.stream
    for behind in ("_stream", "_aiohttp_response", "content"):  # httpx2's wrapper, the adapter
        content = getattr(content, behind, None)
    if isinstance(content, StreamReader) and "content-encoding" not in response.headers:
        return partial(_arrived, content)
    return partial(anext, response.iter_bytes(), b"")


async def _arrived(content: StreamReader) -> bytes:
    try:
        return await content.readany()
    except Exception:
        if content._buffer:  # noqa: SLF001 - aiohttp gives it to nobody any more
            return content._read_nowait(-1)  # noqa: SLF001 - as above
        raise
