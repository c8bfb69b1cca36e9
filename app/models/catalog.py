"""Models by the names that settings and teams files give them.

| name | model |
|---|---|
| `openai:MODEL` | MODEL at `OPENAI_BASE_URL`, OpenAI's own address without it: Responses API |
| `chat:MODEL` | the same for servers that know Chat Completions only |
| `local:smollm2` | the small model that can be installed beside the service |
| `scripted:`, `scripted:FILE` | a script; no model at all |
| a name without a colon | the entry of that name under `models` in the teams file |

`OPENAI_API_KEY` goes to the default address alone: an entry with an address of its own gets the
key that it names, or none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self, get_args

from app.domain.errors import ConfigurationError
from app.domain.team import ModelSpec, Provider
from app.models.dialects import CHAT, RESPONSES, Dialect
from app.models.local import LocalModels, local_model_problem
from app.models.openai import OpenAIProvider
from app.models.retrying import RetryingModel
from app.models.scripts import open_scripted
from app.ports import Model

_NO_KEY: Final = "none"
"""Servers of one's own mostly ask for no key, but the SDK does not go without."""

_DIALECTS: Final[Mapping[Provider, Dialect]] = {"openai": RESPONSES, "chat": CHAT}


@dataclass(frozen=True, slots=True)
class OpenAIAccess:
    """Where the models of a provider are, OpenAI's own address by default, and the key to them."""

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = field(default=None, repr=False)


class Catalog:
    """Opens each model once; closes what they use when its context ends.

    `environ` is where the entries' keys are looked up.
    """

    def __init__(
        self,
        openai: OpenAIAccess,
        retries: int,
        entries: Iterable[ModelSpec] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._openai = openai
        self._retries = retries
        self._entries = {entry.name: entry for entry in entries}
        self._environ = environ or {}
        self._models: dict[str, Model] = {}
        self._providers: dict[OpenAIAccess, OpenAIProvider] = {}
        self._local: LocalModels | None = None
        self._stack = AsyncExitStack()

    def provider(self, name: str) -> Provider:
        """Return whose a model is. Raises `ConfigurationError` when there is none of this name."""
        return self._entry(name).provider

    def open(self, name: str) -> Model:
        """Return a model. Raises `ConfigurationError` when there is none of this name."""
        if name not in self._models:
            self._models[name] = self._open(name, self._entry(name))
        return self._models[name]

    @property
    def opened(self) -> Mapping[str, Model]:
        """The models that were opened, by name."""
        return self._models

    async def __aenter__(self) -> Self:
        for opened in (*self._providers.values(), self._local):
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

    def _entry(self, name: str) -> ModelSpec:
        """Return the entry of this name, or what `provider:model` says as one."""
        if name in self._entries:
            return self._entries[name]
        provider, colon, model = name.partition(":")
        for known in get_args(Provider):
            if colon and provider == known and (model or provider == "scripted"):
                return ModelSpec.model_construct(name=name, provider=known, model=model)
        raise ConfigurationError(
            f"{name}: there is no such model; expected openai:MODEL, chat:MODEL, local:smollm2,"
            " scripted:FILE or a name under models in the teams file"
        )

    def _open(self, name: str, entry: ModelSpec) -> Model:
        if entry.provider == "scripted":
            return open_scripted(f"scripted:{entry.model or ''}", name)
        if entry.provider == "local":
            return RetryingModel(self._open_local(entry).model(name), self._retries)
        provider = self._open_provider(self._access(entry), entry)
        dialect = _DIALECTS[entry.provider]
        model = provider.model(entry.model or "", dialect=dialect, name=name)
        return RetryingModel(model, self._retries)

    def _access(self, entry: ModelSpec) -> OpenAIAccess:
        key = None
        if entry.api_key_env is not None:
            key = self._environ.get(entry.api_key_env)
            if not key:
                raise ConfigurationError(
                    f"{entry.name}: the environment variable {entry.api_key_env} is not set"
                )
        if entry.base_url is None:
            return OpenAIAccess(key or self._openai.api_key, self._openai.base_url)
        return OpenAIAccess(key, entry.base_url)

    def _open_provider(self, access: OpenAIAccess, entry: ModelSpec) -> OpenAIProvider:
        if access.api_key is None and access.base_url is None:
            raise ConfigurationError(
                f"OPENAI_API_KEY is not set, and the model {entry.name} needs it"
            )
        if access not in self._providers:
            self._providers[access] = OpenAIProvider(access.api_key or _NO_KEY, access.base_url)
        return self._providers[access]

    def _open_local(self, entry: ModelSpec) -> LocalModels:
        if entry.model not in (None, "smollm2"):
            raise ConfigurationError(f"{entry.name}: the only local model is smollm2")
        problem = local_model_problem()
        if problem is not None:
            raise ConfigurationError(problem)
        self._local = self._local or LocalModels()
        return self._local
