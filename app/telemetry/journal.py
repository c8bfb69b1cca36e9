"""One log line for each thing that happened, with the ids by which it is found again.

Lines of a run have `run_id`, `team_id` and, where there are keys, `tenant`; those of a member's
part `member_id` and `member_run_id` too. The `request_id` that every line may have is added where
lines are made (`logging.py`). What somebody should look at is a warning; what comes with every
turn, tool or reader is told at the level `debug`. No prompt, answer, argument or reason is told.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from app.domain.events import Origin, Usage
from app.domain.run import RunRequest
from app.observer.facts import (
    AbandonedRunEnded,
    CancelSeen,
    CancelTaken,
    DrainBegan,
    DrainEnded,
    Fact,
    LeaseLost,
    ReaderGone,
    Retried,
    RunBegan,
    StoreBack,
    StoreLost,
)
from app.observer.telling import Observer
from app.observer.work import MemberWork, ModelCall, Place, RunWork, ToolUse, Work

logger = logging.getLogger(__name__)

Fields = dict[str, Any]

_READER_LEVELS: Final = {
    "completed": logging.DEBUG,
    "left": logging.INFO,
    "dropped": logging.WARNING,
}


class Journal(Observer):
    """Writes the lines."""

    def began(self, work: Work) -> None:
        """Tell of a run; everything else is told when it ends."""
        if isinstance(work, RunWork):
            _tell(logging.INFO, "run accepted", _at(work))

    def ended(self, work: Work) -> None:
        """Tell how it ended."""
        match work:
            case RunWork():
                _tell(_level(work), "run ended", _at(work) | _end(work) | _spent(work.usage))
            case MemberWork():
                _tell(_level(work), "member ended", _at(work) | _end(work) | _spent(work.usage))
            case ModelCall():
                level = logging.WARNING if work.outcome == "error" else logging.DEBUG
                _tell(level, "model call ended", _at(work.place) | _end(work) | _call(work))
            case ToolUse():
                used = {"tool": work.name}
                _tell(logging.DEBUG, "tool call ended", _at(work.place) | used | _end(work))

    def note(self, fact: Fact) -> None:
        """Tell of it."""
        match fact:
            case RunBegan(work):
                _tell(logging.INFO, "run started", _at(work) | {"waited_s": _s(work.seconds)})
            case Retried(call):
                _tell(logging.WARNING, "model call repeated", _at(call.place) | _retry(fact))
            case CancelTaken(of):
                place = _whose(of.request, of.origin)
                by = of.cancel.by if of.cancel else None
                _tell(logging.INFO, "cancel requested", place | {"by": by})
            case CancelSeen(run_id, stop):
                _tell(logging.DEBUG, "cancel seen", {"run_id": run_id, "scope": stop.scope})
            case ReaderGone():
                _tell(_READER_LEVELS[fact.end], f"reader {fact.end}", _reader(fact))
            case _:
                self._note_process(fact)

    def _note_process(self, fact: Fact) -> None:
        """Tell of what happens to the process, or between processes."""
        match fact:
            case LeaseLost(run_id):
                _tell(logging.WARNING, "lease lost", {"run_id": run_id})
            case AbandonedRunEnded(run):
                place = _whose(run.request, run.origin)
                _tell(logging.WARNING, "abandoned run ended", place | {"status": run.status.value})
            case StoreLost():
                _tell(logging.ERROR, "store does not answer", {})
            case StoreBack(seconds):
                _tell(logging.WARNING, "store answers again", {"outage_s": _s(seconds)})
            case DrainBegan(unfinished):
                _tell(logging.INFO, "drain began", {"unfinished": unfinished})
            case DrainEnded(unfinished, seconds):
                told = {"unfinished": unfinished, "duration_s": _s(seconds)}
                _tell(logging.WARNING if unfinished else logging.INFO, "drain ended", told)


def _tell(level: int, what: str, fields: Fields) -> None:
    logger.log(level, what, extra=fields)


def _level(work: Work) -> int:
    return logging.WARNING if work.outcome in ("error", "lost") else logging.INFO


# --- fields ---------------------------------------------------------------------------------------


def _at(place: Place) -> Fields:
    return _whose(place.team_run.request, place.origin)


def _whose(request: RunRequest, origin: Origin) -> Fields:
    fields: Fields = {"run_id": request.run_id, "team_id": request.team_id}
    if request.tenant:
        fields["tenant"] = request.tenant
    if origin.parent_run_id is not None:
        fields |= {"member_id": origin.id, "member_run_id": origin.run_id}
    return fields


def _end(work: Work) -> Fields:
    fields: Fields = {"status": work.outcome, "duration_s": _s(work.seconds)}
    return fields | ({"code": work.code} if work.code else {})


def _spent(usage: Usage) -> Fields:
    fields: Fields = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    return fields | ({"estimated": True} if usage.estimated else {})


def _call(call: ModelCall) -> Fields:
    fields: Fields = {"model": call.model, "turn": call.turn}
    upstream = {"upstream_status": call.upstream_status, "upstream_code": call.upstream_code}
    return fields | {key: value for key, value in upstream.items() if value is not None}


def _retry(retried: Retried) -> Fields:
    fields: Fields = {"model": retried.call.model, "turn": retried.call.turn, "code": retried.code}
    fields |= {"attempt": retried.attempt, "delay_s": retried.delay_s}
    if retried.upstream_status is not None:
        fields["upstream_status"] = retried.upstream_status
    return fields


def _reader(gone: ReaderGone) -> Fields:
    told = {"sent_bytes": gone.sent_bytes, "duration_s": _s(gone.seconds)}
    return {"run_id": gone.run_id, **told}


def _s(seconds: float) -> float:
    return round(seconds, 3)
