"""Language models behind the Responses API or Chat Completions, through the openai SDK.

Decisions:

- The SDK sends the request and opens the stream; its bytes are read raw (`receiving.py`) and
  parsed by our own parsers, at a tenth of the cost of the SDK's typed events, which also let a
  stream that ends early, fails or is malformed pass for a complete one. `dialects.py` has what the
  APIs differ in.
- A model prepares its call when it is made, at the service's start: the SDK imports lazily, and
  the first call would hold up the event loop for it.
- The transport is aiohttp: half of httpx2's CPU per delta; leaving the context closes the socket
  within a millisecond in every phase, and its pool leaks nothing when calls are cancelled (the
  tests measure both against a real server).
- Nothing is retried here (`max_retries=0`), no redirect is followed (a key is not carried on),
  and no proxy is taken from the environment. There is no read timeout: how long silence may last
  is the run's to decide.
- After the provider's end the body is read to its own end, for 0.2 s at most, so that the
  connection can serve the next call.
- Every few chunks look for a cancel (1 µs): anyio delivers none to a task that is about to run,
  and in a flood this one always is, for seconds under uvloop.
- What the provider tells without saying anything comes out as an empty batch, so that whoever
  counts the seconds of silence hears it. Bytes that complete no event are silence.
- A connection that breaks behind the provider's end breaks nothing. Nor does one that stays open
  there and silent, as where Chat Completions end without `[DONE]`: it is left after 5 s.
- The SDK reads the body of an error whole; `error_bodies.py` sees to it that there is an end.
- Failures have no cause attached: a library's error may quote the provider, and causes get logged.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    suppress,
)
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

import anyio
import httpx2
from anyio.lowlevel import checkpoint_if_cancelled
from openai import (
    APIConnectionError,
    APIStatusError,
    AsyncAPIResponse,
    AsyncOpenAI,
    DefaultAioHttpClient,
    OpenAIError,
    Timeout,
)

from app.domain.errors import ModelFailed
from app.models.dialects import RESPONSES, Dialect
from app.models.error_bodies import shorten
from app.models.parser import StreamParser
from app.models.receiving import Body, body_of
from app.models.refusals import refusal
from app.ports import ModelEvent, ModelRequest

CONNECT_TIMEOUT_S: Final = 10.0
REST_OF_BODY_S: Final = 0.2
CHECK_EVERY: Final = 8
"""Chunks between two looks for a cancel: one is held back for as long as data is always there."""
MAX_CONNECTIONS: Final = 10_000
"""Above every limit on runs and members: a call never waits for another one's connection."""


class OpenAIProvider:
    """One provider and its connections, shared by its models while the context is open.

    `base_url` is like `https://api.openai.com/v1`, which is the default; `headers` go with every
    request.
    """

    def __init__(
        self,
        api_key: str,
        base_url: str | None = None,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._client = AsyncOpenAI(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,
            timeout=Timeout(None, connect=CONNECT_TIMEOUT_S),
            # a compressor would hold tokens back
            default_headers={"Accept-Encoding": "identity", **headers},
            http_client=DefaultAioHttpClient(
                limits=httpx2.Limits(max_connections=max_connections, keepalive_expiry=15),
                follow_redirects=False,
                trust_env=False,
                event_hooks={"response": [shorten]},
            ),
        )

    def model(
        self, model: str, *, dialect: Dialect = RESPONSES, name: str | None = None
    ) -> OpenAIModel:
        """Return the model that the provider calls `model`; see `OpenAIModel`."""
        return OpenAIModel(self._client, model, dialect, name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.close()


class OpenAIModel:
    """A model of a provider; `name` is like `openai:gpt-4o` unless given."""

    def __init__(
        self, client: AsyncOpenAI, model: str, dialect: Dialect, name: str | None = None
    ) -> None:
        self._model = model
        self._dialect = dialect
        self._call = dialect.call(client, model)
        self._name = name or f"{dialect.name}:{model}"

    @property
    def name(self) -> str:
        """The name under which teams and events know it."""
        return self._name

    @asynccontextmanager
    async def stream(
        self, request: ModelRequest
    ) -> AsyncGenerator[AsyncIterator[Sequence[ModelEvent]]]:
        """Call the model; see `app.ports.Model`."""
        body = self._dialect.body(self._model, request)
        parser = self._dialect.parser(self._model, request)
        last_words_s = self._dialect.last_words_s
        async with AsyncExitStack() as stack:
            response = await _open(stack, self._call(body, request.headers))
            answer = body_of(response)
            yield await stack.enter_async_context(aclosing(_read(answer, parser, last_words_s)))
            if parser.is_over:
                await _read_rest(answer)


async def _open(
    stack: AsyncExitStack, call: AbstractAsyncContextManager[AsyncAPIResponse[Any]]
) -> AsyncAPIResponse[Any]:
    """Send the request and return when the headers have come. Raises `ModelFailed`."""
    try:
        return await stack.enter_async_context(call)
    except APIStatusError as error:
        raise refusal(error.status_code, error.response.headers, error.body) from None
    except (APIConnectionError, httpx2.HTTPError):
        raise ModelFailed(
            "model_error",
            "The model's provider could not be reached.",
            retry_code="connection_error",
        ) from None
    except (OpenAIError, ValueError):  # the latter for an option that is no JSON, such as NaN
        raise ModelFailed("model_error", "The model's provider could not be asked.") from None


async def _read(
    body: Body, parser: StreamParser, last_words_s: float
) -> AsyncGenerator[Sequence[ModelEvent]]:
    """Yield what arrives together, to the provider's end. Raises `ModelFailed`."""
    chunks_read = 0
    while not parser.is_over:
        try:
            data = await (_last_words(body, last_words_s) if parser.may_end else body.receive())
            events = parser.feed(data) if data else parser.finish()
        except Exception:  # the transport raises from three libraries, all mean a break
            unread = body.unread()
            events = parser.feed(unread) if unread else parser.break_off()
        chunks_read += 1
        if chunks_read % CHECK_EVERY == 0:
            await checkpoint_if_cancelled()
        if events or (parser.has_heard and not parser.is_over):
            yield events
    if parser.failure is not None:
        raise parser.failure


async def _last_words(body: Body, patience_s: float) -> bytes:
    """Return what follows the provider's end, nothing where nothing does."""
    with anyio.move_on_after(patience_s):
        return await body.receive()
    return b""


async def _read_rest(body: Body) -> None:
    """Let the body end, so that the connection is fit for the next call; closing it is no harm."""
    with anyio.move_on_after(REST_OF_BODY_S), suppress(Exception):
        while await body.receive():
            pass
