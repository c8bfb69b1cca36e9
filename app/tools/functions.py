"""Typed Python functions as tools: `package.module:function` in the teams file.

What the model is told of a function is read from its signature (`signatures.py`), once, at the
start; what it reads of a call, mistakes included, is in `answers.py`.

`async` functions run on the event loop, all others in threads, a limited number of them at once
over the process. How either ends with its run, even against its will, is told in `detached.py`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

from anyio import CapacityLimiter
from pydantic import ValidationError

from app.domain.errors import ConfigurationError
from app.ports import Tool, ToolCall, ToolResult, ToolSpec
from app.tools.answers import FAILED, Answer, complaint, mistake, told
from app.tools.detached import Tasks, in_thread
from app.tools.signatures import Arguments, Function, description_of, find

logger = logging.getLogger(__name__)

_RAISED: Final = (Exception, SystemExit)
"""What counts as a function's failure; an exit that left a task would end the service."""


def open_tools(
    paths: Sequence[str], sync_places: CapacityLimiter, taken: Collection[str] = ()
) -> Mapping[str, Tool]:
    """Open the tools of one agent, by name; `taken` are names that other tools of its have.

    Raises `ConfigurationError` that begins with the key: `tools.0: package.module:function: …`.
    """
    tools: dict[str, Tool] = {}
    for place, path in enumerate(paths):
        try:
            tool = open_tool(path, sync_places)
        except ConfigurationError as error:
            raise ConfigurationError(f"tools.{place}: {error}") from error.__cause__
        name = tool.spec.name
        if name in tools or name in taken:
            raise ConfigurationError(
                f"tools.{place}: {path}: expected a name that no other tool of the agent has"
            )
        tools[name] = tool
    return tools


def open_tool(path: str, sync_places: CapacityLimiter) -> Tool:
    """Make a tool of the function at `package.module:function`.

    `sync_places` bounds the threads of all functions that are not `async`. Raises
    `ConfigurationError` with the path and what was expected there.
    """
    try:
        return function_tool(*find(path), sync_places)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error.__cause__


def function_tool(name: str, function: Function, sync_places: CapacityLimiter) -> Tool:
    """Make a tool of a function at hand. Raises `ConfigurationError`."""
    arguments = Arguments(function)
    spec = ToolSpec(name, description_of(function), arguments.schema)
    return FunctionTool(spec, function, arguments, sync_places)


class FunctionTool:
    """A function that a model can call; see `ports.Tool`."""

    def __init__(
        self, spec: ToolSpec, function: Function, arguments: Arguments, sync_places: CapacityLimiter
    ) -> None:
        self.spec = spec
        self._function = function
        self._arguments = arguments
        self._sync_places = sync_places
        self._tasks = Tasks()
        self._work_name = f"tool {spec.name}"
        # a plain wrapper around an async function returns what that returns: a coroutine
        self._is_async = inspect.iscoroutinefunction(inspect.unwrap(function))

    async def __call__(self, call: ToolCall) -> ToolResult:
        """Call the function with the arguments that the model wrote."""
        answer = await self._answer(call.arguments)
        return ToolResult(call.call_id, answer.output, answer.status)

    async def _answer(self, text: str) -> Answer:
        try:
            values = self._arguments.read(text)
        except ValidationError as error:
            return mistake(complaint(error))
        if self._is_async:
            working = self._attempt_async(values)
            return await self._tasks.run(working, self._work_name) or FAILED
        attempt = partial(self._attempt, values)
        return await in_thread(attempt, self._sync_places, self._work_name)

    def _attempt(self, values: Mapping[str, Any]) -> Answer:
        try:
            return told(self._function(**values))
        except _RAISED:
            return self._failed()

    async def _attempt_async(self, values: Mapping[str, Any]) -> Answer:
        try:
            return told(await self._function(**values))
        except _RAISED:
            return self._failed()

    def _failed(self) -> Answer:
        logger.exception("the tool %s raised", self.spec.name)
        return FAILED
