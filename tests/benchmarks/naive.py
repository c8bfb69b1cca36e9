"""What one writes first, as the issue of this benchmark fixed it, to be compared with.

Default SDK client, typed `responses.create(stream=True)`, pydantic `model_dump_json`, one
`asyncio.Queue` a run, `EventSourceResponse` with dicts, uvloop and httptools.

Run as `python -m tests.benchmarks.naive PORT UPSTREAM_PORT`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI
from openai import AsyncOpenAI
from pydantic import BaseModel
from sse_starlette.sse import EventSourceResponse


class Order(BaseModel):
    """What a client asks for."""

    input: str


Piece = dict[str, str] | None


def build(upstream_port: int) -> FastAPI:
    """Return the application."""
    client = AsyncOpenAI(api_key="none", base_url=f"http://127.0.0.1:{upstream_port}/v1")
    api = FastAPI()

    async def produce(order: Order, queue: asyncio.Queue[Piece]) -> None:
        stream = await client.responses.create(model="m", input=order.input, stream=True)
        async for event in stream:
            await queue.put({"event": event.type, "data": event.model_dump_json(warnings=False)})
        await queue.put(None)

    async def consume(order: Order) -> AsyncIterator[dict[str, str]]:
        queue: asyncio.Queue[Piece] = asyncio.Queue()
        task = asyncio.create_task(produce(order, queue))
        try:
            while (piece := await queue.get()) is not None:
                yield piece
        finally:
            task.cancel()

    @api.post("/runs")
    async def start(order: Order) -> EventSourceResponse:
        return EventSourceResponse(consume(order))

    return api


if __name__ == "__main__":
    uvicorn.run(
        build(int(sys.argv[2])),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        backlog=4096,
        log_level="error",
    )
