"""What a provider's status or error object says about a call, and whether to call again."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from app.domain.errors import ModelFailed, RetryCode
from app.models.wire import upstream_code

_LASTING: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""Codes under which a 429 is not about the rate: nothing gets better by waiting."""

_PASSING: Final = frozenset({408, 409})
"""4xx that the SDK tries again too: a request or a lock that timed out on the provider's side."""

_PASSING_CODES: Final[Mapping[str, RetryCode]] = {
    "rate_limit_exceeded": "rate_limited",
    "server_error": "server_error",
    "server_is_overloaded": "server_error",
}
"""The provider's codes, told within a stream, that the same call may get past."""


def refusal(status: int, headers: Mapping[str, str], error: object) -> ModelFailed:
    """Return the failure for an answer that is no stream; `error` is its body's error object.

    `headers` must not mind the case of their names.
    """
    code = upstream_code(error)
    return ModelFailed(
        "model_error",
        f"The model's provider answered with the status {status}.",
        upstream_status=status,
        upstream_code=code,
        retry_code=_retry_code(status, headers, code),
        retry_after_s=_retry_after_s(headers),
    )


def reported(error: object) -> ModelFailed:
    """Return the failure for an error that was told in a stream; some give a status as its code."""
    code = upstream_code(error)
    status = error.get("code") if isinstance(error, Mapping) else None
    passing = _PASSING_CODES.get(code or "")
    return ModelFailed(
        "model_error",
        "The model's provider reported an error.",
        upstream_code=code,
        retry_code=_retry_code(status, {}, code) if isinstance(status, int) else passing,
    )


def _retry_code(status: int, headers: Mapping[str, str], code: str | None) -> RetryCode | None:
    if headers.get("x-should-retry") == "false" or code in _LASTING:
        return None
    if status == 429:
        return "rate_limited"
    return "server_error" if status >= 500 or status in _PASSING else None


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read `retry-after-ms`, or `Retry-After` as seconds or as a date; never below 0."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    return _until(value) if seconds is None else seconds


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return max(number, 0.0) if math.isfinite(number) else None


def _until(date: str | None) -> float | None:
    try:
        return max(parsedate_to_datetime(date or "").timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None
