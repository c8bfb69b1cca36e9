"""What each route does and answers, in one table.

Query and path parameters are read off the routes themselves (`document.py`); the table adds what a
route reads by itself, and every answer it may give. Codes stand here without their status: that is
`problems.py`'s to know. `Accept` is no parameter in OpenAPI; the answers' media types tell it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from app.api.openapi import examples
from app.api.openapi.event_schemas import stream_content
from app.api.openapi.schemas import EITHER_RUN, Schema, ref
from app.api.openapi.security import BY_KEY_OR_TICKET

_EVERYWHERE: Final = ("host_not_allowed", "internal_error")
_KEYED: Final = ("unauthenticated", *_EVERYWHERE)
_OF_THE_STORE: Final = (*_KEYED, "store_unavailable")
_CHANGING: Final = ("origin_not_allowed", *_OF_THE_STORE)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no problem; `content` by media type, `headers` by name of component."""

    description: str
    content: Mapping[str, Schema] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """What a route does; `parameters` and `body` are names of components.

    Without `security` it is that of the tag.
    """

    id: str
    tag: str
    summary: str
    description: str
    answers: Mapping[int, Answer]
    refusals: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    body: str | None = None
    security: Sequence[Schema] = ()


def _json(schema: Schema, **shown: Any) -> dict[str, Schema]:
    told = {name: {"value": value} for name, value in shown.items()}
    return {"application/json": {"schema": schema, **({"examples": told} if told else {})}}


def _text(media_type: str, example: str | None = None) -> dict[str, Schema]:
    shown = {} if example is None else {"example": example}
    return {media_type: {"schema": {"type": "string"}, **shown}}


_STREAM_HEADERS: Final = ("Cache-Control", "X-Accel-Buffering")
_POSTED_HEADERS: Final = ("Location", "Idempotency-Replayed")

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("post", "/runs"): Operation(
        "startRun",
        "runs",
        "Start a run",
        "Answers at once with the run as it was taken; with `wait`, with the final run, or with the"
        " run as it stands when the time is over; as a stream, with its events.\n\n"
        'A stream is chosen by `"stream": true` in the body, or by an `Accept` that names'
        " `text/event-stream` and does not rank it below JSON; the body wins. An `Accept` that"
        " names `application/x-ndjson` has a stream sent as NDJSON.\n\n"
        "With an `Idempotency-Key` that was used before, an equal body gets the run that was"
        " started then, as it stands now or as its stream from the first event.",
        {
            202: Answer(
                "The run was taken, and is not final yet.",
                _json(ref("Run"), pending=examples.pending_run()),
                _POSTED_HEADERS,
            ),
            200: Answer(
                "The run's events, to the final one; or the final run.",
                {**_json(ref("Run"), completed=examples.completed_run()), **stream_content()},
                (*_POSTED_HEADERS, "X-Run-Id", "Content-Location", *_STREAM_HEADERS),
            ),
        },
        (
            "bad_request",
            "team_not_found",
            "request_timeout",
            "body_too_large",
            "unsupported_media_type",
            "invalid_request",
            "idempotency_key_reused",
            "not_supported",
            "too_many_runs",
            "overloaded",
            "draining",
            *_CHANGING,
        ),
        ("IdempotencyKey",),
        "RunBody",
    ),
    ("get", "/runs"): Operation(
        "listRuns",
        "runs",
        "List runs",
        "The caller's runs, newest first, without `content` and `members`.",
        {200: Answer("A page of runs.", _json(ref("RunList"), page=examples.run_list()))},
        ("bad_cursor", "invalid_request", *_OF_THE_STORE),
    ),
    ("delete", "/runs"): Operation(
        "cancelRuns",
        "runs",
        "Stop all runs",
        "Asks all of the caller's unfinished runs, or those of a session, to stop, as"
        " `DELETE /runs/{run_id}` does one. Either `session_id` or `all=true` is needed.",
        {
            202: Answer(
                "Taken: these runs were asked to stop, now or before.",
                _json(ref("StoppedRuns"), stopped={"runs": [examples.RUN_ID]}),
            )
        },
        ("invalid_request", *_CHANGING),
    ),
    ("get", "/runs/{run_id}"): Operation(
        "getRun",
        "runs",
        "Read a run",
        "The run, or member run, as it stands; with `wait`, as soon as it is final, or as it stands"
        " when the time is over.",
        {
            200: Answer(
                "The run, or member run.",
                _json(EITHER_RUN, run=examples.completed_run(), member=examples.member_run()),
            )
        },
        ("run_not_found", "invalid_request", *_OF_THE_STORE),
    ),
    ("delete", "/runs/{run_id}"): Operation(
        "cancelRun",
        "runs",
        "Stop a run",
        "Asks a run to stop, or a member run alone. `202` is a promise: the run ends as"
        " `cancelled`, whatever happens in between, and the connections of its model calls are"
        " closed at once. Asking again changes nothing.\n\n"
        "With `purge=true` a run that has ended is removed with its log, at once and for good; one"
        " that has not is left as it is.",
        {
            202: Answer(
                "Taken: the run is `cancelling`.",
                _json(EITHER_RUN, cancelling=examples.cancelling_run()),
            ),
            200: Answer(
                "The run is `cancelled`: it was before, or became so within `wait`.",
                _json(EITHER_RUN, cancelled=examples.cancelled_run()),
            ),
            204: Answer("The run was removed."),
        },
        (
            "run_not_found",
            "run_finished",
            "run_active",
            "invalid_request",
            "not_supported",
            *_CHANGING,
        ),
    ),
    ("get", "/runs/{run_id}/events"): Operation(
        "readEvents",
        "runs",
        "Read a run's events",
        "Everything behind the cursor, then live, to the final event, then the end. A member run's"
        " id opens its team run's stream. A stream that ends without a final event is not the end"
        " of the run: read on with the cursor.\n\n"
        "`*/*` or no `Accept` means `text/event-stream`; `application/x-ndjson` must be named, and"
        " the event stream wins where both are, unless ranked lower.\n\n"
        "The event stream opens with the lines `retry: 2000` and `: ok`; a line `: ping` (NDJSON:"
        " an empty line) comes after some silence. `EventSource` gives up for ever on any other"
        " status, so where an event stream cannot be served just now (overload, a store outage) it"
        " gets `200` with only `retry: 5000` and `: busy`; other clients get `503`.",
        {
            200: Answer("The run's events.", stream_content(), _STREAM_HEADERS),
            204: Answer(
                "The cursor is at or past the final event: there is nothing more.",
                headers=("Cache-Control",),
            ),
        },
        (
            "bad_cursor",
            "run_not_found",
            "not_acceptable",
            "too_many_readers",
            "overloaded",
            *_OF_THE_STORE,
        ),
        ("LastEventId", "LastEventIdQuery"),
        security=BY_KEY_OR_TICKET,
    ),
    ("get", "/teams"): Operation(
        "listTeams",
        "teams",
        "List the teams",
        "The teams that can be asked to run; never their instructions.",
        {200: Answer("The teams.", _json(ref("TeamList"), teams={"teams": [examples.team()]}))},
        _KEYED,
    ),
    ("get", "/teams/{team_id}"): Operation(
        "getTeam",
        "teams",
        "Read a team",
        "One team; never its instructions.",
        {200: Answer("The team.", _json(ref("Team"), team=examples.team()))},
        ("team_not_found", *_KEYED),
    ),
    ("get", "/livez"): Operation(
        "checkLiveness",
        "health",
        "Is the process alive?",
        "Served under any `Host`.",
        {200: Answer("It is.", _text("text/plain", "process: alive\n"), ("Cache-Control",))},
    ),
    ("get", "/readyz"): Operation(
        "checkReadiness",
        "health",
        "Should the process get requests?",
        "One line a part. Served under any `Host`.",
        {
            200: Answer(
                "New runs can be taken and kept.",
                _text("text/plain", "store: ok\nruns: accepted\n"),
                ("Cache-Control",),
            ),
            503: Answer(
                "The store does not answer, or the process is about to stop.",
                _text("text/plain", "store: ok\nruns: draining, 2 left\n"),
                ("Cache-Control",),
            ),
        },
    ),
    ("get", "/metrics"): Operation(
        "readMetrics",
        "figures",
        "Read the process's figures",
        "What happened since the process began, in Prometheus' text format. Where there are keys,"
        " only the tenant `operator` gets it; to others there is nothing under this path.",
        {
            200: Answer(
                "The figures.",
                _text("text/plain", examples.FIGURES),
                ("Cache-Control",),
            )
        },
        ("not_found", *_KEYED),
    ),
    ("get", "/docs"): Operation(
        "readDocs",
        "description",
        "Read this description as a page",
        "Complete without internet, and without scripts.",
        {200: Answer("The page.", _text("text/html"))},
        _EVERYWHERE,
    ),
    ("get", "/openapi.json"): Operation(
        "readOpenApi",
        "description",
        "Read this description as JSON",
        "This document.",
        {200: Answer("The document.", _json({"type": "object"}))},
        _EVERYWHERE,
    ),
}
