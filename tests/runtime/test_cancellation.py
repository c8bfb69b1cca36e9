"""When somebody asked for a stop, as the replica that does it knows."""

from __future__ import annotations

import time

import pytest

from app.domain.closing import Stopped
from app.domain.run import Cancel
from app.runtime.cancellation import CancellationFlag

pytestmark = pytest.mark.anyio

ASKED = Cancel("2026-11-22T09:57:12.000Z", None)
NOW = "2026-11-22T09:57:14.500Z"


async def test_a_stop_asked_for_here_counts_from_when_it_was_asked_for() -> None:
    flag, before = CancellationFlag(), time.monotonic()
    flag.note_request(ASKED)
    flag.note_request(Cancel(NOW, "again"))
    stop = flag.stop_for(ASKED, NOW)
    assert before <= stop.asked_at <= time.monotonic()
    assert flag.cause == Stopped(ASKED)


async def test_a_stop_asked_for_elsewhere_counts_from_the_time_written_down() -> None:
    flag, before = CancellationFlag(), time.monotonic()
    flag.note_request(Cancel(NOW, "later"))
    stop = flag.stop_for(ASKED, NOW)
    assert before <= stop.asked_at + 2.5 <= time.monotonic()


async def test_a_clock_that_is_behind_makes_no_stop_of_the_future() -> None:
    stop = CancellationFlag().stop_for(Cancel(NOW, None), ASKED.requested_at)
    assert stop.asked_at <= time.monotonic()


async def test_the_scope_of_a_stop_is_whose_flag_it_raised() -> None:
    team = CancellationFlag()
    member, other = CancellationFlag(team), CancellationFlag(team)
    own = member.stop_for(ASKED, NOW)
    assert (own.scope, member.stop, other.stop, team.stop) == ("member", own, None, None)
    whole = team.stop_for(ASKED, NOW)
    assert (whole.scope, member.stop, other.stop) == ("team", own, whole)


async def test_the_flag_is_up_even_if_its_time_cannot_be_read() -> None:
    flag = CancellationFlag()
    with pytest.raises(ValueError, match="some time"):
        flag.stop_for(Cancel("some time", None), NOW)
    assert flag.is_raised()
