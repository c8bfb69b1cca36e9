"""The OpenAPI document: committed, valid, complete, and what the code says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from openapi_spec_validator import OpenAPIV32SpecValidator
from starlette.routing import Match

from app.__main__ import main
from app.api.bodies import validate
from app.api.problems import KINDS, Refused
from app.api.services import ApiLimits
from app.domain.errors import FailureCode
from app.domain.events import EVENT_NAMES
from tests import laws
from tests.api.described import Judge, items, schemas_in
from tests.api.serving import api_over, services_for
from tests.runtime.playing import Cast, saying

COMMITTED = Path(__file__).parents[2] / "openapi" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(COMMITTED.read_text())
JUDGE = Judge(DOCUMENT)
OPERATIONS = [
    (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
RESPONSES = [
    (operation["operationId"], int(status), answer)
    for _, _, operation in OPERATIONS
    for status, answer in operation["responses"].items()
]
CONTENTS = [
    (f"{name} {status} {media_type}", media_type, content)
    for name, status, answer in RESPONSES
    for media_type, content in answer.get("content", {}).items()
]
STREAMS = [one for one in CONTENTS if one[1] in ("text/event-stream", "application/x-ndjson")]


def test_what_is_committed_is_what_the_code_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["openapi"]) == 0
    same = capsys.readouterr().out == COMMITTED.read_text()
    assert same, "the API changed: run `team-runs openapi > openapi/openapi.json` and commit it"


def test_the_document_is_valid_openapi_3_2() -> None:
    assert DOCUMENT["openapi"] == "3.2.0"
    OpenAPIV32SpecValidator(DOCUMENT).validate()


# --- completeness ---------------------------------------------------------------------------------


def test_every_operation_is_a_route_and_answers_head_too() -> None:
    api = api_over(services_for(Cast(saying("x"))))
    for method, path, _ in OPERATIONS:
        for served in {method.upper(), "HEAD"} if method == "get" else {method.upper()}:
            scope = {"type": "http", "method": served, "path": path, "root_path": "", "app": api}
            matches = [route.matches(scope)[0] for route in api.routes]
            assert Match.FULL in matches, f"{served} {path}"


def test_everything_has_a_name_and_a_description() -> None:
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    for _, _, operation in OPERATIONS:
        assert operation["summary"]
        assert operation["description"]
        for parameter in operation.get("parameters", ()):
            assert "$ref" in parameter or parameter["description"], parameter
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert schema.get("description"), name
    for path, schema in schemas_in(DOCUMENT["components"]["schemas"]):
        for name, part in schema["properties"].items():
            assert part.get("description"), f"{path}: {name}"


def test_every_code_stands_where_its_status_does() -> None:
    told: set[str] = set()
    for name, status, answer in RESPONSES:
        problem = answer.get("content", {}).get("application/problem+json")
        if problem is not None:
            codes = problem["schema"]["properties"]["code"]["enum"]
            assert {KINDS[code].status for code in codes} == {status}, name
            assert set(problem["examples"]) == set(codes)
            retries = [KINDS[code].retry_after_s for code in codes]
            assert any(retries) == ("Retry-After" in answer.get("headers", {}))
            told |= set(codes)
    of_no_operation = {"method_not_allowed", "headers_too_large"}
    assert told == KINDS.keys() - of_no_operation
    assert all(code in DOCUMENT["info"]["description"] for code in of_no_operation)
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas["Problem"]["properties"]["code"]["enum"]) == KINDS.keys()
    assert schemas["Failure"]["properties"]["code"]["enum"] == [*get_args(FailureCode)]


def test_a_stream_names_every_event_and_has_a_schema_for_each() -> None:
    assert len(EVENT_NAMES) == 20
    assert [media_type for _, media_type, _ in STREAMS] == [
        "text/event-stream",
        "application/x-ndjson",
    ] * 2
    assert all(stream["x-event-names"] == [*EVENT_NAMES] for _, _, stream in STREAMS)
    schemas = DOCUMENT["components"]["schemas"]
    references = [f"#/components/schemas/{name}" for name in EVENT_NAMES]
    assert [one["$ref"] for one in schemas["Event"]["oneOf"]] == references
    frames = [one["properties"] for one in schemas["ServerSentEvent"]["oneOf"]]
    assert [one["event"]["const"] for one in frames] == [*EVENT_NAMES]
    assert [one["data"]["contentSchema"]["$ref"] for one in frames] == references


# --- examples -------------------------------------------------------------------------------------


def test_the_examples_of_schemas_are_valid() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        reference = {"$ref": f"#/components/schemas/{name}"}
        for example in schema.get("examples", ()):
            assert not JUDGE.flaws(reference, example), name
        assert "examples" in schema or name not in EVENT_NAMES


def test_the_examples_of_answers_are_valid() -> None:
    for name, media_type, content in CONTENTS:
        for example in content.get("examples", {}).values():
            if "value" in example:
                assert not JUDGE.flaws(content["schema"], example["value"]), name
            else:
                for item in items(media_type, example["serializedValue"]):
                    assert not JUDGE.flaws(content["itemSchema"], item), name


def test_the_example_of_a_stream_obeys_the_laws() -> None:
    for _, media_type, stream in STREAMS:
        if media_type == "text/event-stream":
            text = stream["examples"]["story"]["serializedValue"]
            laws.check(laws.parse(text.encode()))


# --- the request's body ---------------------------------------------------------------------------

GOOD: list[dict[str, Any]] = [
    {"input": "x"},
    {"input": " x\n", "team": "t", "stream": True, "session_id": "A-z_0.9"},
    {"input": "x", "team": None, "stream": None, "session_id": None, "timeout_s": None},
    {"input": "x", "metadata": {"k" * 64: "v" * 512}, "on_disconnect": "cancel"},
    {"input": "x", "timeout_s": 0.1, "max_output_tokens": 16},
]
BAD: list[Any] = [
    None,
    [],
    {},
    {"input": ""},
    {"input": " \n"},
    {"input": 1},
    {"input": "x", "more": 1},
    {"input": "x", "stream": "yes"},
    {"input": "x", "session_id": ""},
    {"input": "x", "session_id": "é"},
    {"input": "x", "metadata": {"k": 1}},
    {"input": "x", "metadata": {"k" * 65: "v"}},
    {"input": "x", "metadata": {"k": "v" * 513}},
    {"input": "x", "metadata": {str(n): "" for n in range(17)}},
    {"input": "x", "on_disconnect": "stop"},
    {"input": "x", "timeout_s": 0},
    {"input": "x", "max_output_tokens": 15},
    {"input": "x", "max_output_tokens": 16.5},
]


@pytest.mark.parametrize("body", GOOD)
def test_a_body_that_is_taken_is_a_valid_one(body: dict[str, Any]) -> None:
    validate(body, ApiLimits())
    assert not JUDGE.flaws({"$ref": "#/components/schemas/RunBody"}, body)


@pytest.mark.parametrize("body", BAD)
def test_a_body_that_is_refused_is_not_valid(body: object) -> None:
    with pytest.raises(Refused):
        validate(body, ApiLimits())
    assert JUDGE.flaws({"$ref": "#/components/schemas/RunBody"}, body)
