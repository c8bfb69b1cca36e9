"""An id for each request: in its answer as `X-Request-Id`, and in every log line that it causes.

A run that a request starts goes on under its id, for a task inherits the context it is made in.
The id is made here and never taken from the client: it goes into logs.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.observer.telling import REQUEST_ID

_BYTES: Final = 8


class RequestIds:
    """Gives ids out; pure ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, under an id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(_BYTES)
        REQUEST_ID.set(request_id)
        await self._app(scope, receive, _marking(send, request_id))


def _marking(send: Send, request_id: str) -> Send:
    """Put the id into the answer's head; what follows is passed on without a further await."""
    field = (b"x-request-id", request_id.encode())

    def sending(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], field]}
        return send(message)

    return sending
