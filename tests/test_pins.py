"""The pinned requirements: what an install with hashes needs so that it installs the same for ever.

Older installers look past a pin without extras when a package asks for one with extras, find the
newest release instead, and then refuse it for its missing hash: a pin file that worked yesterday
breaks on the day a dependency of that kind is released.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FILES = ["requirements.txt", "requirements-test.txt"]
_HASH = re.compile(r" *--hash=sha256:[0-9a-f]{64}(?: \\)?")


def _pins(file: str) -> Mapping[str, Requirement]:
    lines = (ROOT / file).read_text("utf-8").splitlines()
    pins = [Requirement(line.rstrip(" \\")) for line in lines if re.match("[a-z0-9]", line)]
    return {canonicalize_name(pin.name): pin for pin in pins}


def _asked_for(pins: Mapping[str, Requirement]) -> Iterator[tuple[str, Requirement]]:
    """Yield what the pinned packages that are installed here ask for, and who asks."""
    for name, pin in pins.items():
        try:
            asked = requires(name) or ()
        except PackageNotFoundError:  # for another platform
            continue
        for wanted in map(Requirement, asked):
            extras = pin.extras or {""}
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": e}) for e in extras):
                yield name, wanted


@pytest.mark.parametrize("file", FILES)
def test_a_pin_names_every_extra_that_another_package_asks_for(file: str) -> None:
    pins = _pins(file)
    missing = {
        f"{name} asks for {wanted}"
        for name, wanted in _asked_for(pins)
        if not wanted.extras <= pins[canonicalize_name(wanted.name)].extras
    }
    assert pins
    assert not missing


@pytest.mark.parametrize("file", FILES)
def test_every_line_is_a_pin_or_a_hash(file: str) -> None:
    lines = (ROOT / file).read_text("utf-8").splitlines()
    rest = [line for line in lines if not line.startswith("#") and not _HASH.fullmatch(line)]
    assert rest
    assert all(re.fullmatch(r"[a-z0-9._\[\],-]+==\S+(?: ; .+)? \\", line) for line in rest), rest


def test_what_the_tests_install_has_all_that_the_service_installs_in_the_same_versions() -> None:
    service, tests = map(_pins, FILES)
    assert service.items() <= tests.items()
