"""The settings: the contract's table, and what is told when one is wrong."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from app.domain.errors import ConfigurationError
from app.settings import Settings, load_settings, unknown_variables

DEFAULTS = {
    "HOST": "127.0.0.1",
    "PORT": 8000,
    "STORE_URL": "sqlite:team-runs.db",
    "TEAMS_FILE": None,
    "MODEL": "local:smollm2",
    "API_KEYS": (),
    "AUTH": None,
    "ALLOWED_HOSTS": (),
    "ALLOWED_ORIGINS": (),
    "SIGNING_KEYS": (),
    "MAX_RUNNING_RUNS": 200,
    "MAX_PENDING_RUNS": 1000,
    "MAX_RUNS_PER_TENANT": None,
    "RUN_TIMEOUT_S": 900,
    "MODEL_IDLE_TIMEOUT_S": 300,
    "MODEL_RETRIES": 2,
    "MAX_TURNS": 20,
    "MAX_TOOL_CALLS": 100,
    "MAX_PARALLEL_MEMBERS": 8,
    "MAX_SYNC_TOOLS": 32,
    "MAX_INPUT_CHARS": 100_000,
    "MAX_BODY_BYTES": 2_000_000,
    "MAX_LOG_BYTES": 50_000_000,
    "SESSION_MAX_CHARS": 100_000,
    "MEMORY_STORE_BYTES": 536_870_912,
    "MAX_READERS_PER_RUN": 1000,
    "MAX_READERS": 10_000,
    "READ_TIMEOUT_S": 20,
    "SEND_TIMEOUT_S": 30,
    "RETENTION_S": 604_800,
    "LEASE_TTL_S": 10,
    "DRAIN_TIMEOUT_S": 20,
    "HEARTBEAT_S": 15,
    "TICKET_TTL_S": 3600,
    "LOG_LEVEL": "info",
    "LOG_FORMAT": None,
    "OPENAI_API_KEY": None,
    "OPENAI_BASE_URL": None,
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.upper().startswith(("TEAM_RUNS_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_the_defaults_are_the_contracts() -> None:
    settings = load_settings()
    assert {name.upper(): getattr(settings, name) for name in Settings.model_fields} == DEFAULTS


def test_every_setting_is_described_in_a_sentence() -> None:
    for name, field in Settings.model_fields.items():
        assert (field.description or "").endswith("."), name


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("TEAM_RUNS_PORT", "0", "port", 0),
        ("TEAM_RUNS_TEAMS_FILE", "a/b.yaml", "teams_file", Path("a/b.yaml")),
        ("TEAM_RUNS_MODEL", "scripted:", "model", "scripted:"),
        ("TEAM_RUNS_ALLOWED_HOSTS", " a.example, b.example:80,,", "allowed_hosts", None),
        ("TEAM_RUNS_AUTH", "OFF", "auth", "off"),
        ("TEAM_RUNS_LOG_LEVEL", "WARNING", "log_level", "warning"),
        ("TEAM_RUNS_LOG_FORMAT", "json", "log_format", "json"),
        ("TEAM_RUNS_HEARTBEAT_S", "0.5", "heartbeat_s", 0.5),
        ("TEAM_RUNS_MODEL_RETRIES", "0", "model_retries", 0),
        ("TEAM_RUNS_DRAIN_TIMEOUT_S", "0", "drain_timeout_s", 0),
        ("TEAM_RUNS_PORT", "", "port", 8000),
        ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1", "openai_base_url", "http://127.0.0.1:1/v1"),
    ],
)
def test_a_variable_sets_its_setting(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, field: str, expected: object
) -> None:
    monkeypatch.setenv(variable, value)
    expected = ("a.example", "b.example:80") if field == "allowed_hosts" else expected
    assert getattr(load_settings(), field) == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TEAM_RUNS_PORT", "65536"),
        ("TEAM_RUNS_PORT", "s3cret"),
        ("TEAM_RUNS_AUTH", "on"),
        ("TEAM_RUNS_LOG_LEVEL", "loud"),
        ("TEAM_RUNS_LOG_FORMAT", "xml"),
        ("TEAM_RUNS_MAX_READERS", "0"),
        ("TEAM_RUNS_MAX_TURNS", "1.5"),
        ("TEAM_RUNS_MODEL_RETRIES", "-1"),
        ("TEAM_RUNS_RUN_TIMEOUT_S", "0"),
        ("TEAM_RUNS_RUN_TIMEOUT_S", "nan"),
        ("TEAM_RUNS_SEND_TIMEOUT_S", "inf"),
        ("TEAM_RUNS_DRAIN_TIMEOUT_S", "-1"),
        ("OPENAI_BASE_URL", "s3cret"),
        ("TEAM_RUNS_API_KEYS", "s3cret"),
        ("TEAM_RUNS_API_KEYS", "a:s3cret,b:sha256:s3cret"),
        ("TEAM_RUNS_API_KEYS", "a:s3cret,b:s3cret"),
        ("TEAM_RUNS_ALLOWED_ORIGINS", "s3cret"),
        ("TEAM_RUNS_ALLOWED_ORIGINS", "https://a.example,https://s3cret.example/"),
        ("TEAM_RUNS_MAX_RUNS_PER_TENANT", "0"),
        ("TEAM_RUNS_TICKET_TTL_S", "0"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_variable_and_not_the_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    message = str(caught.value)
    assert message.startswith(f"{variable}: should ")
    assert "s3cret" not in message
    assert "\n" not in message
    assert "TEAM_RUNS_MODEL:" not in message


def test_all_bad_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_RUNS_PORT", "x")
    monkeypatch.setenv("TEAM_RUNS_MAX_TURNS", "x")
    with pytest.raises(ConfigurationError, match=r"TEAM_RUNS_PORT: .*; TEAM_RUNS_MAX_TURNS: "):
        load_settings()


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_BASE_URL"])
def test_the_default_model_is_openais_where_there_is_a_key_or_an_address(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:1/v1")
    assert load_settings().model == "openai:gpt-5.2-mini"


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:s3cret@127.0.0.1:1/v1")
    monkeypatch.setenv("TEAM_RUNS_STORE_URL", "redis://:s3cret@127.0.0.1/0")
    monkeypatch.setenv("TEAM_RUNS_API_KEYS", f"a:s3cret,b:sha256:{'5' * 64}")
    monkeypatch.setenv("TEAM_RUNS_SIGNING_KEYS", "s3cret,also-s3cret")
    assert "5" * 64 not in repr(load_settings())
    assert "s3cret" not in f"{load_settings()!r} {load_settings()}"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_leave(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("TEAM_RUNS_HOST", host)
    assert load_settings().host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "runs.example"])  # noqa: S104 - that is the point
def test_another_address_is_refused_until_access_is_said_to_be_open(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("TEAM_RUNS_HOST", host)
    ways = r"^TEAM_RUNS_HOST .*TEAM_RUNS_API_KEYS.*TEAM_RUNS_AUTH=off.*HOST=127\.0\.0\.1"
    with pytest.raises(ConfigurationError, match=ways):
        load_settings()
    for variable, value in (("TEAM_RUNS_AUTH", "off"), ("TEAM_RUNS_API_KEYS", "acme:key")):
        with monkeypatch.context() as said:
            said.setenv(variable, value)
            assert load_settings().host == host


def test_open_to_everybody_and_to_some_contradict_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEAM_RUNS_AUTH", "off")
    monkeypatch.setenv("TEAM_RUNS_API_KEYS", "acme:s3cret")
    with pytest.raises(ConfigurationError, match=r"AUTH=off.*API_KEYS") as caught:
        load_settings()
    assert "s3cret" not in str(caught.value)


def test_keys_are_read_as_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = sha256(b"key:with:colons").hexdigest()
    monkeypatch.setenv(
        "TEAM_RUNS_API_KEYS", f" a:key:with:colons , b:other,b:sha256:{digest[::-1]}"
    )
    keys = load_settings().api_keys
    assert [key.tenant for key in keys] == ["a", "b", "b"]
    assert keys[0].digest.hex() == digest


def test_signing_keys_are_read_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_RUNS_SIGNING_KEYS", "new, old")
    assert [key.get_secret_value() for key in load_settings().signing_keys] == ["new", "old"]


def test_a_env_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("TEAM_RUNS_PORT=1\nTEAM_RUNS_MODEL=scripted:\nOTHER=x\n")
    monkeypatch.setenv("TEAM_RUNS_PORT", "2")
    settings = load_settings()
    assert (settings.port, settings.model) == (2, "scripted:")


def test_a_env_file_that_is_no_text_is_told() -> None:
    Path(".env").write_bytes(b"TEAM_RUNS_MODEL=\xff\n")
    with pytest.raises(ConfigurationError, match=r"^\.env: .*UTF-8"):
        load_settings()


def test_unknown_variables_are_named_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("TEAM_RUNS_PRT=1\nTEAM_RUNS_PORT=1\nOTHER=x\n")
    monkeypatch.setenv("TEAM_RUNS_MAX_TURN", "2")
    monkeypatch.setenv("team_runs_max_turns", "2")
    assert unknown_variables() == ["TEAM_RUNS_MAX_TURN", "TEAM_RUNS_PRT"]
