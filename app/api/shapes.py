"""What the service answers with, as types.

`views.py` and `problems.py` make these; the type checker holds the views to them, the OpenAPI
document is made of them, and so neither can say what the other does not. They stay open: within a
major version keys and values may be added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, NotRequired

from pydantic import Field, JsonValue
from pydantic.fields import FieldInfo
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from app.domain.errors import FailureCode
from app.domain.events import CancelBy, FinishReason
from app.domain.status import Status
from app.domain.team import Mode


def _says(description: str, text_format: str | None = None) -> FieldInfo:
    extra: dict[str, JsonValue] | None = {"format": text_format} if text_format else None
    info: FieldInfo = Field(description=description, json_schema_extra=extra)
    return info


def _counts(description: str) -> FieldInfo:
    info: FieldInfo = Field(ge=0, description=description)
    return info


_Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]

# --- runs -----------------------------------------------------------------------------------------


class Usage(TypedDict):
    """Tokens spent."""

    input_tokens: Annotated[int, _counts("Read by models.")]
    output_tokens: Annotated[int, _counts("Written by models.")]
    total_tokens: Annotated[int, _counts("Both.")]
    estimated: Annotated[
        bool,
        _says("Whether any part was counted as UTF-8 bytes / 4, not reported by the provider."),
    ]


class Failure(TypedDict):
    """Why a run ended in error."""

    code: Annotated[FailureCode, _says("What to decide by; stable.")]
    message: Annotated[str, _says("A sentence for people; never an upstream's text.")]
    upstream_status: Annotated[int | None, _says("The provider's HTTP status, where it gave one.")]
    upstream_code: Annotated[str | None, _says("The provider's own code, where it gave one.")]


class Links(TypedDict):
    """Where to go from here; relative to the service's root."""

    self: Annotated[str, _says("The run itself.", "uri-reference")]
    events: Annotated[
        str, _says("Its events; with a ticket for those who have a key.", "uri-reference")
    ]
    cancel: Annotated[str, _says("What to send a DELETE to.", "uri-reference")]


class Cancel(TypedDict):
    """The first request to stop; later ones change nothing."""

    requested_at: Annotated[_Time, _says("When: RFC 3339, UTC, milliseconds.")]
    reason: Annotated[str | None, _says("Why, as the one who asked put it.")]
    by: Annotated[CancelBy, _says("A request, or the disconnect of a client that had asked so.")]


_MaybeCancel = Annotated[Cancel | None, _says("The request to stop; `null` where there is none.")]
_MaybeReason = Annotated[
    FinishReason | None, _says("Why the answer ended; `null` until completed.")
]
_MaybeFailure = Annotated[
    Failure | None, _says("Why it failed; `null` unless the status is `error`.")
]
_MaybeStarted = Annotated[_Time | None, _says("When the work began: RFC 3339, UTC, milliseconds.")]
_MaybeFinished = Annotated[_Time | None, _says("When it ended: RFC 3339, UTC, milliseconds.")]
_Content = Annotated[
    str, _says("The pieces of the highest turn that has any, concatenated, in every status.")
]
_TeamId = Annotated[str, _says("The team's id.")]


class Member(TypedDict):
    """One member's work on one delegated task, as an entry of its team's run."""

    run_id: Annotated[str, _says("The member run's own id; works wherever a run id does.", "uuid")]
    parent_run_id: Annotated[str, _says("The team run's id.", "uuid")]
    agent_id: Annotated[str, _says("The member's id in its team.")]
    agent_name: Annotated[str, _says("The member's name.")]
    status: Annotated[Status, _says("Where it stands.")]
    task: Annotated[str, _says("What the member was given to do.")]
    content: _Content
    finish_reason: _MaybeReason
    usage: Annotated[Usage, _says("Tokens that this member spent.")]
    error: _MaybeFailure
    cancel: _MaybeCancel
    started_at: _MaybeStarted
    finished_at: _MaybeFinished


class MemberRun(Member):
    """A member run, asked for by its own id."""

    links: Annotated[Links, _says("Where to go from here.")]


class RunHead(TypedDict):
    """What every view of a team run begins with."""

    run_id: Annotated[str, _says("The run's id, a UUID version 4.", "uuid")]
    team_id: _TeamId
    status: Annotated[Status, _says("Where it stands.")]


class RunTail(TypedDict):
    """What every view of a team run ends with."""

    finish_reason: _MaybeReason
    usage: Annotated[Usage, _says("Tokens of leader and members together.")]
    error: _MaybeFailure
    cancel: _MaybeCancel
    session_id: Annotated[str | None, _says("The session it belongs to.")]
    metadata: Annotated[Mapping[str, str], _says("What the one who started it attached.")]
    created_at: Annotated[_Time, _says("When it was taken: RFC 3339, UTC, milliseconds.")]
    started_at: _MaybeStarted
    finished_at: _MaybeFinished
    last_event_id: Annotated[int, Field(ge=0, description="The last `seq`; 0 for an empty log.")]
    links: Annotated[Links, _says("Where to go from here.")]


class Run(RunHead, RunTail):
    """One execution of a team on one input, with everything about it."""

    input: Annotated[str, _says("What the team was asked.")]
    content: _Content
    members: Annotated[Sequence[Member], _says("Member runs, in the order they started.")]


class RunSummary(RunHead, RunTail):
    """A team run as an item of a list."""

    input: Annotated[
        str, Field(max_length=200, description="The first 200 characters of what was asked.")
    ]
    input_truncated: Annotated[bool, _says("Whether the input is longer than that.")]


class RunList(TypedDict):
    """One page of the caller's runs, newest first."""

    runs: Annotated[Sequence[RunSummary], _says("The runs of this page.")]
    next: Annotated[str | None, _says("What to send as `after`; `null` on the last page.")]


# --- teams ----------------------------------------------------------------------------------------


class Agent(TypedDict):
    """A member of a team: what a client may know of it."""

    id: Annotated[str, _says("Unique in its team.")]
    name: Annotated[str, _says("For people.")]
    description: Annotated[str, _says("What it is good at.")]
    model: Annotated[str, _says("The language model behind it.")]


class Team(TypedDict):
    """A leader and the members it delegates to."""

    id: _TeamId
    name: Annotated[str, _says("For people.")]
    description: Annotated[str, _says("What it is good at.")]
    model: Annotated[str, _says("The leader's language model.")]
    mode: Annotated[Mode, _says("How the leader works with the members.")]
    members: Annotated[Sequence[Agent], _says("The members, in the teams file's order.")]


class TeamList(TypedDict):
    """The teams that can be asked to run."""

    teams: Annotated[Sequence[Team], _says("In the teams file's order; the first is the default.")]


# --- problems -------------------------------------------------------------------------------------


class Flaw(TypedDict):
    """What is wrong with one part of a request; never the rejected value."""

    loc: Annotated[Sequence[str | int], _says("The way to the part, from the outside in.")]
    msg: Annotated[str, _says("What was expected.")]


class Problem(TypedDict):
    """Why a request was not served (RFC 9457)."""

    type: Annotated[str, _says("`urn:team-runs:` and the code.", "uri")]
    title: Annotated[str, _says("The code in words; always the same for a code.")]
    status: Annotated[int, _says("The HTTP status.")]
    detail: Annotated[str, _says("What happened this time.")]
    instance: Annotated[str, _says("The path that was asked for.", "uri-reference")]
    code: Annotated[str, _says("What to decide by; stable.")]


class InvalidRequest(Problem):
    """A request that is well-formed and not valid; `errors` comes with `invalid_request` only."""

    errors: NotRequired[
        Annotated[Sequence[Flaw], _says("The flaws that were found, the first 20 at most.")]
    ]


class RunFinished(Problem):
    """It is too late to stop the run: it completed or failed. Or too early to remove it."""

    run: Annotated[Run | MemberRun, _says("The run, or member run, as it stands.")]


class StoppedRuns(TypedDict):
    """The runs that were asked to stop."""

    runs: Annotated[Sequence[str], _says("Their ids, newest first.")]
