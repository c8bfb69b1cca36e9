"""What `docker-compose.yml` says, as Compose would hand it over."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))


def nginx_config() -> str:
    """Return nginx's configuration."""
    content: str = COMPOSE["configs"]["nginx"]["content"]
    return content.replace("$$", "$")


def redis_options() -> list[str]:
    """Return the options of the server that keeps the runs."""
    program, *options = COMPOSE["services"]["redis"]["command"]
    assert program == "valkey-server"
    return [str(option) for option in options]


def replica_settings() -> dict[str, str]:
    """Return the settings of the replicas, without the prefix of their names."""
    first, second = (COMPOSE["services"][f"replica-{number}"] for number in (1, 2))
    assert first == second
    prefix = "TEAM_RUNS_"
    return {
        name.removeprefix(prefix): value
        for name, value in first["environment"].items()
        if name.startswith(prefix)
    }
