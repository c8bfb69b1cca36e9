"""Models by the names that settings and teams files give them.

| name | model |
|---|---|
| `openai:MODEL` | MODEL at `OPENAI_BASE_URL`, OpenAI's own address without it |
| `local:smollm2` | the small model that can be installed beside the service |
| `scripted:`, `scripted:FILE` | a script; no model at all |
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from app.domain.errors import ConfigurationError
from app.models.local import LocalModels, local_model_problem
from app.models.openai import OpenAIProvider
from app.models.retrying import RetryingModel
from app.models.scripts import open_scripted
from app.ports import Model

_NO_KEY: Final = "none"
"""Servers of one's own mostly ask for no key, but the SDK does not go without."""


@dataclass(frozen=True, slots=True)
class OpenAIAccess:
    """Where `openai:` models are, and the key to them."""

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None


class Catalog:
    """Opens each model once; closes what they use when its context ends."""

    def __init__(self, openai: OpenAIAccess, retries: int) -> None:
        self._openai = openai
        self._retries = retries
        self._models: dict[str, Model] = {}
        self._provider: OpenAIProvider | None = None
        self._local: LocalModels | None = None
        self._stack = AsyncExitStack()

    def open(self, name: str) -> Model:
        """Return a model. Raises `ConfigurationError` when there is none of this name."""
        if name not in self._models:
            self._models[name] = self._open(name)
        return self._models[name]

    async def __aenter__(self) -> Self:
        for opened in (self._provider, self._local):
            if opened is not None:
                await self._stack.enter_async_context(opened)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def _open(self, name: str) -> Model:
        provider, _, model = name.partition(":")
        if provider == "openai" and model:
            return RetryingModel(self._open_provider().model(model), self._retries)
        if name == "local:smollm2":
            return RetryingModel(self._open_local().model(), self._retries)
        if provider == "scripted" and ":" in name:
            return open_scripted(name)
        raise ConfigurationError(
            f"{name}: there is no such model; expected openai:MODEL, local:smollm2 or scripted:FILE"
        )

    def _open_provider(self) -> OpenAIProvider:
        if self._provider is None:
            if self._openai.api_key is None and self._openai.base_url is None:
                raise ConfigurationError("OPENAI_API_KEY is not set, and an openai: model needs it")
            self._provider = OpenAIProvider(self._openai.api_key or _NO_KEY, self._openai.base_url)
        return self._provider

    def _open_local(self) -> LocalModels:
        problem = local_model_problem()
        if problem is not None:
            raise ConfigurationError(problem)
        self._local = self._local or LocalModels()
        return self._local
