"""Unfinished runs stay in memory; finished ones as long as there is room."""

from __future__ import annotations

from app.domain.events import Failure, Origin, RunCompleted, RunError, RunStarted, Usage, encode
from app.domain.run import Run, RunRequest
from app.stores.sqlite_shelf import Kept, Shelf

FAILED = RunError(Failure("internal_error", "It failed."), "", Usage())


def kept(run_id: str, *, finished: bool) -> Kept:
    run = Run(RunRequest(run_id, "team", "Team", "x" * 1000, "now", 9))
    member = Origin(f"{run_id} member", "a", "A", None, run_id)
    run.apply(encode(1, "now", run.origin, RunStarted("m")))
    run.apply(encode(2, "now", member, RunStarted("m", task="t", tool_call_id="c")))
    if finished:
        run.apply(encode(3, "now", member, RunCompleted("", "stop", Usage())))
        run.apply(encode(4, "now", run.origin, FAILED))
    return Kept(1, run)


def test_finished_runs_go_when_there_is_no_room_those_used_last_stay() -> None:
    shelf = Shelf(finished_bytes=3 * 5200)
    for n in range(3):
        shelf.put(kept(f"finished {n}", finished=True))
        shelf.put(kept(f"running {n}", finished=False))
    assert shelf.get("finished 0 member") is not None
    for n in range(3, 5):
        shelf.put(kept(f"finished {n}", finished=True))
    here = [n for n in range(5) if shelf.get(f"finished {n}")]
    assert here == [0, 3, 4]
    assert [n for n in range(5) if shelf.get(f"finished {n} member")] == here
    assert all(shelf.get(f"running {n}") for n in range(3))


def test_a_run_that_finishes_makes_room_by_going_last() -> None:
    shelf, large = Shelf(finished_bytes=0), kept("one", finished=False)
    shelf.put(large)
    large.run.apply(encode(3, "now", large.run.origin, FAILED))
    shelf.settle(large)
    assert shelf.get("one") is large
    shelf.put(kept("two", finished=True))
    assert shelf.get("one") is None
    shelf.forget("one")
    shelf.forget("two")
    assert shelf.get("two member") is None


def test_each_unfinished_run_has_its_share_of_the_memory_for_tails() -> None:
    shelf = Shelf()
    assert shelf.tail_bytes == 262_144
    for n in range(1000):
        shelf.put(kept(f"{n}", finished=False))
    assert shelf.tail_bytes == 67_108
