"""A second, independent upstream: PyPI's llmock, which also keeps a record of what it sent."""

from __future__ import annotations

import anyio
import pytest
from llmock.journal import RequestRecord
from llmock.pytest_plugin import LLMock

from app.domain.errors import ModelFailed
from app.models.dialects import CHAT, RESPONSES, Dialect
from app.models.openai import OpenAIModel, OpenAIProvider
from app.models.retrying import RetryingModel
from app.ports import Model, ModelEvent, ModelRequest, Retry, TextDelta, ToolSpec, TurnEnd, UserText

pytestmark = pytest.mark.anyio

WORDS = "Once upon a time there was a model that told stories"
ASK = ModelRequest("Be brief.", [UserText("Hello?")])
LEAD_IN = {"openai": 4, "chat": 1}
"""llmock's chunks ahead of the first delta."""


@pytest.fixture(params=[RESPONSES, CHAT], ids=lambda dialect: dialect.name)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    spoken: Dialect = request.param
    return spoken


async def listen(model: Model, request: ModelRequest = ASK) -> list[ModelEvent]:
    with anyio.fail_after(10):
        async with model.stream(request) as batches:
            return [event async for batch in batches for event in batch]


async def call(llmock: LLMock, dialect: Dialect, request: ModelRequest = ASK) -> list[ModelEvent]:
    async with OpenAIProvider("k", llmock.base_url()) as provider:
        return await listen(provider.model("gpt-4o", dialect=dialect), request)


async def fail(llmock: LLMock, dialect: Dialect) -> ModelFailed:
    with pytest.raises(ModelFailed) as caught:
        await call(llmock, dialect)
    return caught.value


async def records(llmock: LLMock) -> list[RequestRecord]:
    """What llmock remembers, once it has noticed what became of every request."""
    return await anyio.to_thread.run_sync(lambda: llmock.requests)


async def test_a_whole_answer_is_heard_word_by_word(llmock: LLMock, dialect: Dialect) -> None:
    llmock.reply(WORDS)
    *deltas, end = await call(llmock, dialect)
    assert len(deltas) == len(WORDS.split())
    assert isinstance(end, TurnEnd)
    assert (end.turn.text, end.finish_reason) == (WORDS, "stop")
    assert end.usage is not None


async def test_a_tool_call_is_put_together_from_its_fragments(
    llmock: LLMock, dialect: Dialect
) -> None:
    llmock.call_tool("look", {"at": "the sky, and at the sea below it"})
    tool = ToolSpec("look", "Looks.", {"type": "object", "properties": {}})
    end = (await call(llmock, dialect, ModelRequest("", [UserText("Look!")], tools=[tool])))[-1]
    assert isinstance(end, TurnEnd)
    assert [(call.name, call.arguments) for call in end.turn.calls] == [
        ("look", '{"at": "the sky, and at the sea below it"}')
    ]


@pytest.mark.parametrize("words", [3, 0])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("disconnect", "model_incomplete"),
        ("truncate", "model_incomplete"),
        ("corrupt", "model_error"),
    ],
)
async def test_a_broken_stream_is_a_failure(
    llmock: LLMock, dialect: Dialect, fault: str, code: str, words: int
) -> None:
    llmock.reply(WORDS)
    getattr(llmock, fault)(after_chunks=LEAD_IN[dialect.name] + words)
    failure = await fail(llmock, dialect)
    assert failure.code == code
    is_fit = fault == "disconnect" and not words
    assert failure.retry_code == ("connection_error" if is_fit else None)


@pytest.mark.parametrize(("status", "retry_code"), [(429, "rate_limited"), (503, "server_error")])
async def test_a_refusal_is_a_failure_with_its_status(
    llmock: LLMock, dialect: Dialect, status: int, retry_code: str
) -> None:
    llmock.fail(status, retry_after=2)
    failure = await fail(llmock, dialect)
    assert (failure.code, failure.upstream_status) == ("model_error", status)
    assert (failure.retry_code, failure.retry_after_s) == (retry_code, 2)


async def test_retries_wait_as_long_as_asked_and_then_succeed(
    llmock: LLMock, dialect: Dialect
) -> None:
    llmock.rate_limit(times=2, retry_after=0.1).reply("Hi")
    async with OpenAIProvider("k", llmock.base_url()) as provider:
        model = provider.model("gpt-4o", dialect=dialect)
        events = await listen(RetryingModel(model, chance=lambda: -0.9))
    assert [event.attempt for event in events if isinstance(event, Retry)] == [1, 2]
    assert isinstance(events[-1], TurnEnd)
    llmock.assert_resilient(strict=True)


async def _hear(model: OpenAIModel, deltas: int, scope: anyio.CancelScope | None) -> None:
    """Hear some deltas; then leave, or be cancelled while waiting for more."""
    heard = 0
    async with model.stream(ASK) as batches:
        async for batch in batches:
            heard += sum(isinstance(event, TextDelta) for event in batch)
            if heard >= deltas and scope is None:
                return
            if heard >= deltas and scope is not None:
                scope.cancel()


async def test_a_reply_that_was_left_is_remembered_as_aborted(
    llmock: LLMock, dialect: Dialect
) -> None:
    llmock.reply(WORDS).pace(20)
    async with OpenAIProvider("k", llmock.base_url()) as provider:
        with anyio.fail_after(10):
            await _hear(provider.model("gpt-4o", dialect=dialect), 3, None)
    (record,) = await records(llmock)
    assert not record.completed
    assert 3 <= record.chunks_sent - LEAD_IN[dialect.name] < len(WORDS.split())


async def test_a_reply_cancelled_in_silence_is_remembered_as_aborted(
    llmock: LLMock, dialect: Dialect
) -> None:
    llmock.reply(WORDS).stall(after_chunks=LEAD_IN[dialect.name] + 3, seconds=30)
    async with OpenAIProvider("k", llmock.base_url()) as provider:
        with anyio.fail_after(10), anyio.CancelScope() as scope:
            await _hear(provider.model("gpt-4o", dialect=dialect), 3, scope)
    (record,) = await records(llmock)
    assert (record.completed, record.chunks_sent) == (False, LEAD_IN[dialect.name] + 3)
    assert record.stall_waited is not None
    assert record.stall_waited < 5
