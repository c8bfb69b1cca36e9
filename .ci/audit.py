"""Ask for known vulnerabilities of the pinned packages, where an advisory service answers.

A vulnerability fails the check, and so does a question that cannot be asked. A service that is not
reached, or knows none of the packages (a mirror of the registry need not have its advisories), does
not: then this says so.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parents[1] / "requirements-test.txt"
"""Everything: what only the service needs is in it, pinned alike."""

PATIENCE_S = 300
UNREACHED = re.compile(r"requests\.exceptions\.|Could not connect|ConnectionError|ServiceError")
"""What pip-audit says when it is not its question that is wrong: with every failure it exits with
1, as with a finding, and writes no report."""


class NotAsked(Exception):
    """pip-audit could not do its work, and it was not for want of a service."""


def ask() -> list[dict]:
    """Return what is told of each package; nothing, if nobody answers. Raises `NotAsked`."""
    options = ("--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off")
    command = [sys.executable, "-m", "pip_audit", *options, "-r", str(PINS)]
    try:
        asked = subprocess.run(  # noqa: S603 - the words are all ours
            command, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        return json.loads(asked.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return []
    except json.JSONDecodeError:
        if UNREACHED.search(asked.stderr):
            return []
        raise NotAsked(asked.stderr) from None


def main() -> int:
    """Tell what was found; return the exit status."""
    try:
        audited = [package for package in ask() if "vulns" in package]
    except NotAsked as problem:
        sys.stdout.write(f"pip-audit did not get to ask:\n{problem}\n")
        return 1
    sys.stdout.write(f"{PINS.name}: {len(audited)} packages audited\n")
    if not audited:
        sys.stdout.write("no advisory service answers here: nothing is known either way\n")
    found = [(package, vulnerability) for package in audited for vulnerability in package["vulns"]]
    for package, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
        name = f"{package['name']} {package['version']}"
        sys.stdout.write(f"{name}: {vulnerability['id']}, mended in {fixed}\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
