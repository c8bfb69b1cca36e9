"""Every limit at n, n + 1 and a hundred times n: what is within it is served, the rest is not.

Tenants' runs are in `test_tenants.py`, heads and the time to send in `test_heads.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple

import pytest

from app.api.bodies import MAX_DEPTH, MAX_PARTS
from app.api.readers import Readers
from app.api.services import ApiLimits
from app.models.scripted import Call, Say, Step
from app.ports import ModelRequest, ToolResult
from app.runtime.run_log import Limits
from app.runtime.runner import Capacity
from tests.api.serving import JSON, services_for, serving
from tests.api.test_problems import assert_problem
from tests.api.test_runs import stuck
from tests.runtime.playing import Cast, playing, saying

pytestmark = pytest.mark.anyio

LIMITS: Final = ApiLimits(max_input_chars=50, max_body_bytes=120_000)
LINES: Final = {"Accept": "application/x-ndjson"}


class Bound(NamedTuple):
    """A limit of a request's body: how one of a size is made, and what one that is past it gets."""

    n: int
    make: Callable[[int], bytes]
    refusal: tuple[int, str]


def order(**parts: Any) -> bytes:
    return json.dumps({"input": "x", **parts}).encode()


def notes(count: int) -> Mapping[str, str]:
    return {str(number): "v" for number in range(count)}


INVALID: Final = (422, "invalid_request")
BOUNDS: Final = {
    "bytes": Bound(120_000, lambda n: order().ljust(n), (413, "body_too_large")),
    "input": Bound(50, lambda n: order(input="x" * n), INVALID),
    "input in emoji": Bound(50, lambda n: order(input="\U0001f600" * n), INVALID),
    "metadata": Bound(16, lambda n: order(metadata=notes(n)), INVALID),
    "a key of metadata": Bound(64, lambda n: order(metadata={"k" * n: ""}), INVALID),
    "a value of metadata": Bound(512, lambda n: order(metadata={"k": "v" * n}), INVALID),
    "session": Bound(128, lambda n: order(session_id="s" * n), INVALID),
    "time": Bound(900, lambda n: order(timeout_s=n), INVALID),
}


@pytest.mark.parametrize("name", BOUNDS)
async def test_a_body_may_be_so_much_and_no_more(name: str) -> None:
    n, make, refusal = BOUNDS[name]

    async def chunks(body: bytes) -> Any:
        yield body

    async with serving(services=services_for(Cast(saying("x")), limits=LIMITS)) as served:
        for size in (n, n + 1, 100 * n):
            body = make(size)
            for content in (body, chunks(body)):
                answer = await served.client.post("/runs", content=content, headers=JSON)
                if size == n:
                    assert answer.status_code == 202, answer.text
                else:
                    assert_problem(answer, *refusal)


@pytest.mark.parametrize(
    ("n", "make", "said"),
    [
        (MAX_DEPTH, lambda n: b"[" * n + b"]" * n, f"must not nest deeper than {MAX_DEPTH}"),
        (MAX_PARTS, lambda n: b"[" + b"," * (n - 1), f"must not have more than {MAX_PARTS} parts"),
    ],
    ids=["nesting", "parts"],
)
async def test_what_is_too_much_to_parse_is_not_parsed(
    n: int, make: Callable[[int], bytes], said: str
) -> None:
    async with serving() as served:
        for size in (n, n + 1, 100 * n):
            answer = await served.client.post("/runs", content=make(size), headers=JSON)
            assert (said in answer.text) == (size > n)
            assert answer.status_code in (400, 422)


@pytest.mark.parametrize("tries", [4, 5, 400])
async def test_a_replica_takes_so_many_runs_and_no_more(tries: int) -> None:
    services = services_for(stuck(), capacity=Capacity(running=2, pending=2))
    async with serving(services=services) as served:
        for number in range(tries):
            answer = await served.client.post("/runs", json={"input": "x"})
            if number < 4:
                assert answer.status_code == 202
            else:
                assert_problem(answer, 503, "overloaded")
        found = await served.client.get("/runs?limit=100")
        assert len(found.json()["runs"]) == 4


@pytest.mark.parametrize("tries", [3, 4, 300])
@pytest.mark.parametrize(
    ("bound", "refusal"),
    [
        ({"max_per_run": 3}, (429, "too_many_readers")),
        ({"max_readers": 3}, (503, "overloaded")),
    ],
    ids=["of a run", "of a replica"],
)
async def test_so_many_read_and_no_more(
    bound: dict[str, int], refusal: tuple[int, str], tries: int
) -> None:
    async with serving(services=services_for(stuck(), readers=Readers(**bound))) as served:
        path = f"/runs/{await served.start()}/events"
        async with AsyncExitStack() as stack:
            for number in range(tries):
                if number < 3:
                    reading = await stack.enter_async_context(served.open(path))
                    await reading.until(b": ok\n")
                else:
                    assert_problem(await served.client.get(path, headers=LINES), *refusal)


# --- what a run may do ----------------------------------------------------------------------------


def calling(turns: int, at_once: int = 1) -> Cast:
    """A leader that calls a tool on so many turns, so often at once, and then answers."""

    def script(request: ModelRequest) -> list[Step]:
        done = sum(isinstance(item, ToolResult) for item in request.conversation)
        call = Call("nothing", {})
        return [Say("Done.")] if done >= turns * at_once else [call] * at_once

    return Cast(script)


async def code_of(cast: Cast, limits: Limits) -> str | None:
    """Return why a run failed."""
    async with playing(cast, limits) as stage:
        last = (await stage.log(await stage.start()))[-1]
    code: str | None = last.get("error", {}).get("code")
    return code


@pytest.mark.parametrize("turns", [3, 4, 300])
async def test_an_agent_takes_so_many_turns_and_no_more(turns: int) -> None:
    code = await code_of(calling(turns - 1), Limits(max_turns=3))
    assert code == (None if turns == 3 else "turn_limit")


@pytest.mark.parametrize("calls", [4, 5, 400])
async def test_a_run_makes_so_many_tool_calls_and_no_more(calls: int) -> None:
    code = await code_of(calling(1, calls), Limits(max_tool_calls=4))
    assert code == (None if calls == 4 else "tool_limit")


async def test_a_log_may_be_so_long_and_no_longer() -> None:
    cast = Cast(saying(*["word "] * 20))
    async with playing(cast, Limits(max_log_bytes=1_000_000)) as stage:
        await stage.log(run := await stage.start())
        frames = (await stage.store.read(run.run_id, 0, 1 << 30)).frames
    size = frames[:-2].rindex(b"\n\n") + 2  # what closes a run is written in any case
    assert await code_of(cast, Limits(max_log_bytes=size)) is None
    assert await code_of(cast, Limits(max_log_bytes=size - 1)) == "log_limit"
    assert await code_of(cast, Limits(max_log_bytes=size // 100)) == "log_limit"
