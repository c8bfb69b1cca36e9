"""A store's URL is understood, or refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.domain.errors import ConfigurationError
from app.stores.memory import MemoryStore
from app.stores.opening import open_store
from app.stores.redis import RedisStore
from app.stores.sqlite import SqliteStore


def test_a_url_names_a_store(tmp_path: Path) -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    assert isinstance(open_store("sqlite:runs.db"), SqliteStore)
    assert isinstance(open_store(f"sqlite:{tmp_path}/runs.db"), SqliteStore)
    for url in ("redis://localhost", "rediss://user:secret@localhost:6380/1"):
        assert isinstance(open_store(url), RedisStore)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "memory",
        "memory:x",
        "sqlite:",
        "sqlite::memory:",
        "sqlite:///runs.db",
        "mysql://host",
        "redis://h:x",
    ],
)
def test_any_other_url_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^TEAM_RUNS_STORE_URL: "):
        open_store(url)
