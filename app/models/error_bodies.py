"""The bodies of errors, held to a size.

The SDK reads the body of an answer that is no success to its end, whatever its size, for the one
code that we take out of it. So the answer's stream is replaced, by a hook of the HTTP client, with
its beginning. Cut JSON is none, and the failure then tells the status without a code. How long the
body may take is the run's to decide, as everywhere.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, cast

import httpx2

MAX_ERROR_BYTES: Final = 64 * 1024
"""What is read of an error's body; an error object has a few hundred bytes."""


async def shorten(response: httpx2.Response) -> None:
    """Let no more than the beginning of an error's body be read; a hook for responses."""
    if not response.is_success:
        response.stream = _Beginning(cast("httpx2.AsyncByteStream", response.stream))


class _Beginning(httpx2.AsyncByteStream):
    """The first chunks of a stream, at most `MAX_ERROR_BYTES`; closing it closes the stream."""

    def __init__(self, whole: httpx2.AsyncByteStream) -> None:
        self._whole = whole

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        left = MAX_ERROR_BYTES
        async with aclosing(cast("AsyncGenerator[bytes]", aiter(self._whole))) as chunks:
            async for chunk in chunks:
                left -= len(chunk)
                if left < 0:
                    return
                yield chunk

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end."""
        await self._whole.aclose()
