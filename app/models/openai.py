"""Language models behind the Responses API, through the openai SDK.

Decisions:

- The SDK sends the request and opens the stream; its bytes are read raw and parsed by
  `ResponsesParser`, at a tenth of the cost of the SDK's typed events, which also let a stream that
  ends early, fails or is malformed pass for a complete one.
- The transport is aiohttp: half of httpx2's CPU per delta; leaving the context closes the socket
  within a millisecond in every phase, and its pool leaks nothing when calls are cancelled (the
  tests measure both against a real server).
- Nothing is retried here (`max_retries=0`), no redirect is followed (a key is not carried on),
  and no proxy is taken from the environment. There is no read timeout: how long silence may last
  is the run's to decide.
- After the provider's end the body is read to its own end, for 0.2 s at most, so that the
  connection can serve the next call.
- Every chunk looks for a cancel (1 µs): anyio delivers none to a task that is about to run, and in
  a flood this one always is, for seconds under uvloop.
- A connection that breaks before a word was said may be tried again; after that never.
- Failures have no cause attached: a library's error may quote the provider, and causes get logged.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    suppress,
)
from types import TracebackType
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
from app.models.refusals import refusal
from app.models.requests import Json, body_of, keeps_items, output_cap
from app.models.responses import ResponsesParser
from app.ports import ModelEvent, ModelRequest

CONNECT_TIMEOUT_S: Final = 10.0
REST_OF_BODY_S: Final = 0.2
MAX_CONNECTIONS: Final = 10_000
"""Above every limit on runs and members: a call never waits for another one's connection."""


class OpenAIProvider:
    """One provider and its connections, shared by its models while the context is open.

    `base_url` is like `https://api.openai.com/v1`, which is the default.
    """

    def __init__(
        self,
        api_key: str,
        base_url: str | None = None,
        *,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._client = AsyncOpenAI(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,
            timeout=Timeout(None, connect=CONNECT_TIMEOUT_S),
            default_headers={"Accept-Encoding": "identity"},  # a compressor would hold tokens back
            http_client=DefaultAioHttpClient(
                limits=httpx2.Limits(max_connections=max_connections, keepalive_expiry=15),
                follow_redirects=False,
                trust_env=False,
            ),
        )

    def model(
        self, model: str, *, name: str | None = None, shape: Callable[[Json], Json] | None = None
    ) -> OpenAIModel:
        """Return the model that the provider calls `model`; see `OpenAIModel`."""
        return OpenAIModel(self._client, model, name=name, shape=shape)

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
    """A model of a provider; `name` is `openai:` and the model's own name unless given.

    `shape` has the last word on the JSON body of every request, for servers that need another.
    """

    def __init__(
        self,
        client: AsyncOpenAI,
        model: str,
        *,
        name: str | None = None,
        shape: Callable[[Json], Json] | None = None,
    ) -> None:
        self._client = client
        self._model = model
        self._name = name or f"openai:{model}"
        self._shape = shape

    @property
    def name(self) -> str:
        """The name under which teams and events know it."""
        return self._name

    @asynccontextmanager
    async def stream(
        self, request: ModelRequest
    ) -> AsyncGenerator[AsyncIterator[Sequence[ModelEvent]]]:
        """Call the model; see `app.ports.Model`."""
        parser = ResponsesParser(output_cap(request), keeps_items=keeps_items(self._model, request))
        async with AsyncExitStack() as stack:
            response = await _open(stack, self._call(request))
            chunks = response.iter_bytes()
            yield await stack.enter_async_context(aclosing(_read(chunks, parser)))
            if parser.is_over:
                await _read_rest(chunks)

    def _call(self, request: ModelRequest) -> AbstractAsyncContextManager[AsyncAPIResponse[Any]]:
        """Prepare the call. The body is ours whole: the SDK's own knows only items of its time."""
        body = body_of(self._model, request)
        return self._client.responses.with_streaming_response.create(
            model=self._model,
            stream=True,
            extra_body=self._shape(body) if self._shape else body,
        )


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
    chunks: AsyncIterator[bytes], parser: ResponsesParser
) -> AsyncGenerator[Sequence[ModelEvent]]:
    """Yield what arrives together, to the provider's end. Raises `ModelFailed`."""
    is_silent = True
    while not parser.is_over:
        try:
            events = parser.feed(await anext(chunks))
        except StopAsyncIteration:
            events = parser.finish()
        except Exception:  # the transport raises from three libraries, all mean a break
            raise ModelFailed(
                "model_incomplete",
                "The connection to the model's provider broke.",
                retry_code="connection_error" if is_silent else None,
            ) from None
        await checkpoint_if_cancelled()
        if events:
            is_silent = False
            yield events
    if parser.failure is not None:
        raise parser.failure


async def _read_rest(chunks: AsyncIterator[bytes]) -> None:
    """Let the body end, so that the connection is fit for the next call; closing it is no harm."""
    with anyio.move_on_after(REST_OF_BODY_S), suppress(Exception):
        async for _ in chunks:
            pass
