"""One connection to Redis, shared: what is asked in one turn of the event loop travels together.

Commands are answered in the order in which they were handed over, and so are those that come while
a batch is on its way: they are the next batch. Nothing is sent that may not be sent again, so a
batch without an answer is, on a new connection, until it is too late: a restart or a failover of
Redis costs a pause, not a run. Whoever asked gets an answer, or `StoreUnavailable`, within 2 s.

Words wait for one another (`gathering.py`; at a model's pace, with 100 runs, a fifth of an event's
CPU), and nothing else does.

redis-py's own retries and timeouts are off: it would send ten times, under its own clock. Commands
are packed by hiredis, which takes a tenth of the time that redis-py's own packing does.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Never

import anyio
from hiredis import pack_command
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from app.domain.errors import ConfigurationError, StoreUnavailable
from app.stores.gathering import Gathering
from app.stores.redis_scripts import SCRIPTS, Command
from app.stores.watchers import Signal

logger = logging.getLogger(__name__)

ANSWER_S: Final = 1.8
"""How long an answer may take, all attempts together."""
_ATTEMPT_S: Final = 0.85
"""How long one attempt may take: the second has as long."""
_PAUSE_S: Final = 0.05
"""Between attempts, where the first failed at once."""
_GATHER_S: Final = 0.002
"""The least time between two batches of nothing but words."""

Answered = Callable[[Any], None]
"""Told a reply (bytes, int, None or a list of such), or a `StoreUnavailable`."""

FAILURES: Final = (RedisError, OSError, TimeoutError)
"""What redis-py raises where a connection is of no more use."""


class Dialer:
    """Makes connections to the Redis that a URL names."""

    def __init__(self, url: str) -> None:
        """Raises `ConfigurationError` for what is no such URL; its text is not repeated."""
        try:
            self._pool = ConnectionPool.from_url(
                url,
                protocol=2,
                socket_timeout=None,
                socket_connect_timeout=_ATTEMPT_S,
                retry=Retry(NoBackoff(), 0),
                health_check_interval=0,
            )
        except ValueError as error:
            raise ConfigurationError(
                "TEAM_RUNS_STORE_URL: expected redis://HOST:PORT/DB or rediss://HOST:PORT/DB"
            ) from error

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """Yield an open connection, closed with the context."""
        connection: Connection = self._pool.make_connection()  # type: ignore[no-untyped-call] # redis-py's
        try:
            await connection.connect()  # type: ignore[no-untyped-call] # as above
            yield connection
        finally:
            with anyio.CancelScope(shield=True):
                await connection.disconnect(nowait=True)


@dataclass(slots=True, eq=False)
class _Asked:
    command: Command
    answered: Answered
    deadline: float


class Link:
    """A shared connection; it works while `serve` does."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._asked: deque[_Asked] = deque()
        self._gathering = Gathering[_Asked](_GATHER_S, self._be_due)
        self._is_due = False
        self._signal = Signal()
        self._is_failing = False
        self._is_closed = False

    def hand_over(self, command: Command, answered: Answered, *, by: object = None) -> None:
        """Have a command done, behind those handed over before.

        It can wait for others if it says `by` whom it is handed over; see `Gathering.add`.
        """
        asked = _Asked(command, answered, _now() + ANSWER_S)
        if self._is_closed:
            _tell(asked, StoreUnavailable("the store is closed"))
        else:
            self._gathering.add(asked, by)

    def hand_over_all(self, commands: Sequence[Command], answered: Answered) -> None:
        """Have commands done, and be told all their replies, or of one that failed."""
        replies: list[Any] = []

        def collect(reply: Any) -> None:
            replies.append(reply)
            if len(replies) == len(commands):
                failed = [each for each in replies if isinstance(each, Exception)]
                answered(failed[0] if failed else replies)

        for command in commands:
            self.hand_over(command, collect)

    async def ask(self, *commands: Command) -> Sequence[Any]:
        """Return the replies to commands. Raises `StoreUnavailable` where one has none."""
        replies = [self._reply_to(command) for command in commands]
        return await asyncio.gather(*replies)

    async def serve(self) -> Never:
        """Keep a connection while there is one, and make another one when there is a need."""
        try:
            while True:
                if not self._asked:
                    await self._until_due()
                await self._answer()
                self._expire()
                await asyncio.sleep(_PAUSE_S)
        finally:
            self._is_closed = True
            self._take_up()
            while self._asked:
                _tell(self._asked.popleft(), StoreUnavailable("the store is closed"))

    async def flush(self, limit_s: float) -> None:
        """Return when everything that was handed over has got an answer, or after some seconds."""
        with anyio.move_on_after(limit_s):
            while self._asked or self._gathering:  # noqa: ASYNC110 - all is answered or expires soon
                await asyncio.sleep(_PAUSE_S)

    async def _answer(self) -> None:
        """Have what is asked answered over a new connection, for as long as that is of use."""
        try:
            async with (
                asyncio.timeout_at(self._patience()) as patience,
                self._dialer.connected() as connection,
            ):
                await self._teach(connection)
                await self._converse(connection, patience)
        except FAILURES as error:
            self._note(error)

    async def _converse(self, connection: Connection, patience: asyncio.Timeout) -> Never:
        while True:
            batch = list(self._asked)
            packed = _packed(asked.command for asked in batch)
            await connection.send_packed_command(packed, check_health=False)
            refused: BaseException | None = None
            for asked in batch:
                reply = await _reply(connection)
                self._asked.popleft()
                refused = reply.__cause__ if isinstance(reply, StoreUnavailable) else refused
                _tell(asked, reply)
            self._note(refused)
            patience.reschedule(None)
            await self._until_due()
            patience.reschedule(self._patience())

    async def _until_due(self) -> None:
        """Return when there is a batch, which is what is asked then."""
        while not self._is_due:
            await self._signal.wait()
        self._take_up()

    def _be_due(self) -> None:
        self._is_due = True
        self._signal.tell()

    def _take_up(self) -> None:
        self._is_due = False
        self._asked += self._gathering.take()

    async def _teach(self, connection: Connection) -> None:
        packed = _packed(("SCRIPT", "LOAD", script.text) for script in SCRIPTS)
        await connection.send_packed_command(packed, check_health=False)
        for _ in SCRIPTS:
            await connection.read_response()

    def _patience(self) -> float:
        return min(_now() + _ATTEMPT_S, self._asked[0].deadline)

    def _note(self, failure: BaseException | None) -> None:
        """Say when something begins to fail; not its text, which may name addresses or values."""
        if failure is not None and not self._is_failing:
            logger.warning("Redis fails: %s", type(failure).__name__)
        self._is_failing = failure is not None

    def _expire(self) -> None:
        self._take_up()
        while self._asked and self._asked[0].deadline <= _now() + _PAUSE_S:
            _tell(self._asked.popleft(), StoreUnavailable("Redis does not answer"))

    def _reply_to(self, command: Command) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.hand_over(command, partial(settle, future))
        return future


def _packed(commands: Iterable[Command]) -> bytes:
    return b"".join([pack_command(command) for command in commands])


def _now() -> float:
    return asyncio.get_running_loop().time()


def settle(future: asyncio.Future[Any], reply: Any) -> None:
    """Give a reply, or the error that it is, to whoever waits, if anybody still does."""
    if future.done():
        return
    if isinstance(reply, Exception):
        future.set_exception(reply)
        future.exception()  # seen, also where nobody waits
    else:
        future.set_result(reply)


async def _reply(connection: Connection) -> Any:
    """Return a reply; an error that Redis states is one. Raises where asking again may help."""
    try:
        return await connection.read_response()
    except (NoScriptError, ReadOnlyError):  # scripts were flushed, or the primary is another one
        raise
    except ResponseError as error:
        refused = StoreUnavailable("Redis refuses to do it")
        refused.__cause__ = error
        return refused


def _tell(asked: _Asked, reply: Any) -> None:
    try:
        asked.answered(reply)
    except Exception:
        logger.exception("an answer of Redis could not be dealt with")
