"""The schemas of everything but events: of `shapes.py` and of the request's body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from app.api import shapes
from app.api.bodies import RunBody
from app.api.openapi import examples
from app.api.problems import KINDS

Schema = dict[str, Any]

_ANSWERS: Final = (
    shapes.Run,
    shapes.MemberRun,
    shapes.RunList,
    shapes.TeamList,
    shapes.Problem,
    shapes.InvalidRequest,
    shapes.RunFinished,
    shapes.StoppedRuns,
)
_EXAMPLES: Final[Mapping[str, Callable[[], object]]] = {
    "Run": examples.completed_run,
    "Member": examples.member,
    "MemberRun": examples.member_run,
    "RunList": examples.run_list,
    "Team": examples.team,
    "RunBody": lambda: examples.REQUEST,
}
_BODY: Final = {
    "input": "What the team is asked: at most `MAX_INPUT_CHARS` characters (a setting; 100,000"
    " unless changed), not blank.",
    "team": "The team's id; `null` or none is the first in the teams file.",
    "stream": "Whether the answer is the run's events; `null` or none lets `Accept` decide.",
    "session_id": "The session whose earlier runs the leader sees.",
    "metadata": "Pairs that come back with the run; keys of at most 64 characters.",
    "on_disconnect": "What becomes of the run when the client of a streamed POST leaves: `cancel`"
    " stops it, and needs a streamed answer.",
    "timeout_s": "The run's deadline in seconds from its creation, waiting included: at most"
    " `RUN_TIMEOUT_S` (a setting; 900 unless changed), which is also what `null` means.",
    "max_output_tokens": "What leader and members may write together; `null` is no budget.",
}


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


EITHER_RUN: Final = {"anyOf": [ref("Run"), ref("MemberRun")]}
"""What is found under a run id: a team run, or one member's."""


def component_schemas() -> dict[str, Schema]:
    """Return the schemas by name."""
    adapters: list[tuple[type, Literal["serialization"], TypeAdapter[Any]]] = [
        (kind, "serialization", TypeAdapter(kind)) for kind in _ANSWERS
    ]
    _, found = TypeAdapter.json_schemas(adapters, ref_template="#/components/schemas/{model}")
    schemas: dict[str, Schema] = untitled(found["$defs"])
    schemas["Status"]["description"] = "Where a run stands; the last three are final."
    schemas["Problem"]["properties"]["code"]["enum"] = sorted(KINDS)
    schemas["RunBody"] = _body()
    for name, example in _EXAMPLES.items():
        schemas[name]["examples"] = [example()]
    return schemas


def untitled(schema: Any) -> Any:
    """Return a schema without the titles that only repeat the names of its parts."""
    if isinstance(schema, list):
        return [untitled(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: untitled(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }


def _body() -> Schema:
    schema: Schema = untitled(RunBody.model_json_schema())
    schema["description"] = "What a run is to do. Keys that are not named here are refused."
    for name, parts in schema["properties"].items():
        parts["description"] = _BODY[name]
    schema["properties"]["input"]["pattern"] = r"\S"
    return schema
