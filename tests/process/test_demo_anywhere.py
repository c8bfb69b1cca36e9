"""`team-runs demo` on a server of one's own that speaks the Responses API, and asks for no key."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.cancellation.cases import delegate, has_results, is_leader, slow_words
from tests.process.demo import Transcript, demo
from tests.upstream import LOCAL, Json, Plan, Say, Upstream

pytestmark = pytest.mark.anyio


def endless(body: Json, _: int) -> Plan:
    return delegate("storyteller") if is_leader(body) else slow_words()


def short(body: Json, _: int) -> Plan:
    if not is_leader(body):
        return [Say("Once upon a time.")]
    return [Say("The end.")] if has_results(body) else delegate("storyteller")


async def test_the_demo_stops_the_run_there(tmp_path: Path) -> None:
    with anyio.fail_after(60):
        async with (
            Upstream(endless) as upstream,
            demo(tmp_path, "--delay", "1", OPENAI_BASE_URL=upstream.base_url) as process,
        ):
            told = Transcript(process)
            await told.rest()
            assert await process.wait() == 0, told.text
            leader, member = upstream.exchanges
    assert (leader.is_complete, member.is_complete) == (True, False)
    assert member.closed_at is not None
    assert leader.body["model"] == "gpt-5.2-mini"
    assert told.has_line(r"\[StorytellerAgent\] word0 "), told.text
    assert told.has_line("status +cancelled$")


async def test_the_demo_lets_the_run_finish_there(tmp_path: Path) -> None:
    with anyio.fail_after(60):
        async with (
            Upstream(short, LOCAL) as upstream,  # leaves out what a reader can do without
            demo(tmp_path, "--no-cancel", OPENAI_BASE_URL=upstream.base_url) as process,
        ):
            told = Transcript(process)
            await told.rest()
            assert await process.wait() == 0, told.text
            assert [call.is_complete for call in upstream.exchanges] == [True] * 3
    assert told.has_line("status +completed$"), told.text
    assert told.has_line(r"content +The end\.$")
