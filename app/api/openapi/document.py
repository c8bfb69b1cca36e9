"""The OpenAPI document: the routes' own parameters, the table of operations, the components.

A route without an entry in the table, an entry without a route and a parameter without a
description are errors. The document depends on no setting: a service without keys serves everything
that is told to need one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from app.api.openapi import examples
from app.api.openapi.event_schemas import event_schemas
from app.api.openapi.operations import OPERATIONS, Answer, Operation
from app.api.openapi.parameters import HEADERS, PARAMETERS, parameter
from app.api.openapi.schemas import Schema, component_schemas, ref
from app.api.openapi.security import OF_TAGS, SCHEMES
from app.api.problems import KINDS

VERSION: Final = "1.0.0"
_INFO: Final = {
    "title": "team-runs",
    "version": VERSION,
    "summary": "Runs a team of LLM agents, streams the run, and stops it the moment you ask.",
    "license": {"name": "MIT", "identifier": "MIT"},
    "description": (
        "A team is a leader (a language model with instructions) and its members. A run is one"
        " execution of a team on one input: start it, read its events live or later, stop it.\n\n"
        "The wire is for ever: within a major version events, fields, codes and values of"
        " enumerations may be added; none is renamed, retyped or removed. This document tells those"
        " of this version. Ignore what you do not know.\n\n"
        "HEAD answers like GET without a body, and never opens a stream. Errors are problems"
        " (RFC 9457): decide by `code`. An unknown path is `404 not_found`, another method"
        " `405 method_not_allowed`. A query parameter out of its range is"
        " `422 invalid_request`, and too much ahead of the body is `431 headers_too_large`."
    ),
}
_TAGS: Final = (
    {"name": "runs", "description": "Starting, reading and stopping runs."},
    {"name": "teams", "description": "The teams that can be asked to run."},
    {"name": "health", "description": "For those who watch the process."},
    {"name": "figures", "description": "For those who watch many processes."},
    {"name": "description", "description": "This description."},
)


def describe(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """Return the document of an application with these routes."""
    found = get_openapi(title="", version="", routes=routes)["paths"]
    document = {
        "openapi": "3.2.0",
        "info": _INFO,
        "servers": [{"url": "/"}],
        "security": [],
        "tags": _TAGS,
        "paths": {path: _path(path, methods) for path, methods in found.items()},
        "components": {
            "schemas": {**component_schemas(), **event_schemas()},
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "securitySchemes": SCHEMES,
        },
    }
    plain: dict[str, Any] = json.loads(json.dumps(document))  # enumerations become their text
    return plain


def _path(path: str, methods: Mapping[str, Schema]) -> Schema:
    return {
        method: _operation(path, OPERATIONS[method, path], found.get("parameters", ()))
        for method, found in methods.items()
    }


def _operation(path: str, operation: Operation, read: Iterable[Schema]) -> Schema:
    parameters = [
        *map(parameter, read),
        *({"$ref": f"#/components/parameters/{name}"} for name in operation.parameters),
    ]
    return {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "security": operation.security or OF_TAGS.get(operation.tag, ()),
        **({"parameters": parameters} if parameters else {}),
        **({"requestBody": _body(operation.body)} if operation.body else {}),
        "responses": {
            **{str(status): _answer(answer) for status, answer in operation.answers.items()},
            **_problems(operation.refusals, path),
        },
    }


def _body(name: str) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": ref(name)}}}


def _answer(answer: Answer) -> Schema:
    headers = {name: _header(name) for name in (*answer.headers, "X-Request-Id")}
    return {
        "description": answer.description,
        "headers": headers,
        **({"content": answer.content} if answer.content else {}),
    }


def _header(name: str) -> Schema:
    return {"$ref": f"#/components/headers/{name}"}


def _problems(codes: Iterable[str], path: str) -> dict[str, Schema]:
    by_status = groupby(sorted(codes, key=_status), key=_status)
    return {str(status): _problem(status, list(group), path) for status, group in by_status}


def _status(code: str) -> int:
    return KINDS[code].status


def _problem(status: int, codes: Sequence[str], path: str) -> Schema:
    """Return the answers with this status: what they have in common, and which codes."""
    kind = {409: "RunFinished", 422: "InvalidRequest"}.get(status, "Problem")
    narrowed = {"status": {"const": status}, "code": {"enum": list(codes)}}
    content = {
        "schema": {**ref(kind), "properties": narrowed},
        "examples": {code: {"value": examples.refusal(code, path)} for code in codes},
    }
    names = ["Retry-After"] if any(KINDS[code].retry_after_s for code in codes) else []
    if status == 401:
        names.append("WWW-Authenticate")
    names.append("X-Request-Id")
    return {
        "description": "; ".join(f"`{code}`: {KINDS[code].title}" for code in codes) + ".",
        "headers": {name: _header(name) for name in names},
        "content": {"application/problem+json": content},
    }
