"""The two APIs that a provider may speak: what each is asked, through which call, and who reads it.

Everything else (opening, reading, closing, failing) is one code path for both, in `openai.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from openai import AsyncAPIResponse, AsyncOpenAI

from app.models.chat import ChatParser
from app.models.chat_requests import chat_body_of, chat_output_cap
from app.models.parser import StreamParser
from app.models.requests import body_of, keeps_items, output_cap
from app.models.responses import ResponsesParser
from app.models.wire import Json
from app.ports import ModelRequest

Call = Callable[[Json, Mapping[str, str]], AbstractAsyncContextManager[AsyncAPIResponse[Any]]]
"""Makes the call with a JSON body and headers; the response is open while the context is."""


class Dialect(Protocol):
    """One API; `name` is its provider's in the names of models.

    `last_words_s` is how long to wait for what may still follow an end that is complete without it.
    """

    name: str
    last_words_s: float

    def body(self, model: str, request: ModelRequest) -> Json:
        """Return the body of the call, whole: the SDK's own knows only items of its time."""

    def call(self, client: AsyncOpenAI, model: str) -> Call:
        """Return the SDK's method. This loads half of the SDK, and is best done at the start."""

    def parser(self, model: str, request: ModelRequest) -> StreamParser:
        """Return who reads the stream."""


class Responses:
    """`POST /responses`."""

    name = "openai"
    last_words_s = 0.0  # an end here is complete

    def body(self, model: str, request: ModelRequest) -> Json:
        """Return the body of the call."""
        return body_of(model, request)

    def call(self, client: AsyncOpenAI, model: str) -> Call:
        """Return the SDK's method."""
        create = client.responses.with_streaming_response.create
        return lambda body, headers: create(
            model=model, stream=True, extra_body=body, extra_headers=headers
        )

    def parser(self, model: str, request: ModelRequest) -> StreamParser:
        """Return who reads the stream."""
        return ResponsesParser(output_cap(request), keeps_items=keeps_items(model, request))


class Chat:
    """`POST /chat/completions`."""

    name = "chat"

    def __init__(self, last_words_s: float = 5.0) -> None:
        self.last_words_s = last_words_s

    def body(self, model: str, request: ModelRequest) -> Json:
        """Return the body of the call."""
        return chat_body_of(model, request)

    def call(self, client: AsyncOpenAI, model: str) -> Call:
        """Return the SDK's method."""
        create = client.chat.completions.with_streaming_response.create
        return lambda body, headers: create(
            model=model, messages=[], stream=True, extra_body=body, extra_headers=headers
        )

    def parser(self, model: str, request: ModelRequest) -> StreamParser:
        """Return who reads the stream."""
        return ChatParser(chat_output_cap(request))


RESPONSES: Final[Dialect] = Responses()
CHAT: Final[Dialect] = Chat()
