"""Which model a name means, whose key goes where, and what a mistake is told as."""

from __future__ import annotations

import anyio
import pytest

from app.domain.errors import ConfigurationError
from app.domain.team import ModelSpec
from app.models.catalog import Catalog, OpenAIAccess
from app.ports import Model, ModelRequest
from tests.upstream import Exchange, Say, Upstream, in_turn

pytestmark = pytest.mark.anyio

OURS = OpenAIAccess("sk-ours", "http://127.0.0.1:9/v1")


def catalog(*entries: ModelSpec, access: OpenAIAccess = OURS, **environ: str) -> Catalog:
    return Catalog(access, 0, entries, environ)


async def call(model: Model) -> None:
    with anyio.fail_after(5):
        async with model.stream(ModelRequest("", [])) as batches:
            async for _ in batches:
                pass


async def asked(entry: ModelSpec, upstream: Upstream, **environ: str) -> Exchange:
    """The request that a call of an entry's model makes."""
    models = catalog(entry, access=OpenAIAccess("sk-ours", upstream.base_url), **environ)
    model = models.open(entry.name)
    async with models:
        await call(model)
    return upstream.exchanges[-1]


@pytest.mark.parametrize(
    ("name", "provider"),
    [("openai:gpt-4o", "openai"), ("chat:a:b", "chat"), ("scripted:", "scripted")],
)
async def test_a_name_with_a_colon_says_its_provider(name: str, provider: str) -> None:
    models = catalog()
    assert (models.provider(name), models.open(name).name) == (provider, name)
    assert models.open(name) is models.open(name)
    async with models:
        pass


@pytest.mark.parametrize("name", ["", "gpt-4o", "openai:", "chat:", "scripted", "azure:gpt-4o"])
def test_another_name_is_a_mistake_that_says_what_was_expected(name: str) -> None:
    with pytest.raises(ConfigurationError, match="no such model; expected openai:MODEL, chat:"):
        catalog().open(name)


def test_there_is_one_local_model() -> None:
    with pytest.raises(ConfigurationError, match="the only local model is smollm2"):
        catalog().open("local:gpt-4o")


@pytest.mark.parametrize(("provider", "text"), [("openai", "input"), ("chat", "messages")])
async def test_an_entry_is_called_where_and_with_what_it_says(provider: str, text: str) -> None:
    async with Upstream(in_turn([Say("ok")])) as upstream:
        entry = ModelSpec.model_validate(
            {
                "name": "fast",
                "provider": provider,
                "model": "llama",
                "base_url": upstream.base_url,
                "api_key_env": "FAST_KEY",
            }
        )
        models = catalog(entry, FAST_KEY="sk-fast")
        model = models.open("fast")
        assert (model.name, models.provider("fast")) == ("fast", provider)
        async with models:
            await call(model)
        (exchange,) = upstream.exchanges
    assert exchange.headers["authorization"] == "Bearer sk-fast"
    assert exchange.body["model"] == "llama"
    assert text in exchange.body


async def test_our_key_goes_to_no_other_address() -> None:
    async with Upstream(in_turn([Say("ok")])) as upstream:
        entry = ModelSpec(name="own", provider="chat", model="m", base_url=upstream.base_url)
        models = catalog(entry)
        model = models.open("own")
        async with models:
            await call(model)
        assert upstream.exchanges[0].headers["authorization"] == "Bearer none"


async def test_an_entry_without_an_address_or_a_key_has_the_default_ones() -> None:
    async with Upstream(in_turn([Say("ok")])) as upstream:
        plain = ModelSpec(name="plain", provider="openai", model="m")
        keyed = ModelSpec(name="keyed", provider="openai", model="m", api_key_env="K")
        headers = [
            (await asked(plain, upstream)).headers,
            (await asked(keyed, upstream, K="sk-k")).headers,
        ]
    assert [each["authorization"] for each in headers] == ["Bearer sk-ours", "Bearer sk-k"]


@pytest.mark.parametrize("environ", [{}, {"FAST_KEY": ""}])
def test_a_key_that_is_not_set_is_named(environ: dict[str, str]) -> None:
    entry = ModelSpec(name="fast", provider="chat", model="m", api_key_env="FAST_KEY")
    with pytest.raises(ConfigurationError) as told:
        Catalog(OURS, 0, [entry], environ).open("fast")
    assert str(told.value) == "fast: the environment variable FAST_KEY is not set"


@pytest.mark.parametrize("name", ["openai:gpt-4o", "chat:gpt-4o"])
def test_the_default_key_is_needed_at_the_default_address(name: str) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY is not set") as told:
        catalog(access=OpenAIAccess()).open(name)
    assert name in str(told.value)


async def test_models_of_one_access_share_their_connections() -> None:
    async with Upstream(in_turn([Say("ok")])) as upstream:
        models = catalog(access=OpenAIAccess("k", upstream.base_url))
        both = [models.open("openai:a"), models.open("chat:b")]
        async with models:
            for model in both:
                await call(model)
        assert upstream.connections_made == 1


async def test_entries_may_be_local_and_scripted() -> None:
    models = catalog(
        ModelSpec(name="small", provider="local"), ModelSpec(name="told", provider="scripted")
    )
    assert [models.open(name).name for name in ("small", "told")] == ["small", "told"]
    assert [models.provider(name) for name in ("small", "told")] == ["local", "scripted"]
    async with models, models.open("told").stream(ModelRequest("", [])) as batches:
        assert await anext(aiter(batches))


def test_no_key_and_no_address_is_shown() -> None:
    assert repr(OURS) == "OpenAIAccess()"
