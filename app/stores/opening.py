"""Which store a URL names.

Redis's client is imported where a URL asks for it: redis-py, and OpenTelemetry's SDK, which it
imports in turn, cost every start 60 ms and 8 MB.
"""

from __future__ import annotations

from pathlib import Path

from app.domain.errors import ConfigurationError
from app.ports import Store
from app.stores.memory import MemoryStore
from app.stores.sqlite import SqliteStore


def open_store(url: str, *, memory_bytes: int = 536_870_912, lease_ttl_s: float = 10.0) -> Store:
    """Return the store that a URL names, to be opened as a context.

    `memory:` keeps up to about `memory_bytes`; `sqlite:PATH` waits up to `lease_ttl_s` seconds for
    another process to let go of the file; `redis://…` and `rediss://…` take a replica for dead that
    was silent for so long. Raises `ConfigurationError` with one clear sentence.
    """
    if url == "memory:":
        return MemoryStore(memory_bytes)
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite":
        return SqliteStore(_path(rest), lease_ttl_s)
    if scheme in ("redis", "rediss"):
        from app.stores.redis import RedisStore  # noqa: PLC0415 - see above

        return RedisStore(url, lease_ttl_s)
    raise ConfigurationError(
        "TEAM_RUNS_STORE_URL: expected memory:, sqlite:PATH, redis://… or rediss://…"
    )


def _path(given: str) -> Path:
    if given.startswith("//"):
        raise ConfigurationError("TEAM_RUNS_STORE_URL: write sqlite:PATH, without //")
    if given in ("", ":memory:"):
        raise ConfigurationError("TEAM_RUNS_STORE_URL: sqlite: needs a path; or write memory:")
    return Path(given).expanduser()
