"""The reading end of a Redis store: pages of logs, for however many readers.

Runs that are owned here are read from the tail that their owner keeps. Of the others, those that
somebody watches are *followed*: the newest frames are kept, and news says how far the log has come.
So a hint costs one fetch, which the first reader makes and all others share, and a reader that is
at the end knows it without asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.ports import Hint, Page
from app.stores.pages import Tail, split
from app.stores.redis_keys import RunKeys
from app.stores.redis_link import Link, settle
from app.stores.redis_news import News
from app.stores.redis_owner import Owner
from app.stores.redis_runs import TAIL_BYTES, Fetched, fetch
from app.stores.watchers import Watchers


@dataclass(slots=True, eq=False)
class _Followed:
    """A run that is watched, and not owned here: frames up to `end`.

    `known` is how far the log has come, as far as was heard. `doubts` counts the times when more
    may have been missed; all but `cleared` of them are without a fetch that began later.
    """

    keys: RunKeys
    readers: int = 0
    tail: Tail | None = None
    end: int = 0
    known: int = 0
    doubts: int = 1
    cleared: int = 0
    is_final: bool = False

    def page(self, after: int, limit_bytes: int) -> Page | None:
        """Return a page from memory, `None` where it is not there or may not be the newest."""
        if self.tail is None or not self.tail.reaches(after):
            return None
        is_current = self.known <= self.end and self.cleared == self.doubts
        if after < self.end:
            frames, last = self.tail.page(after, limit_bytes)
            is_all = last >= self.end
            return Page(frames, last, self.is_final and is_all, is_all and is_current)
        return Page(b"", after, self.is_final, is_all=True) if is_current else None

    def take(self, after: int, fetched: Fetched, cleared: int) -> None:
        """Keep what was fetched behind a place, if it is what comes next."""
        if self.tail is None:
            self.tail, self.end = Tail(after), after
        if after == self.end:
            self.tail.add(split(fetched.frames), TAIL_BYTES)
            self.end = fetched.at
        self.known = max(self.known, fetched.last)
        self.is_final = fetched.is_final and self.end >= fetched.last
        self.cleared = max(self.cleared, cleared)


class Readers:
    """Reads logs, and follows those that are watched."""

    def __init__(self, link: Link, news: News, owner: Owner, watchers: Watchers) -> None:
        self._link = link
        self._news = news
        self._owner = owner
        self._watchers = watchers
        self._followed: dict[str, _Followed] = {}
        self._fetching: dict[tuple[str, int, int], asyncio.Future[Page]] = {}

    @contextmanager
    def watch(self, run_id: str) -> Iterator[Hint]:
        """Be told of changes of a run while the context is open."""
        followed = self._followed.setdefault(run_id, _Followed(RunKeys(run_id)))
        followed.readers += 1
        if self._owner.get(run_id) is None:
            self._news.subscribe(followed.keys.news)
        try:
            with self._watchers.watch(run_id) as signal:
                yield signal
        finally:
            followed.readers -= 1
            if not followed.readers:
                del self._followed[run_id]
                self._news.unsubscribe(followed.keys.news)

    async def read(self, run_id: str, after: int, limit_bytes: int) -> Page:
        """Return frames behind the cursor; of a run that is gone, the end."""
        owned = self._owner.get(run_id)
        if owned is not None and owned.tail.reaches(after):
            frames, last = owned.tail.page(after, limit_bytes)
            is_all = last >= owned.run.last_event_id
            return Page(frames, last, owned.run.ended is not None and is_all, is_all)
        followed = self._followed.get(run_id)
        page = followed.page(after, limit_bytes) if followed and owned is None else None
        return page or await self._fetch(run_id, after, limit_bytes)

    def hear(self, run_id: str, news: bytes | None) -> None:
        """Take in how far a log has come; `None` means that something may have been missed."""
        followed = self._followed.get(run_id)
        if followed is None:
            return
        if news is None:
            followed.doubts += 1
        elif news:
            followed.known = max(followed.known, int(news))
        self._watchers.tell(run_id)

    def look_at_all(self) -> None:
        """Ask how far the logs of other replicas' runs have come that are watched here."""
        for run_id, followed in self._followed.items():
            if self._owner.get(run_id) is None:
                command = ("HGET", followed.keys.run, "last")
                self._link.hand_over(command, partial(self._looked, run_id))

    def lost(self, run_id: str) -> None:
        """Follow a run that is not owned here any more, if it is watched."""
        if (followed := self._followed.get(run_id)) is not None:
            self._news.subscribe(followed.keys.news)

    def _looked(self, run_id: str, last: Any) -> None:
        followed = self._followed.get(run_id)
        if followed is None or isinstance(last, Exception):
            return
        if last is None or int(last) != followed.known:
            self.hear(run_id, last)

    async def _fetch(self, run_id: str, after: int, limit_bytes: int) -> Page:
        """Return a page from Redis; those who want the same one share it."""
        wanted = run_id, after, limit_bytes
        page = self._fetching.get(wanted)
        if page is None:
            page = self._fetching[wanted] = asyncio.get_running_loop().create_future()
            followed = self._followed.get(run_id)
            told = partial(self._fetched, wanted, followed, followed.doubts if followed else 0)
            self._link.hand_over(fetch(RunKeys(run_id), after, limit_bytes), told)
        return await asyncio.shield(page)

    def _fetched(
        self, wanted: tuple[str, int, int], followed: _Followed | None, doubts: int, reply: Any
    ) -> None:
        future = self._fetching.pop(wanted)
        _, after, _ = wanted
        if reply is None:
            reply = Page(b"", after, is_end=True)
        elif not isinstance(reply, Exception):
            fetched = Fetched.of(reply)
            if followed is not None:
                followed.take(after, fetched, doubts)
            last = fetched.at if fetched.frames else after
            is_all = last >= fetched.last
            reply = Page(fetched.frames, last, fetched.is_final and is_all, is_all)
        settle(future, reply)
