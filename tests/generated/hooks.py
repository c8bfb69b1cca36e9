"""What the OpenAPI document cannot say, told to schemathesis; and one more check of every answer.

A request that these rules change or leave out is held to its answer by hand elsewhere
(`tests/api/test_bad_requests.py`).
"""

from __future__ import annotations

import re
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext
from schemathesis.core.transport import Response

RUN_TIMEOUT_S = 900  # the default of the setting, which the document cannot know
_VALID_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_keys_used: set[str] = set()


@schemathesis.hook
def filter_case(context: HookContext, case: Case[Any]) -> bool:
    """Leave out what depends on two parameters at once."""
    query: dict[str, Any] = dict(case.query or {})
    if case.operation.label == "DELETE /runs":  # which runs is to be said in exactly one way
        return ("session_id" in query) is not (query.get("all") in (True, "true"))
    if case.operation.label == "GET /runs/{run_id}/events":  # the header's cursor wins
        return "last_event_id" not in query or not _headers(case).get("Last-Event-ID")
    if case.operation.label == "POST /runs" and isinstance(case.body, dict):
        return _is_allowed(case.body)
    return True


def _is_allowed(body: dict[str, Any]) -> bool:
    """Whether a body is one that `Accept` and the settings cannot make another answer of."""
    is_left_to_accept = body.get("on_disconnect") == "cancel" and body.get("stream") is not True
    timeout_s = body.get("timeout_s")
    is_too_long = isinstance(timeout_s, int | float) and timeout_s > RUN_TIMEOUT_S
    return not is_left_to_accept and not is_too_long


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Use no idempotency key twice: with another body it is refused, as it should be."""
    key = _headers(case).get("Idempotency-Key")
    if key is None or not _VALID_KEY.fullmatch(str(key)):
        return
    if key in _keys_used:
        del case.headers["Idempotency-Key"]
    _keys_used.add(key)


def _headers(case: Case[Any]) -> dict[str, Any]:
    return dict(case.headers or {})


@schemathesis.check
def every_error_is_a_problem(context: CheckContext, response: Response, case: Case[Any]) -> None:
    """Whatever is refused is refused in one shape, and with one of the known codes' status."""
    if response.status_code < 400 or case.method.upper() == "HEAD":
        return
    if case.path == "/readyz":  # text for people and probes, also when it says no
        return
    assert response.headers["content-type"] == ["application/problem+json"]
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["type"] == f"urn:team-runs:{problem['code']}"
