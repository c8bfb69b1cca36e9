from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.closing import Failed
from app.domain.errors import ModelFailed
from app.domain.events import Failure
from app.models import scripted
from app.models.dialects import CHAT, RESPONSES, Dialect
from app.models.openai import OpenAIProvider
from app.models.retrying import MAX_RETRY_AFTER_S, RetryingModel, backoff_s
from app.ports import (
    AssistantTurn,
    Model,
    ModelEvent,
    ModelRequest,
    ReasoningDelta,
    Retry,
    TextDelta,
    TurnEnd,
)
from app.runtime.cancellation import CancellationFlag, IdleTimer
from tests.upstream import (
    CallTool,
    Drop,
    End,
    Fail,
    Hold,
    Open,
    Pause,
    Plan,
    Raw,
    Say,
    Think,
    Upstream,
    in_turn,
)

pytestmark = pytest.mark.anyio

SOON_S = 0.25
ASK = ModelRequest("", [])
NOW = {"retry-after-ms": "0"}


@pytest.fixture(params=[RESPONSES, CHAT], ids=lambda dialect: dialect.name)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """The API that is spoken; a test that asks for it holds for both."""
    spoken: Dialect = request.param
    return spoken


@asynccontextmanager
async def retried(
    *plans: Plan, retries: int = 2, dialect: Dialect = RESPONSES
) -> AsyncIterator[tuple[Upstream, Model]]:
    async with (
        Upstream(in_turn(*plans)) as upstream,
        OpenAIProvider("k", upstream.base_url) as provider,
    ):
        model = provider.model("x", dialect=dialect)
        yield upstream, RetryingModel(model, retries, chance=lambda: -0.98)


async def listen(model: Model) -> tuple[list[ModelEvent], ModelFailed | None]:
    events: list[ModelEvent] = []
    with anyio.fail_after(5):
        try:
            async with model.stream(ASK) as batches:
                async for batch in batches:
                    events += batch
        except ModelFailed as failure:
            return events, failure
    return events, None


async def test_a_call_that_failed_before_its_first_token_is_made_again(dialect: Dialect) -> None:
    plans: list[Plan] = [[Fail(429, "rate_limit_exceeded")], [Open(), Drop()], [Say("Hi")]]
    async with retried(*plans, dialect=dialect) as (upstream, model):
        events, failure = await listen(model)
        assert len(upstream.exchanges) == 3
    assert failure is None
    assert events[:3] == [
        Retry(1, 0.005, "rate_limited", 429, "rate_limit_exceeded"),
        Retry(2, 0.01, "connection_error"),
        TextDelta("Hi"),
    ]
    assert isinstance(events[3], TurnEnd)
    assert events[3].turn == AssistantTurn("Hi")


async def test_the_last_failure_is_the_calls_own() -> None:
    async with retried([Fail(500)], [Fail(503)]) as (upstream, model):
        events, failure = await listen(model)
        assert len(upstream.exchanges) == 3
    assert [e.upstream_status for e in events if isinstance(e, Retry)] == [500, 503]
    assert failure is not None
    assert (failure.upstream_status, failure.retry_code) == (503, "server_error")


async def test_without_retries_there_is_one_request() -> None:
    async with retried([Fail(500)], retries=0) as (upstream, model):
        assert (await listen(model))[0] == []
        assert len(upstream.exchanges) == 1


@pytest.mark.parametrize(
    "plan",
    [
        [Fail(400)],
        [Fail(401)],
        [Say("Once"), Drop()],
        [Think("hm"), Drop()],
        [CallTool("look"), Drop()],
        [CallTool("look", '{"at":', '"sk'), Drop()],
        [CallTool("look", '{"at":'), End("failed", code="server_error")],
        [CallTool("look", '{"at":'), Raw(b'data: {"error": {"code": "server_error"}}\n\n')],
        [Say("Once"), End("failed", code="server_error")],
        [Fail(429, headers={"Retry-After": str(MAX_RETRY_AFTER_S + 1)})],
    ],
)
async def test_what_a_retry_would_not_mend_or_would_say_twice_is_not_tried_again(
    plan: Plan, dialect: Dialect
) -> None:
    async with retried(plan, [Say("again")], dialect=dialect) as (upstream, model):
        events, failure = await listen(model)
        assert len(upstream.exchanges) == 1
    assert failure is not None
    assert all(isinstance(event, TextDelta | ReasoningDelta) for event in events)


async def test_the_wait_is_as_long_as_the_provider_asks_and_told_before_it_begins() -> None:
    plans: list[Plan] = [[Fail(429, headers={"retry-after-ms": "200"})], [Say("Hi")]]
    async with retried(*plans) as (upstream, model), model.stream(ASK) as batches:
        with anyio.fail_after(5):
            assert await anext(batches) == [
                Retry(1, 0.2, "rate_limited", 429, "invalid_request_error")
            ]
            told = time.perf_counter()
            assert (await anext(batches))[0] == TextDelta("Hi")
        assert upstream.exchanges[1].started_at - told >= 0.199


async def test_a_cancel_ends_the_wait_at_once_and_no_request_follows() -> None:
    async with retried([Fail(429, headers={"Retry-After": "30"})]) as (upstream, model):
        with anyio.fail_after(5):
            async with model.stream(ASK) as batches:
                assert isinstance((await anext(batches))[0], Retry)
                with anyio.move_on_after(0.05) as scope:
                    await anext(batches)
                assert anyio.current_time() - scope.deadline < SOON_S
        assert len(upstream.exchanges) == 1


async def test_a_deadline_ends_the_wait_at_once_and_no_request_follows() -> None:
    async with retried([Fail(429, headers={"Retry-After": "30"})]) as (upstream, model):
        flag = CancellationFlag(deadline=anyio.current_time() + 0.3)
        with anyio.fail_after(5), IdleTimer(0.1) as timer, flag.scope:
            async with model.stream(ASK) as batches:
                async for batch in batches:
                    assert isinstance(batch[0], Retry)
                    timer.heard(batch[0].delay_s)
        assert 0 <= anyio.current_time() - flag.scope.deadline < SOON_S
        assert len(upstream.exchanges) == 1
    assert flag.ending(None) == Failed(Failure("deadline_exceeded", "The run's time was over."))


async def listen_for(idle_s: float, model: Model) -> list[ModelEvent]:
    """Listen as an agent does, who counts the seconds of silence."""
    events: list[ModelEvent] = []
    with anyio.fail_after(5), IdleTimer(idle_s) as timer:
        async with model.stream(ASK) as batches:
            async for batch in batches:
                timer.heard()
                events += batch
    return events


PROGRESS = Raw(b'data: {"type":"response.web_search_call.searching","item_id":"ws"}\n\n')
COMMENT = Raw(b": still connected\n\n")


async def test_arguments_under_way_are_no_silence(dialect: Dialect) -> None:
    plan: Plan = [CallTool("look", *'{"at":"x"}', every_s=0.1)]
    async with retried(plan, dialect=dialect) as (_, model):
        end = (await listen_for(0.6, model))[-1]
    assert isinstance(end, TurnEnd)
    assert end.turn.calls[0].arguments == '{"at":"x"}'


async def test_a_hosted_tools_progress_is_no_silence() -> None:
    async with retried([*(PROGRESS, Pause(0.1)) * 10, Say("Found")]) as (_, model):
        assert TextDelta("Found") in await listen_for(0.6, model)


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param([CallTool("look", '{"at":')], id="in mid-arguments"),
        pytest.param([Open()], id="before the first token"),
    ],
)
async def test_silence_closes_the_connection_and_is_not_tried_again(
    begun: Plan, dialect: Dialect
) -> None:
    async with retried([*begun, Hold()], [Say("never")], dialect=dialect) as (upstream, model):
        with pytest.raises(ModelFailed) as caught:
            await listen_for(0.2, model)
        with anyio.fail_after(5):
            await upstream.exchanges[0].closed()
        assert len(upstream.exchanges) == 1
    assert caught.value.code == "model_timeout"


async def test_comments_alone_are_silence() -> None:
    async with retried([Open(), *(COMMENT, Pause(0.05)) * 40, Say("late")]) as (upstream, model):
        with pytest.raises(ModelFailed) as caught:
            await listen_for(0.3, model)
        assert len(upstream.exchanges) == 1
    assert caught.value.code == "model_timeout"


async def test_a_cancel_during_an_attempt_closes_its_connection_and_is_no_failure(
    dialect: Dialect,
) -> None:
    plans: list[Plan] = [[Fail(500, headers=NOW)], [Say("a"), Hold()], [Say("never")]]
    async with (
        retried(*plans, dialect=dialect) as (upstream, model),
        anyio.create_task_group() as group,
    ):
        group.start_soon(listen, model)
        with anyio.fail_after(5):
            exchange = await upstream.arrived(2)
            await exchange.wrote(1)
            begin = time.perf_counter()
            group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True), anyio.fail_after(5):
            assert await exchange.closed() - begin < SOON_S
        assert len(upstream.exchanges) == 2


async def test_leaving_early_closes_the_connection_at_once() -> None:
    async with retried([Say("a"), Hold()]) as (upstream, model):
        async with model.stream(ASK) as batches:
            await anext(batches)
            begin = time.perf_counter()
        with anyio.fail_after(5):
            assert await upstream.exchanges[0].closed() - begin < SOON_S


async def test_calls_share_no_state() -> None:
    plans: list[Plan] = [[Fail(500)], [Fail(500)], [Say("a")], [Fail(500)], [Fail(500)], [Say("b")]]
    async with retried(*plans) as (_, model):
        results = [await listen(model) for _ in range(2)]
    assert [failure for _, failure in results] == [None, None]
    assert [[e.attempt for e in events if isinstance(e, Retry)] for events, _ in results] == [
        [1, 2],
        [1, 2],
    ]


class Silent:
    """A model that fails as one does whose silence was too long."""

    name = "silent"

    def __init__(self) -> None:
        self.calls = 0

    def __aiter__(self) -> Silent:
        return self

    async def __anext__(self) -> list[ModelEvent]:
        raise ModelFailed("model_timeout", "Silence.", retry_code="connection_error")

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[list[ModelEvent]]]:
        self.calls += 1
        yield self


async def test_silence_is_never_tried_again() -> None:
    silent = Silent()
    events, failure = await listen(RetryingModel(silent))
    assert (events, silent.calls) == ([], 1)
    assert failure is not None
    assert failure.code == "model_timeout"


async def test_what_was_said_is_not_said_again_whatever_the_models_failure_asks_for() -> None:
    failure = ModelFailed("model_error", "Later.", retry_code="server_error")
    model = scripted.ScriptedModel(lambda _: [scripted.Say("Once"), scripted.Fail(failure)])
    assert await listen(RetryingModel(model)) == ([TextDelta("Once")], failure)
    assert len(model.requests) == 1


def test_its_name_is_the_models() -> None:
    assert RetryingModel(Silent()).name == "silent"


@given(st.integers(1, 100), st.floats(0, 1))
def test_the_backoff_doubles_from_half_a_second_to_eight(attempt: int, chance: float) -> None:
    longest = min(0.5 * 2.0 ** (attempt - 1), 8)
    assert longest / 2 <= backoff_s(attempt, chance) <= longest
