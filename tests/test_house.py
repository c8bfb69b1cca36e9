"""Imports point down: a room knows only those below it. And every check that is off says why."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import app

HOUSE = Path(app.__file__).parent
TESTS = Path(__file__).parent
_OFF = re.compile(r"# ?(?:noqa(?:: [A-Z0-9, ]+)?|type: ignore(?:\[[\w-]+\])?|pragma: [\w ]+)")
BELOW = {
    "domain": set[str](),
    "ports": {"domain"},
    "observer": {"domain"},
    "settings": {"domain"},
    "telemetry": {"domain", "observer"},
    "runtime": {"domain", "observer", "ports"},
    "models": {"domain", "ports"},
    "tools": {"domain", "ports"},
    "stores": {"domain", "ports"},
    "api": {"domain", "observer", "ports", "runtime"},
    "listening": {"domain"},
    "server": {"api", "domain", "listening", "runtime"},
    "demo": {"domain", "telemetry"},
    "assembly": {"domain", "models", "ports", "runtime", "tools"},
    "main": {
        "api",
        "assembly",
        "domain",
        "models",
        "ports",
        "runtime",
        "settings",
        "stores",
        "telemetry",
        "tools",
    },
    "startup": {"domain", "models", "ports", "settings"},
    "__main__": {"demo", "domain", "main", "server", "settings", "startup", "telemetry"},
}


def imported_rooms(source: Path) -> set[str]:
    tree = ast.parse(source.read_text())
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    return {module.split(".")[1] for module in modules if module and module.startswith("app.")}


def test_imports_point_down() -> None:
    for source in HOUSE.rglob("*.py"):
        room = source.relative_to(HOUSE).parts[0].removesuffix(".py")
        if room != "__init__":
            upwards = imported_rooms(source) - BELOW[room] - {room}
            assert not upwards, f"{source.relative_to(HOUSE)} imports {upwards}"


def test_every_room_has_its_place() -> None:
    rooms = {path.stem for path in HOUSE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__pycache__", "teams", "web"} == BELOW.keys()


def test_every_check_that_is_off_says_why_on_its_line() -> None:
    silent = [
        f"{source.relative_to(HOUSE.parent)}:{number}"
        for source in (*HOUSE.rglob("*.py"), *TESTS.rglob("*.py"))
        for number, line in enumerate(source.read_text("utf-8").splitlines(), 1)
        if (off := [*_OFF.finditer(line)]) and not line[off[-1].end() :].strip(" -#")
    ]
    assert silent == []
