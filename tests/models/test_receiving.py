"""Where the body of an answer is read, with the libraries as they are pinned."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx2
import pytest
from aiohttp import StreamReader
from openai import AsyncOpenAI, DefaultAioHttpClient, DefaultAsyncHttpxClient

from app.models.openai import OpenAIProvider
from app.models.receiving import body_of
from app.ports import ModelRequest, TextDelta, UserText

pytestmark = pytest.mark.anyio

SAID = (
    b'data: {"type":"response.output_text.delta","delta":"packed"}\n\n'
    b'data: {"type":"response.completed","response":{"status":"completed"}}\n\n'
)
PLAIN = b""
PACKED = b"Content-Encoding: gzip\r\n"


@asynccontextmanager
async def provider(encoding: bytes) -> AsyncIterator[str]:
    """Run a provider that encodes its answer, whatever it was asked for; yield its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = gzip.compress(SAID) if encoding == PACKED else SAID
        length = b"Content-Length: %d\r\nConnection: close\r\n" % len(body)
        writer.write(b"HTTP/1.1 200 OK\r\n" + encoding + length + b"\r\n" + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@pytest.mark.parametrize("encoding", [PLAIN, PACKED], ids=["plain", "packed"])
@pytest.mark.parametrize("transport", [DefaultAioHttpClient, DefaultAsyncHttpxClient])
async def test_a_body_is_received_whole_over_any_transport_in_any_encoding(
    transport: type[httpx2.AsyncClient], encoding: bytes
) -> None:
    async with provider(encoding) as url, transport() as connections:
        sdk = AsyncOpenAI(api_key="none", base_url=url, http_client=connections)
        call = sdk.responses.with_streaming_response.create(model="m", input="?", stream=True)
        with anyio.fail_after(5):
            async with call as response:
                receive, body = body_of(response).receive, b""
                while data := await receive():
                    body += data
    assert body == SAID


async def test_a_plain_body_is_taken_where_aiohttp_puts_it() -> None:
    async with provider(PLAIN) as url, DefaultAioHttpClient() as connections:
        sdk = AsyncOpenAI(api_key="none", base_url=url, http_client=connections)
        call = sdk.responses.with_streaming_response.create(model="m", input="?", stream=True)
        async with call as response:
            assert isinstance(getattr(body_of(response).receive, "__self__", None), StreamReader)


async def test_a_provider_that_compresses_unasked_is_understood() -> None:
    async with provider(PACKED) as url, OpenAIProvider("none", url) as there:
        request = ModelRequest("Be brief.", (UserText("?"),))
        async with there.model("m").stream(request) as batches:
            said = [event async for batch in batches for event in batch]
    assert said[0] == TextDelta("packed")
