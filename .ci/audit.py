"""Ask for known vulnerabilities of the pinned packages, where an advisory service answers.

A vulnerability fails the check. A service that does not answer, or knows none of the packages (a
mirror of the registry need not have its advisories), does not: then this says so.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("requirements.txt", "requirements-test.txt")
PATIENCE_S = 180


def ask(file: str) -> list[dict]:
    """Return what is told of each package of a requirements file; nothing, if nobody answers."""
    options = ("--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off")
    command = [sys.executable, "-m", "pip_audit", *options, "-r", str(ROOT / file)]
    try:
        asked = subprocess.run(  # noqa: S603 - the words are all ours
            command, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        return json.loads(asked.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return []


def main() -> int:
    """Tell what was found; return the exit status."""
    known = 0
    for file in FILES:
        told = ask(file)
        audited = [package for package in told if "vulns" in package]
        sys.stdout.write(f"{file}: {len(audited)} packages audited\n")
        for package in audited:
            for found in package["vulns"]:
                known += 1
                fixed = ", ".join(found["fix_versions"]) or "no version"
                name = f"{package['name']} {package['version']}"
                sys.stdout.write(f"{name}: {found['id']}, mended in {fixed}\n")
        if not audited:
            sys.stdout.write("no advisory service answers here: nothing is known either way\n")
    return int(known > 0)


if __name__ == "__main__":
    sys.exit(main())
