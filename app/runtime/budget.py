"""What a run spends: tokens by agent run, reported or estimated, against the run's budget.

Providers report usage at the end of a call, and not at all for one that was closed early. Until
then, and instead, tokens are estimated as UTF-8 bytes / 4, of what was sent and what was heard.
"""

from __future__ import annotations

from app.domain.closing import Failed
from app.domain.events import Failure, Usage
from app.domain.text import utf8_size
from app.ports import AssistantTurn, ModelRequest, ToolResult, UserText

SMALLEST_CALL = 16
"""With fewer output tokens left than this no model is called; providers refuse such calls."""

OVERDRAWN = Failed(Failure("budget_exceeded", "The run's max_output_tokens were used up."))


class Meter:
    """Counts the tokens of one agent run, over all its turns."""

    __slots__ = ("_done", "_heard_bytes", "_last", "_request")

    def __init__(self) -> None:
        self._done = Usage()
        self._last = Usage()
        self._request: ModelRequest | None = None
        self._heard_bytes = 0

    def call(self, request: ModelRequest) -> None:
        """A call begins."""
        self._request = request

    def hear(self, text: str) -> None:
        """The model wrote something."""
        self._heard_bytes += utf8_size(text)

    def report(self, usage: Usage | None) -> None:
        """The call ended; `usage` is what the provider says, if it says anything."""
        self._last = usage or self._estimate()
        self._done += self._last
        self._request, self._heard_bytes = None, 0

    @property
    def usage(self) -> Usage:
        """Tokens so far, the call under way included."""
        return self._done if self._request is None else self._done + self._estimate()

    @property
    def call_usage(self) -> Usage:
        """Tokens of the call under way, or else of the last one."""
        return self._last if self._request is None else self._estimate()

    @property
    def output_tokens(self) -> int:
        """Output tokens so far; cheaper than `usage`, for it is asked at every delta."""
        return self._done.output_tokens + self._heard_bytes // 4

    def _estimate(self) -> Usage:
        sent = _sent_bytes(self._request) // 4 if self._request else 0
        heard = self._heard_bytes // 4
        return Usage(sent, heard, sent + heard, estimated=True)


class Budget:
    """The output tokens of a run, leader and members together; no `limit` means no end."""

    __slots__ = ("_meters", "limit")

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._meters: dict[str, Meter] = {}

    def meter(self, run_id: str) -> Meter:
        """Return the meter of an agent run."""
        return self._meters.setdefault(run_id, Meter())

    @property
    def usages(self) -> dict[str, Usage]:
        """Tokens by run id."""
        return {run_id: meter.usage for run_id, meter in self._meters.items()}

    @property
    def left(self) -> int | None:
        """Output tokens that may still be spent, below 0 when overdrawn; `None` without a limit."""
        if self.limit is None:
            return None
        return self.limit - sum(meter.output_tokens for meter in self._meters.values())

    def is_overdrawn(self) -> bool:
        """Whether more was spent than there was; see `CancellationFlag.is_raised`."""
        return self.limit is not None and (self.left or 0) < 0


def _sent_bytes(request: ModelRequest) -> int:
    size = utf8_size(request.instructions)
    for item in request.conversation:
        match item:
            case UserText(text):
                size += utf8_size(text)
            case AssistantTurn(text, calls):
                size += utf8_size(text) + sum(utf8_size(call.arguments) for call in calls)
            case ToolResult(_, output):
                size += utf8_size(output)
    return size
