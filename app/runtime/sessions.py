"""What a run's leader remembers: the earlier runs of its session, as texts.

Only what was asked and what was answered is told, never tool calls, so that no broken call of an
earlier run can break a later one's turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

from app.domain.errors import BadCursor
from app.domain.run import Run, RunRequest
from app.domain.status import Status
from app.ports import AssistantTurn, ConversationItem, Filter, Store, UserText

_TELLING: Final = frozenset({Status.COMPLETED, Status.CANCELLED})
_PAGE: Final = 50


async def conversation(
    store: Store, request: RunRequest, max_chars: int
) -> Sequence[ConversationItem]:
    """Return the session so far, oldest first, and the run's input behind it.

    Of the earlier runs the newest that fit in `max_chars` characters are told.
    """
    said: list[ConversationItem] = [UserText(request.input)]
    if request.session_id is None:
        return said
    with suppress(BadCursor):  # where it was to go on, a run was removed: those before went first
        async for run in _earlier(store, request):
            answer = _answer(run)
            max_chars -= len(run.request.input) + len(answer)
            if max_chars < 0:
                break
            said[:0] = [UserText(run.request.input), AssistantTurn(answer)]
    return said


async def _earlier(store: Store, request: RunRequest) -> AsyncIterator[Run]:
    """Yield the session's runs that say something, newest first."""
    after = None
    while True:
        page = await store.list(
            Filter(_TELLING, request.tenant, request.team_id, request.session_id, _PAGE, after)
        )
        for run in page:
            yield run
        if len(page) < _PAGE:
            return
        after = page[-1].run_id


def _answer(run: Run) -> str:
    if run.status is Status.COMPLETED:
        return run.content
    return f"{run.content} [stopped]".strip()
