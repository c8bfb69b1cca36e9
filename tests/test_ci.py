"""What `.ci/run` makes of a check that fails, and of what pip-audit may answer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CI = Path(__file__).parents[1] / ".ci"

FOUND = """
import json, sys
told = [
    {"name": "sound", "version": "1.0", "vulns": []},
    {"name": "unknown", "skip_reason": "Dependency not found on PyPI"},
    {"name": "leaky", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]},
]
print(json.dumps({"dependencies": told, "fixes": []}))
sys.exit(1)
"""
SOUND = FOUND.replace('[{"id": "PYSEC-1", "fix_versions": ["2.1"]}]', "[]").replace("(1)", "(0)")
UNKNOWN = """
print('{"dependencies": [{"name": "a", "skip_reason": "Dependency not found on PyPI"}]}')
"""
UNREACHED = """
import sys
sys.exit("requests.exceptions.ProxyError: Max retries exceeded with url: /pypi/anyio/4.16.0/json")
"""
REFUSED = """
import sys
sys.exit("ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed")
"""
NOT_ASKED = """
import sys
sys.exit("pip-audit: error: unrecognized arguments: --disable-pip")
"""


@pytest.mark.parametrize(
    ("pip_audit", "status", "says"),
    [
        (FOUND, 1, "2 packages audited\nleaky 2.0: PYSEC-1, mended in 2.1\n"),
        (SOUND, 0, "2 packages audited\n"),
        (UNKNOWN, 0, "0 packages audited\nno advisory service answers here: "),
        (UNREACHED, 0, "0 packages audited\nno advisory service answers here: "),
        (REFUSED, 0, "0 packages audited\nno advisory service answers here: "),
        (NOT_ASKED, 1, "pip-audit did not get to ask:\npip-audit: error: "),
    ],
    ids=["found", "sound", "unknown", "unreached", "refused", "not asked"],
)
def test_a_known_vulnerability_fails_the_audit_and_a_service_that_is_away_does_not(
    tmp_path: Path, pip_audit: str, status: int, says: str
) -> None:
    (tmp_path / "pip_audit.py").write_text(pip_audit, "utf-8")
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, CI / "audit.py"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout
    assert says in done.stdout


def test_without_pip_audit_nothing_was_asked() -> None:
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, CI / "audit.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "No module named pip_audit" in done.stdout


@pytest.mark.parametrize(("audit", "status"), [("false", 1), ("true", 0)])
def test_a_check_that_fails_fails_the_run_when_the_others_are_done(
    tmp_path: Path, audit: str, status: int
) -> None:
    """With other checks in the place of its own."""
    own = (CI / "run").read_text("utf-8")
    others = f'check "known vulnerabilities" {audit}\ncheck "style" echo neat\n\n'
    script, places = re.subn(r'^check "(?:.*\n)+?(?=if )', others, own, flags=re.MULTILINE)
    assert places == 1
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_text(script, "utf-8")
    done = subprocess.run(  # noqa: S603 - the script above
        ["bash", tmp_path / ".ci" / "run"],  # noqa: S607 - whichever there is
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "=== style\nneat\n" in done.stdout
    assert done.stdout.endswith("FAILED: known vulnerabilities\n" if status else "all passed\n")
