"""A restored run is the run of which the snapshot was taken, and goes on as it would have."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.errors import CancelIsDue, RunIsFinal
from app.domain.events import (
    Event,
    Failure,
    Origin,
    ReasoningContentDelta,
    RunCancelled,
    RunCancelRequested,
    RunCompleted,
    RunContent,
    RunError,
    RunStarted,
    ToolCallCompleted,
    ToolCallStarted,
    Usage,
    encode,
)
from app.domain.run import Cancel, Run, RunRequest
from app.domain.snapshots import restore, snapshot
from tests.views import everything

REQUEST = RunRequest("run", "team", "Team", "in\ud83d", "now", 900, "session", {"a": "b"})
SPEAKERS = {
    "run": Origin("run", "team", "Team", "session"),
    "one": Origin("one", "writer", "Writer", "session", "run"),
    "two": Origin("two", "editor", "Editor", None, "run"),
}
STEPS = st.sampled_from(
    [
        RunStarted("m", mode="coordinate"),
        RunStarted("m", task="t\ud83d", tool_call_id="c"),
        *(RunContent(text, turn) for text in ("a", "é\n", "\ud83d") for turn in (1, 2)),
        ReasoningContentDelta("hm", 1),
        ToolCallStarted("c", "tool", '{"a": 1}', 1),
        ToolCallStarted("d", "tool", "{", 2),
        ToolCallCompleted("c", "tool", "error", None, 1),
        RunCancelRequested("why", "disconnect"),
        RunCompleted("a", "length", Usage(1, 2, 3)),
        RunCancelled("a", None, Usage(1, 2, 3, estimated=True)),
        RunError(Failure("model_error", "It failed.", 503, "oops"), "a", Usage()),
        Cancel("then", "because", "request"),
    ]
)
PROGRAMS = st.lists(st.tuples(st.sampled_from(["run", "one", "two"]), STEPS), max_size=40)


def tell(run: Run, run_id: str, step: Event | Cancel) -> None:
    if isinstance(step, Cancel):
        run.request_cancel(run_id, step)
        return
    entry = encode(run.last_event_id + 1, "later", SPEAKERS[run_id], step)
    with suppress(RunIsFinal, CancelIsDue, ValueError, KeyError):
        run.check([entry])
        run.apply(entry)


@given(PROGRAMS, PROGRAMS)
@example([("run", RunStarted("m"))], [("run", RunContent("x", 1))])
def test_a_restored_run_says_and_does_what_the_saved_one_does(
    before: list[tuple[str, Event | Cancel]], after: list[tuple[str, Event | Cancel]]
) -> None:
    run = Run(REQUEST)
    for step in before:
        tell(run, *step)
    restored = restore(REQUEST, snapshot(run))
    assert everything(restored) == everything(run)
    for step in after:
        tell(run, *step)
        tell(restored, *step)
        assert everything(restored) == everything(run)
