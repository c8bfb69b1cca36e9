"""The error tree.

```
TeamRunsError
├── ConfigurationError      a setting or the teams file is wrong: the start stops
├── RunFailed               ends a run or a member run; `code` is the contract's `error.code`
│   └── ModelFailed         …because of the model; `retry_code` where a retry may help
├── AppendRefused           a run's log does not take what was to be written
│   ├── RunIsFinal          it has its final event
│   ├── CancelIsDue         the cancellation flag is up: only `…Cancelled` may end it
│   └── LeaseLost           another replica owns the run now
├── RequestRefused          a request cannot be served; `api/problems.py` knows the status number
│   ├── RunNotFound, TeamNotFound
│   ├── BadCursor
│   ├── NotSupported
│   ├── IdempotencyKeyReused
│   ├── Overloaded
│   ├── TooManyRuns
│   └── Draining
└── StoreUnavailable        the store does not answer; also ends runs that could not go on
```

Messages are our own sentences: never an upstream's text, which may repeat a key.
"""

from __future__ import annotations

from typing import ClassVar, Literal

FailureCode = Literal[
    "model_error",
    "model_incomplete",
    "model_timeout",
    "deadline_exceeded",
    "budget_exceeded",
    "turn_limit",
    "tool_limit",
    "log_limit",
    "interrupted",
    "store_unavailable",
    "internal_error",
]


class TeamRunsError(Exception):
    """Everything this service raises on purpose."""


class ConfigurationError(TeamRunsError):
    """A setting or the teams file is wrong; the message names it and says what was expected."""


class RunFailed(TeamRunsError):
    """Ends a run in `error`."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code: FailureCode = code
        self.message = message


RetryCode = Literal["rate_limited", "server_error", "connection_error"]


class ModelFailed(RunFailed):
    """The model refused, failed, fell silent or sent what cannot be read.

    `retry_code` names why the same call may succeed when it is made again; `None` where it may not.
    `retry_after_s` is what the provider asked for, in seconds.
    """

    def __init__(  # noqa: PLR0913 - one value per field of the contract's error object
        self,
        code: FailureCode,
        message: str,
        *,
        upstream_status: int | None = None,
        upstream_code: str | None = None,
        retry_code: RetryCode | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, message)
        self.upstream_status = upstream_status
        self.upstream_code = upstream_code
        self.retry_code = retry_code
        self.retry_after_s = retry_after_s


class AppendRefused(TeamRunsError):
    """A run's log does not take what was to be written; nothing of the batch was."""


class RunIsFinal(AppendRefused):
    """The run has its final event."""


class CancelIsDue(AppendRefused):
    """The cancellation flag is up: only `…Cancelled` may end this run or member run."""


class LeaseLost(AppendRefused):
    """Another replica owns the run now."""


class RequestRefused(TeamRunsError):
    """A request cannot be served; `code` is the contract's."""

    code: ClassVar[str]


class RunNotFound(RequestRefused):
    """No run has this id."""

    code = "run_not_found"


class TeamNotFound(RequestRefused):
    """No team has this id."""

    code = "team_not_found"


class BadCursor(RequestRefused):
    """The place to read on from is not one."""

    code = "bad_cursor"


class NotSupported(RequestRefused):
    """The request names something that this service does not do."""

    code = "not_supported"


class IdempotencyKeyReused(RequestRefused):
    """The idempotency key stands for another request."""

    code = "idempotency_key_reused"


class Overloaded(RequestRefused):
    """This replica has as much to do as it takes."""

    code = "overloaded"


class TooManyRuns(RequestRefused):
    """The tenant has as many unfinished runs on this replica as it may have."""

    code = "too_many_runs"


class Draining(RequestRefused):
    """This replica is about to stop and takes no new runs."""

    code = "draining"


class StoreUnavailable(TeamRunsError):
    """The store does not answer."""
