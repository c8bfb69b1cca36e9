"""What `docker-compose.yml` promises of every service, and what the README repeats of it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from app.settings import Settings
from tests.container.compose import COMPOSE, ROOT, nginx_config, replica_settings

SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("replica-1", "replica-2", "local")
CLOSING_S = 30
"""How long after the drain a replica may take for its final events and the streams' ends."""


def readme(name: str) -> str:
    """Return the fenced block below the README's `<!-- name -->`."""
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.search(rf"^<!-- {name} -->\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_restarted_limited_and_can_gain_nothing(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory"}
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] or name == "nginx"  # which gets its configuration inline


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - set(OURS)))
def test_what_is_not_ours_has_a_health_check_of_its_own(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_nothing_starts_before_what_it_needs_is_healthy() -> None:
    healthy = {"condition": "service_healthy"}
    assert SERVICES["nginx"]["depends_on"] == {"replica-1": healthy, "replica-2": healthy}
    assert SERVICES["replica-1"]["depends_on"] == {"redis": healthy}


def test_every_port_is_published_to_this_machine_alone_and_the_file_says_what_to_set() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published == ["127.0.0.1:8000:8080", "127.0.0.1:8001:8000"]
    assert all(SERVICES[name]["environment"]["TEAM_RUNS_AUTH"] == "off" for name in OURS)
    head, _, _ = (ROOT / "docker-compose.yml").read_text("utf-8").partition("\nname:")
    assert "BEFORE anybody but you can reach it: replace `TEAM_RUNS_AUTH" in head


def test_the_local_model_has_a_profile_and_a_file_of_its_own() -> None:
    local = SERVICES["local"]
    assert (local["profiles"], local["build"]["target"]) == (["local"], "local")
    assert local["volumes"] == ["local:/data"]
    assert "TEAM_RUNS_STORE_URL" not in local["environment"]  # the image's: SQLite, in /data


def test_an_engine_waits_for_the_end_longer_than_the_end_may_take() -> None:
    drain_s = int(replica_settings()["DRAIN_TIMEOUT_S"])
    assert (drain_s, seconds(SERVICES["replica-1"]["stop_grace_period"])) == (600, 630)
    default_s: float = Settings.model_fields["drain_timeout_s"].default
    assert seconds(SERVICES["local"]["stop_grace_period"]) >= default_s + 10


def test_the_settings_of_nginx_in_the_readme_are_those_of_the_file() -> None:
    lines = [line.partition("#")[0].strip() for line in readme("nginx").splitlines()]
    assert len(lines) == 6
    assert [line for line in lines if line not in nginx_config()] == []
    read_s = re.search(r"proxy_read_timeout (\d+)s", nginx_config())
    assert read_s
    assert int(read_s[1]) > max(50, Settings.model_fields["heartbeat_s"].default)


def test_kubernetes_waits_for_the_end_as_well() -> None:
    pod = yaml.safe_load(readme("kubernetes"))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {one["name"]: one["value"] for one in container["env"]}
    _, pre_stop_s = container["lifecycle"]["preStop"]["exec"]["command"]
    drain_s = int(env["TEAM_RUNS_DRAIN_TIMEOUT_S"])
    assert pod["terminationGracePeriodSeconds"] >= int(pre_stop_s) + drain_s + CLOSING_S
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["volumeMounts"][0]["mountPath"] == "/data"
