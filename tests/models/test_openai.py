"""The call itself, against a real server on loopback: what it sends, and when it lets go."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import formatdate
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from app.domain.errors import ModelFailed
from app.domain.events import Usage
from app.models.dialects import CHAT, RESPONSES, Chat, Dialect
from app.models.error_bodies import MAX_ERROR_BYTES
from app.models.openai import OpenAIModel, OpenAIProvider
from app.models.requests import is_strict
from app.ports import (
    AssistantTurn,
    ConversationItem,
    ModelEvent,
    ModelRequest,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolResult,
    ToolSpec,
    TurnEnd,
    UserText,
)
from tests.upstream import (
    CallTool,
    Cut,
    Drop,
    End,
    Exchange,
    Fail,
    Hold,
    Json,
    Open,
    Pause,
    Plan,
    Raw,
    Refuse,
    Say,
    Script,
    Step,
    Think,
    Upstream,
    in_turn,
)

pytestmark = pytest.mark.anyio

SOON_S = 0.25
"""A closed socket is noticed within milliseconds; this leaves room for a busy machine."""

_TURNS = 20
"""Of the event loop: some for a client to be told that its connection is closed."""

ASK = ModelRequest("Be brief.", [UserText("Hello?")])
LOOK = ToolSpec("look", "Looks.", {"type": "object", "properties": {"at": {"type": "string"}}})


@pytest.fixture(params=[RESPONSES, CHAT], ids=lambda dialect: dialect.name)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """The API that is spoken; a test that asks for it holds for both."""
    spoken: Dialect = request.param
    return spoken


@asynccontextmanager
async def provided(
    script: Script, dialect: Dialect = RESPONSES, model: str = "gpt-4o"
) -> AsyncIterator[tuple[Upstream, OpenAIModel]]:
    async with Upstream(script) as upstream:
        async with OpenAIProvider("sk-test", upstream.base_url) as provider:
            yield upstream, provider.model(model, dialect=dialect)
        with anyio.fail_after(5):
            await upstream.disconnected()


async def listen(model: OpenAIModel, request: ModelRequest = ASK) -> list[ModelEvent]:
    with anyio.fail_after(5):
        async with model.stream(request) as batches:
            return [event async for batch in batches for event in batch]


async def speaking(batches: AsyncIterator[Sequence[ModelEvent]]) -> Sequence[ModelEvent]:
    """The next batch that says anything."""
    return await anext(batch async for batch in batches if batch)


async def fail(model: OpenAIModel, request: ModelRequest = ASK) -> ModelFailed:
    with pytest.raises(ModelFailed) as caught:
        await listen(model, request)
    assert "secret" not in caught.value.message
    assert caught.value.__cause__ is None
    return caught.value


async def sent(request: ModelRequest, model: str = "gpt-4o", dialect: Dialect = RESPONSES) -> Json:
    """The body that reaches the provider."""
    async with provided(in_turn([Say("ok")]), dialect, model) as (upstream, asked):
        await listen(asked, request)
        return upstream.exchanges[0].body


# --- what comes back ------------------------------------------------------------------------------


async def test_a_reply_comes_back_as_events_that_end_with_the_turn(dialect: Dialect) -> None:
    plan: Plan = [Think("hm"), Say("Once", " upon"), CallTool("look", "{", "}", call_id="c")]
    async with provided(in_turn(plan), dialect) as (_, model):
        *events, end = await listen(model)
    assert events == [ReasoningDelta("hm"), TextDelta("Once"), TextDelta(" upon")]
    assert isinstance(end, TurnEnd)
    assert (end.turn.text, end.turn.calls) == ("Once upon", (ToolCall("c", "look", "{}"),))
    assert end.usage is not None
    assert end.usage.output_tokens == 5


async def test_a_delta_comes_out_when_it_arrives_and_not_with_the_next_one(
    dialect: Dialect,
) -> None:
    hold = Hold()
    async with provided(in_turn([Say("Once"), hold, Say(" upon")]), dialect) as (_, model):
        with anyio.fail_after(5):
            async with model.stream(ASK) as batches:
                assert await speaking(batches) == [TextDelta("Once")]
                hold.release()
                assert TextDelta(" upon") in [e async for batch in batches for e in batch]


async def test_a_delta_of_a_calls_arguments_comes_out_as_an_empty_batch_when_it_arrives(
    dialect: Dialect,
) -> None:
    opened, called = Hold(), Hold()
    plan: Plan = [Open(), opened, CallTool("look", "{"), called, Say("Once")]
    async with provided(in_turn(plan), dialect) as (_, model):
        with anyio.fail_after(5):
            async with model.stream(ASK) as batches:
                for hold in (opened, called):
                    assert not await anext(batches)
                    hold.release()
                assert (await speaking(batches))[0] == TextDelta("Once")


async def test_a_refusal_and_a_cut_at_our_cap_are_ends(dialect: Dialect) -> None:
    cut = End("incomplete", "max_output_tokens")
    async with provided(in_turn([Refuse("No")], [Say("a"), cut]), dialect) as (_, model):
        refused = (await listen(model))[-1]
        capped = (await listen(model, ModelRequest("", [], max_output_tokens=16)))[-1]
    assert isinstance(refused, TurnEnd)
    assert isinstance(capped, TurnEnd)
    assert (refused.finish_reason, capped.finish_reason) == ("refusal", "length")


async def test_the_name_is_the_providers_unless_given() -> None:
    async with OpenAIProvider("sk-test") as provider:
        assert provider.model("gpt-4o").name == "openai:gpt-4o"
        assert provider.model("x", dialect=CHAT).name == "chat:x"
        assert provider.model("x", name="local:x").name == "local:x"


# --- what is sent ---------------------------------------------------------------------------------


async def test_a_plain_request_holds_the_conversation_and_keeps_nothing() -> None:
    turn = AssistantTurn("Let me look.", (ToolCall("c1", "look", '{"at":"sky"}'),))
    said: list[ConversationItem] = [
        UserText("What is up?"),
        turn,
        ToolResult("c1", "clouds"),
        UserText("And?"),
    ]
    assert await sent(ModelRequest("Be brief.", said)) == {
        "model": "gpt-4o",
        "instructions": "Be brief.",
        "stream": True,
        "store": False,
        "input": [
            {"role": "user", "content": "What is up?"},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Let me look."}],
            },
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "look",
                "arguments": '{"at":"sky"}',
            },
            {"type": "function_call_output", "call_id": "c1", "output": "clouds"},
            {"role": "user", "content": "And?"},
        ],
    }


async def test_tools_are_sent_with_their_choice_and_hosted_ones_as_they_are() -> None:
    closed = {
        "type": "object",
        "properties": {"at": {"type": "string", "enum": ["sky"]}},
        "required": ["at"],
        "additionalProperties": False,
    }
    tools = [LOOK, ToolSpec("peek", "Peeks.", closed)]
    body = await sent(
        ModelRequest(
            "",
            [],
            tools=tools,
            hosted_tools=[{"type": "web_search"}],
            tool_choice="required",
            parallel_tool_calls=False,
        )
    )
    assert body["tools"] == [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
            "strict": strict,
        }
        for tool, strict in zip(tools, (False, True), strict=True)
    ] + [{"type": "web_search"}]
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", False)


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "array", "items": {"type": "string"}}, True),
        ({"type": "array", "items": {"type": "object"}}, False),
        ({"type": "object", "additionalProperties": False}, True),
        ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, False),
        ({"type": "string", "maxLength": 5}, False),
        ({"enum": ["a"]}, False),
        (True, False),
    ],
)
def test_only_closed_schemas_in_plain_words_are_strict(schema: object, *, strict: bool) -> None:
    assert is_strict(schema) is strict


async def test_options_are_passed_on_but_choose_nothing_of_ours() -> None:
    options = {"temperature": 0.5, "seed": 7, "top_p": None, "store": True, "stream": False}
    body = await sent(ModelRequest("", [], options={**options, "tool_choice": "none"}))
    assert body == {
        "model": "gpt-4o",
        "input": [],
        "store": False,
        "stream": True,
        "temperature": 0.5,
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("asked", "option", "cap"), [(50, 20, 20), (20, 50, 20), (None, 50, 50), (20, None, 20)]
)
async def test_the_smaller_cap_is_sent(asked: int | None, option: int | None, cap: int) -> None:
    request = ModelRequest("", [], max_output_tokens=asked, options={"max_output_tokens": option})
    assert (await sent(request))["max_output_tokens"] == cap


@pytest.mark.parametrize(
    ("model", "options", "asks"),
    [
        ("gpt-5.2-mini", {}, True),
        ("openai/o3", {}, True),
        ("gpt-4o", {"reasoning": {"effort": "low"}}, True),
        ("gpt-4o", {}, False),
        ("gpt-5-chat-latest", {}, False),
        ("smollm2", {}, False),
    ],
)
async def test_reasoning_is_asked_for_where_the_model_reasons(
    model: str, options: dict[str, Any], asks: bool
) -> None:
    body = await sent(ModelRequest("", [], options=options), model)
    assert body.get("include") == (["reasoning.encrypted_content"] if asks else None)


async def test_what_a_reasoning_model_gave_is_given_back_as_it_came() -> None:
    plans: list[Plan] = [[Think("hm"), Say("Hi"), CallTool("look", "{}")], [Say("Done")]]
    async with provided(in_turn(*plans), model="gpt-5.2-mini") as (upstream, model):
        end = (await listen(model))[-1]
        assert isinstance(end, TurnEnd)
        call_id = end.turn.calls[0].call_id
        await listen(model, ModelRequest("", [end.turn, ToolResult(call_id, "clouds")]))
        given = upstream.exchanges[1].body["input"]
    assert given == [
        *end.turn.provider_items,
        {"type": "function_call_output", "call_id": call_id, "output": "clouds"},
    ]
    assert [item["type"] for item in given[:3]] == ["reasoning", "message", "function_call"]
    assert given[0]["encrypted_content"]


async def test_reasoning_that_is_not_sealed_stays_here() -> None:
    items = [{"type": "reasoning", "id": "rs"}, {"type": "web_search_call", "id": "ws"}]
    body = await sent(ModelRequest("", [AssistantTurn("", provider_items=tuple(items))]))
    assert body["input"] == [{"type": "web_search_call", "id": "ws"}]


async def test_lone_surrogates_in_what_is_sent_are_repaired() -> None:
    item = {"type": "message", "content": [{"text": "\ud83d"}]}
    said: list[ConversationItem] = [
        UserText("\ud83d\ude00"),
        AssistantTurn("", provider_items=(item,)),
        ToolResult("c", "\udc00"),
    ]
    body = await sent(ModelRequest("\ud83d", said, options={"user": "\ude00"}))
    assert body["instructions"] == body["user"] == body["input"][2]["output"] == "\ufffd"
    assert body["input"][0]["content"] == "\U0001f600"
    assert body["input"][1]["content"] == [{"text": "\ufffd"}]


async def test_headers_of_a_provider_go_with_every_request() -> None:
    async with Upstream(in_turn([])) as upstream:
        headers = {"Connection": "close"}
        async with OpenAIProvider("sk-test", upstream.base_url, headers=headers) as provider:
            await listen(provider.model("x"))
        assert upstream.exchanges[0].headers["connection"] == "close"


async def test_what_is_sent_bears_the_key_and_asks_for_no_compression(dialect: Dialect) -> None:
    async with provided(in_turn([]), dialect) as (upstream, model):
        await listen(model)
        headers = upstream.exchanges[0].headers
    assert headers["authorization"] == "Bearer sk-test"
    assert headers["accept-encoding"] == "identity"


# --- connections ----------------------------------------------------------------------------------


async def test_two_calls_share_one_connection(dialect: Dialect) -> None:
    async with provided(in_turn([Say("a")]), dialect) as (upstream, model):
        await listen(model)
        await listen(model)
        assert upstream.connections_made == 1


ENDS = {
    RESPONSES.name: b'data: {"type":"response.completed","response":{}}\n\n',
    CHAT.name: b'data: {"choices":[{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
}


async def test_a_body_that_ends_a_little_later_leaves_a_connection_that_is_fit(
    dialect: Dialect,
) -> None:
    end = Raw(ENDS[dialect.name])
    async with provided(in_turn([end, Pause(0.01), Raw(b": bye\n\n"), Cut()]), dialect) as (
        upstream,
        model,
    ):
        await listen(model)
        await listen(model)
        assert upstream.connections_made == 1


async def test_a_consumer_that_leaves_at_the_end_leaves_a_connection_that_is_fit(
    dialect: Dialect,
) -> None:
    async with provided(in_turn([Say("a")]), dialect) as (upstream, model):
        for _ in range(2):
            async with model.stream(ASK) as batches:
                async for batch in batches:
                    if any(isinstance(event, TurnEnd) for event in batch):
                        break
        assert upstream.connections_made == 1


async def test_a_body_that_does_not_end_is_left_after_a_moment(dialect: Dialect) -> None:
    async with provided(in_turn([Raw(ENDS[dialect.name]), Hold()]), dialect) as (upstream, model):
        begin = time.perf_counter()
        assert isinstance((await listen(model))[-1], TurnEnd)
        assert time.perf_counter() - begin < 2
        with anyio.fail_after(5):
            await upstream.exchanges[0].closed()


async def test_hundreds_of_streams_run_at_once() -> None:
    hold = Hold()
    async with (
        provided(in_turn([Say("a"), hold])) as (upstream, model),
        anyio.create_task_group() as group,
    ):
        for _ in range(300):
            group.start_soon(listen, model)
        with anyio.fail_after(10):
            await (await upstream.arrived(300)).wrote(1)
        assert upstream.open_connections == 300
        hold.release()


# --- leaving --------------------------------------------------------------------------------------


async def _until_arrived(exchange: Exchange) -> None:
    pass


async def _until_first_delta(exchange: Exchange) -> None:
    await exchange.wrote(1)


async def _until_third_delta(exchange: Exchange) -> None:
    await exchange.wrote(3)


LOOPS = [
    pytest.param("asyncio", id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop, as in production"),
]
PHASES = [
    pytest.param(lambda: [Hold()], _until_arrived, id="before the headers"),
    pytest.param(lambda: [Open(), Hold()], _until_arrived, id="before the first token"),
    pytest.param(lambda: [Say("a"), Hold()], _until_first_delta, id="in mid-stream silence"),
    pytest.param(
        lambda: [Say(*"abcdefgh" * 99, every_s=0.01)], _until_third_delta, id="between tokens"
    ),
    pytest.param(lambda: [Say(*"abcdefgh" * 9999)], _until_third_delta, id="in a flood"),
]


@pytest.mark.parametrize("anyio_backend", LOOPS)
@pytest.mark.parametrize(("plan", "phase"), PHASES)
async def test_a_cancel_closes_the_connection_at_once(
    plan: Callable[[], Plan], phase: Any, dialect: Dialect
) -> None:
    async with (
        provided(in_turn(plan()), dialect) as (upstream, model),
        anyio.create_task_group() as group,
    ):
        group.start_soon(listen, model)
        with anyio.fail_after(5):
            exchange = await upstream.arrived(1)
            await phase(exchange)
            begin = time.perf_counter()
            group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True), anyio.fail_after(5):
            assert await exchange.closed() - begin < SOON_S
        assert not exchange.is_complete


async def test_leaving_by_an_error_closes_the_connection_at_once(dialect: Dialect) -> None:
    async with provided(in_turn([Say("a"), Hold()]), dialect) as (upstream, model):
        begin = 0.0

        async def stumble() -> None:
            nonlocal begin
            async with model.stream(ASK) as batches:
                await anext(batches)
                begin = time.perf_counter()
                raise RuntimeError("mine")

        with pytest.raises(RuntimeError, match="mine"):
            await stumble()
        with anyio.fail_after(5):
            assert await upstream.exchanges[0].closed() - begin < SOON_S


async def test_leaving_early_closes_the_connection_at_once(dialect: Dialect) -> None:
    async with provided(in_turn([Say("a"), Hold()]), dialect) as (upstream, model):
        async with model.stream(ASK) as batches:
            await anext(batches)
            begin = time.perf_counter()
        assert time.perf_counter() - begin < SOON_S
        with anyio.fail_after(5):
            assert await upstream.exchanges[0].closed() - begin < SOON_S


@asynccontextmanager
async def deaf_port() -> AsyncIterator[int]:
    """A port whose queue of connections is full, so that connecting to it takes for ever."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        async with AsyncExitStack() as stack:
            for _ in range(4):
                caller = stack.enter_context(socket.socket())
                caller.setblocking(False)
                caller.connect_ex(server.getsockname())
            yield server.getsockname()[1]


@pytest.mark.parametrize("anyio_backend", LOOPS)
async def test_a_cancel_takes_effect_while_connecting() -> None:
    async with deaf_port() as port, OpenAIProvider("k", f"http://127.0.0.1:{port}/v1") as provider:
        with anyio.fail_after(5):
            with anyio.move_on_after(0.1) as scope:
                await listen(provider.model("x"))
            assert scope.cancelled_caught
            assert anyio.current_time() - scope.deadline < SOON_S


@pytest.mark.parametrize("anyio_backend", LOOPS)
@pytest.mark.parametrize("slots", [4, 1000])
async def test_random_cancels_leave_no_connection_and_no_slot_behind(
    slots: int, dialect: Dialect
) -> None:
    chance = random.Random(7)  # noqa: S311 - no secret, a test that can be repeated
    tasks = asyncio.all_tasks()

    def script(_: Json, number: int) -> Plan:
        phases: Sequence[Plan] = (
            [Pause(0.01), Say(*"abc", every_s=0.002)],
            [Open(), Pause(0.01), Say("a")],
            [Say(*"abcdef", every_s=0.002)],
        )
        return phases[number % 3]

    async def call_for(seconds: float, model: OpenAIModel) -> None:
        with anyio.move_on_after(seconds):
            await listen(model)

    async with Upstream(script) as upstream:
        async with OpenAIProvider("k", upstream.base_url, max_connections=slots) as provider:
            model = provider.model("x", dialect=dialect)
            with anyio.fail_after(20):
                for _ in range(6):
                    async with anyio.create_task_group() as group:
                        for _ in range(50):
                            group.start_soon(call_for, chance.random() * 0.04, model)
                await upstream.idle()
            assert any(exchange.closed_at for exchange in upstream.exchanges)
            assert upstream.open_connections <= slots
            async with anyio.create_task_group() as group:
                for _ in range(min(slots, 20)):
                    group.start_soon(listen, model)
        with anyio.fail_after(5):
            await upstream.disconnected()
    assert asyncio.all_tasks() <= tasks


# --- failures -------------------------------------------------------------------------------------

CODES = {"rate_limit_exceeded", "insufficient_quota", "context_length_exceeded", "invalid_api_key"}


@pytest.mark.parametrize(
    ("reply", "retry_code", "after_s"),
    [
        (Fail(429, "rate_limit_exceeded", {"Retry-After": "3"}), "rate_limited", 3),
        (Fail(429, headers={"retry-after-ms": "1500", "Retry-After": "9"}), "rate_limited", 1.5),
        (Fail(429, headers={"Retry-After": "soon"}), "rate_limited", None),
        (Fail(429, headers={"Retry-After": "-5"}), "rate_limited", 0),
        (Fail(429, headers={"Retry-After": "inf"}), "rate_limited", None),
        (Fail(429, headers={"Retry-After": formatdate(0, usegmt=True)}), "rate_limited", 0),
        (Fail(429, "insufficient_quota"), None, None),
        (Fail(500), "server_error", None),
        (Fail(503, headers={"Retry-After": "2"}), "server_error", 2),
        (Fail(503, headers={"x-should-retry": "false"}), None, None),
        (Fail(408), "server_error", None),
        (Fail(409), "server_error", None),
        (Fail(400, "context_length_exceeded"), None, None),
        (Fail(401, "invalid_api_key"), None, None),
        (Fail(404, "Not A Code"), None, None),
        (Fail(422, body=b"<html>secret"), None, None),
        (Fail(302, headers={"Location": "/v1/elsewhere"}), None, None),
    ],
)
async def test_a_refusal_says_its_status_and_whether_a_retry_may_help(
    reply: Fail, retry_code: str | None, after_s: float | None
) -> None:
    async with provided(in_turn([reply])) as (upstream, model):
        failure = await fail(model)
        assert len(upstream.exchanges) == 1
    assert (failure.code, failure.upstream_status) == ("model_error", reply.status)
    assert (failure.retry_code, failure.retry_after_s) == (retry_code, after_s)
    said = None if reply.body else "invalid_request_error"
    assert failure.upstream_code == (reply.code if reply.code in CODES else said)


async def test_a_date_to_come_back_at_is_read_as_seconds_from_now() -> None:
    date = formatdate(time.time() + 30, usegmt=True)
    async with provided(in_turn([Fail(429, headers={"Retry-After": date})])) as (_, model):
        failure = await fail(model)
    assert failure.retry_after_s is not None
    assert 25 < failure.retry_after_s <= 30


async def test_a_refusal_whose_body_breaks_off_may_be_tried_again() -> None:
    broken = Fail(500, headers={"Content-Length": "99", "Connection": "close"}, body=b"{")
    async with provided(in_turn([broken])) as (_, model):
        assert (await fail(model)).retry_code == "connection_error"


async def test_an_errors_body_is_read_to_a_limit_and_its_connection_closed(
    dialect: Dialect,
) -> None:
    endless = Fail(400, headers={"Content-Length": str(10**12)}, body=b"x" * MAX_ERROR_BYTES * 2)
    async with provided(in_turn([endless]), dialect) as (upstream, model):
        failure = await fail(model)
        with anyio.fail_after(5):
            await upstream.disconnected()
    assert (failure.code, failure.upstream_status, failure.upstream_code) == (
        "model_error",
        400,
        None,
    )


async def test_a_long_error_below_the_limit_is_understood_and_its_connection_kept() -> None:
    long = Fail(429, "insufficient_quota", message="secret" * (MAX_ERROR_BYTES // 7))
    async with provided(
        in_turn(
            [
                long,
            ],
            [Say("a")],
        )
    ) as (upstream, model):
        assert (await fail(model)).upstream_code == "insufficient_quota"
        await listen(model)
        assert upstream.connections_made == 1


async def test_a_body_that_no_provider_takes_is_a_failure_and_not_sent(dialect: Dialect) -> None:
    async with provided(in_turn([]), dialect) as (upstream, model):
        options = {"logit_bias": {"1": float("nan")}}
        assert (await fail(model, ModelRequest("", [], options=options))).retry_code is None
        assert upstream.exchanges == []


async def test_nobody_at_the_port_is_a_connection_error() -> None:
    async with Upstream(in_turn([])) as upstream:
        url = upstream.base_url
    async with OpenAIProvider("k", url) as provider:
        failure = await fail(provider.model("x"))
    assert (failure.code, failure.retry_code) == ("model_error", "connection_error")
    assert failure.upstream_status is None


@pytest.mark.parametrize(
    ("steps", "code", "retry_code"),
    [
        ([], "model_error", "connection_error"),
        ([Open()], "model_incomplete", "connection_error"),
        ([Say("a")], "model_incomplete", None),
        ([Think("a")], "model_incomplete", None),
        ([CallTool("look")], "model_incomplete", None),
        ([CallTool("look", '{"at":')], "model_incomplete", None),
    ],
)
async def test_a_connection_that_breaks_may_be_tried_again_only_before_the_first_word(
    steps: list[Step], code: str, retry_code: str | None, dialect: Dialect
) -> None:
    async with provided(in_turn([*steps, Drop()]), dialect) as (upstream, model):
        failure = await fail(model)
        assert len(upstream.exchanges) == 1
    assert (failure.code, failure.retry_code) == (code, retry_code)


async def test_a_connection_that_is_reset_in_mid_stream_is_a_failure(dialect: Dialect) -> None:
    hold = Hold()
    async with provided(in_turn([Say("a"), hold, Drop(reset=True)]), dialect) as (_, model):
        with anyio.fail_after(5):
            async with model.stream(ASK) as batches:
                assert await speaking(batches) == [TextDelta("a")]
                hold.release()
                with pytest.raises(ModelFailed) as caught:
                    await anext(batches)
    assert (caught.value.code, caught.value.retry_code) == ("model_incomplete", None)


@pytest.mark.parametrize(
    ("plan", "code", "retry_code"),
    [
        ([Say("a"), Cut()], "model_incomplete", None),
        ([Open(), Cut()], "model_incomplete", None),
        ([Say("a"), Raw(b"data: {\n\n")], "model_error", None),
        ([Say("a"), End("incomplete", "content_filter")], "model_incomplete", None),
        ([Say("a"), End("incomplete", "max_output_tokens")], "model_incomplete", None),
        ([End("failed", code="server_error")], "model_error", "server_error"),
        ([Raw(b'data: {"error": {"message": "secret"}}\n\n')], "model_error", None),
    ],
)
async def test_an_end_that_is_none_is_a_failure(
    plan: Plan, code: str, retry_code: str | None, dialect: Dialect
) -> None:
    async with provided(in_turn(plan), dialect) as (_, model):
        failure = await fail(model)
    assert (failure.code, failure.retry_code) == (code, retry_code)


RESPONSES_END = Raw(b'data: {"type":"response.completed","response":{"status":"completed"}}\n\n')
CHAT_END = Raw(b'data: {"choices":[{"finish_reason":"stop"}]}\n\n')


@pytest.mark.parametrize("then", [Drop(), Hold()], ids=["a break", "silence"])
async def test_what_follows_the_providers_end_takes_nothing_of_the_answer_away(
    then: Step,
) -> None:
    impatient = Chat(last_words_s=0.1)
    async with provided(in_turn([Say("a"), CHAT_END, then]), impatient) as (upstream, model):
        events = await listen(model)
        assert events == [TextDelta("a"), TurnEnd(AssistantTurn("a"))]
        with anyio.fail_after(5):
            await upstream.disconnected()


@pytest.mark.parametrize(("dialect", "end"), [(RESPONSES, RESPONSES_END), (CHAT, CHAT_END)])
async def test_what_came_ahead_of_a_break_is_heard_by_whoever_did_not_listen_just_then(
    dialect: Dialect, end: Raw
) -> None:
    hold = Hold()
    plan: Plan = [Say("a"), hold, Say("b"), end, Drop()]
    async with provided(in_turn(plan), dialect) as (upstream, model):
        with anyio.fail_after(5):
            async with model.stream(ASK) as batches:
                assert await speaking(batches) == [TextDelta("a")]
                hold.release()
                await upstream.disconnected()
                for _ in range(_TURNS):
                    await checkpoint()
                rest = [event async for batch in batches for event in batch]
    assert rest == [TextDelta("b"), TurnEnd(AssistantTurn("ab"))]


async def test_usage_that_comes_a_little_behind_the_providers_end_is_heard() -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
    plan: Plan = [Say("a"), CHAT_END, Pause(0.2), Raw(usage + b"data: [DONE]\n\n"), Cut()]
    async with provided(in_turn(plan), CHAT) as (_, model):
        (*_, end) = await listen(model)
    assert end == TurnEnd(AssistantTurn("a"), usage=Usage(1, 2, 3))
