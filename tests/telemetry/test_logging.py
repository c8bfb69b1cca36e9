"""Log lines: one shape for ours and uvicorn's, and nothing in them that does harm."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import uvicorn

from app.telemetry.logging import OURS, configure_logging, escape_controls


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    logging.getLogger("uvicorn.access").disabled = False
    for name in OURS:
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_off_a_terminal_a_line_is_one_json_object() -> None:
    out = io.StringIO()
    configure_logging("info", stream=out)
    logging.getLogger("app.x").info("run %s\n", "\x1b[2J\x7fé", extra={"run_id": "r"})
    line = json.loads(out.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    message = "run \x1b[2J\x7fé"
    assert line == {"level": "info", "logger": "app.x", "message": message, "run_id": "r"}
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().isascii()


def test_on_a_terminal_a_line_is_text_without_control_characters() -> None:
    out = Terminal()
    configure_logging("info", stream=out)
    logging.getLogger("app").warning("a\nb\x1b[2J", extra={"run_id": "r"})
    line = re.sub(r"^\d\d:\d\d:\d\d", "TIME", out.getvalue())
    assert line == "TIME warning a\\nb\\x1b[2J  run_id=r\n"


def test_a_shape_that_was_asked_for_wins() -> None:
    out = Terminal()
    configure_logging("info", "json", out)
    logging.getLogger("app").info("hello")
    assert json.loads(out.getvalue())["message"] == "hello"


def test_the_level_is_ours_and_uvicorns_and_others_begin_at_warning() -> None:
    out = io.StringIO()
    configure_logging("debug", "text", out)
    for name in ("app.x", "uvicorn.error", "httpx", "uvicorn.access"):
        logging.getLogger(name).info("from %s", name)
    logging.getLogger("httpx").warning("told")
    messages = [line.split(maxsplit=2)[2] for line in out.getvalue().splitlines()]
    assert messages == ["from app.x", "from uvicorn.error", "told"]


def test_uvicorns_lines_are_ours_also_where_another_server_was_configured_first() -> None:
    uvicorn.Config("another:app", log_level="critical")
    out = io.StringIO()
    configure_logging("info", "text", out)
    logging.getLogger("uvicorn.error").info("told")
    assert out.getvalue().endswith("told\n")


@pytest.mark.parametrize("shape", ["json", "text"])
def test_an_error_is_named_by_class_and_place_and_not_by_its_text(shape: str) -> None:
    out = io.StringIO()
    configure_logging("info", "json" if shape == "json" else "text", out)
    try:
        int("s3cret")
    except ValueError:
        logging.getLogger("app").exception("it broke")
    assert re.search(r"ValueError in \S*test_logging\.py:\d+ \(test_an_error", out.getvalue())
    assert "s3cret" not in out.getvalue()
    assert out.getvalue().count("\n") == 1


def test_an_error_that_was_never_raised_is_named_too() -> None:
    out = io.StringIO()
    configure_logging("info", "json", out)
    logging.getLogger("app").error("it broke", exc_info=KeyError("s3cret"))
    assert json.loads(out.getvalue())["error"] == "KeyError"


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ("httpx.ConnectError: s3cret", "httpx.ConnectError"),
        ("app.domain.errors.ConfigurationError: no model", "ConfigurationError: no model"),
    ],
)
def test_a_trace_that_comes_as_text_is_cut_to_what_it_is_about(last: str, message: str) -> None:
    out = io.StringIO()
    configure_logging("info", "json", out)
    trace = f"Traceback (most recent call last):\n  File x, line 1\n{last}\n"
    logging.getLogger("uvicorn.error").error(trace)
    assert json.loads(out.getvalue())["message"] == message


@pytest.mark.parametrize(
    "character", ["\0", "\x1b", "\r", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066", "\ud83d"]
)
def test_what_a_terminal_would_act_on_is_escaped(character: str) -> None:
    escaped = escape_controls(f"a{character}b")
    assert escaped == f"a{character.encode('unicode_escape').decode()}b"


def test_what_is_only_text_stays() -> None:
    assert escape_controls("Ünïcode 👩\u200d🚀 ok") == "Ünïcode 👩\u200d🚀 ok"
    assert escape_controls("a\nb\r", keep="\n") == "a\nb\\r"
