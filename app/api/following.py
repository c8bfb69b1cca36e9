"""The one way to read a run: everything behind a cursor, then live, to its end.

Replay, live tail, resumption, a slow reader, a `?wait=`: the same loop. There is no queue between a
run and its readers and no seam between the past and the present; a reader is a cursor, and the
store tells it when to look again.

A page that is not the last one is followed by a real suspension. Without it a log in memory would
be read, and written to a client that is gone, in one uninterrupted go, and nobody else would be
served. The last one, which every live event is, is followed by the wait for news: what came while
it was being sent has been told by then, and lets the wait pass.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import anyio

from app.api.lookup import find_run, part
from app.api.readers import Reader
from app.api.services import Services
from app.domain.run import MemberRun, Run
from app.ports import Store

PAGE_BYTES: Final = 32_768
"""What fits a connection's send buffer (`server.py`) in one write.

A write that does not fit waits for the client's delayed ACK: measured with that buffer, pages of
up to 57,000 bytes replay a log at 120 to 590 MB a second, pages of 65,536 bytes at 1.7.
"""

SILENCE: Final = b""
"""Stands among the pages where a heartbeat is due."""

_HAS_END: Final = re.compile(rb"^event: (?:Team)?Run(?:Completed|Cancelled|Error)$", re.MULTILINE)


async def follow(
    store: Store, run_id: str, after: int, reader: Reader
) -> AsyncGenerator[bytes, None]:
    """Yield a team run's frames behind the cursor in pages, and `SILENCE` where nothing happens.

    Ends behind the final event, and at the end of what there is when the reader is to close.
    """
    with store.watch(run_id) as hint:
        reader.heed(hint)
        while True:
            page = await store.read(run_id, after, PAGE_BYTES)
            if page.frames:
                yield page.frames
                after = page.last
            if page.is_end:
                return
            if page.frames and not page.is_all:
                await asyncio.sleep(0)
            elif not reader.is_closing:
                await hint.wait()
                if reader.was_woken:
                    reader.was_woken = False
                    if not reader.is_closing:
                        yield SILENCE
            elif not page.frames:
                return


async def settled(services: Services, tenant: str, run_id: str, wait_s: float) -> Run | MemberRun:
    """Return a tenant's run or member run when it is final, or as it stands after `wait_s` seconds.

    Where too many wait already, it is returned as it stands at once.
    """
    run = await find_run(services.store, run_id, tenant)
    if wait_s and not part(run, run_id).status.is_final and services.readers.has_room_to_wait:
        with anyio.move_on_after(wait_s):
            await _until_final(services, run, run_id)
        run = await find_run(services.store, run_id, tenant)
    return part(run, run_id)


async def _until_final(services: Services, run: Run, run_id: str) -> None:
    """Follow the log; load the run only where an ending in it may be the one waited for."""
    with services.readers.wait() as reader:
        pages = follow(services.store, run.run_id, run.last_event_id, reader)
        async with aclosing(pages):
            async for page in pages:
                if _HAS_END.search(page):
                    run = await find_run(services.store, run_id, run.request.tenant)
                    if part(run, run_id).status.is_final:
                        return
