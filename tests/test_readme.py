"""What the README says of settings, errors, events, clients and the teams file, held to the code.

Tables are compared whole; to mend one, copy what the failing test shows.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from app.api.problems import KINDS
from app.domain.errors import FailureCode
from app.domain.events import EVENT_NAMES
from app.domain.team import AgentSpec, TeamSpec, read_teams
from app.settings import PREFIX, Settings
from app.telemetry import figures

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
CLIENTS = ROOT / "tests" / "clients"


def section(title: str) -> str:
    """Return what stands under a heading, up to the next one of the same depth."""
    found = re.search(
        rf"^(##+) {re.escape(title)}\n(.*?)(?=^\1 |\Z)", README, re.MULTILINE | re.DOTALL
    )
    assert found, title
    return found[2]


def table(text: str) -> list[str]:
    """Return the rows of the first table in a text, without its head."""
    rows = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert rows
    return rows[0].splitlines()[2:]


def default_of(field: FieldInfo) -> str:
    """Return how the README writes a setting's default."""
    if field.default is PydanticUndefined:
        return "see [Models](#models)"
    return f"`{field.default}`" if field.default not in (None, ()) else "none"


def test_the_table_of_settings_is_the_settings() -> None:
    rows = [
        f"| `{field.validation_alias or PREFIX + name.upper()}` | {default_of(field)}"
        f" | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    assert table(section("Settings")) == rows, "\n" + "\n".join(rows)


def test_the_table_of_errors_is_the_api_s() -> None:
    rows = [f"| {kind.status} | `{code}` | {kind.title} |" for code, kind in KINDS.items()]
    assert table(section("Errors")) == rows, "\n" + "\n".join(rows)


def test_the_table_of_metrics_is_the_metrics() -> None:
    rows = [
        f"| `{figures.PREFIX}{each.name}` | {each.kind}"
        f" | {', '.join(f'`{label}`' for label in each.labels)} | {each.sentence} |"
        for each in figures.FIGURES
    ]
    assert table(section("Metrics")) == rows, "\n" + "\n".join(rows)


def test_every_reason_why_a_run_fails_is_told() -> None:
    codes = get_args(FailureCode)
    assert [code for code in codes if f"`{code}`" not in section("Errors")] == []


def test_the_table_of_events_names_each() -> None:
    names = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", section("Events"), re.MULTILINE)
    assert {name for pair in names for name in pair} == set(EVENT_NAMES)


@pytest.mark.parametrize(
    "file", ["follow.sh", "follow.py", "follow.ts", "eventsource.mjs", "fetch_event_source.mjs"]
)
def test_the_clients_shown_are_the_ones_that_are_tested(file: str) -> None:
    assert f"\n{(CLIENTS / file).read_text('utf-8')}```\n" in README


def test_event_source_listens_to_every_event() -> None:
    kinds = re.findall(r'"([A-Z]\w+)"', (CLIENTS / "eventsource.mjs").read_text("utf-8"))
    assert {*kinds, *(f"Team{kind}" for kind in kinds)} == set(EVENT_NAMES)


def test_the_teams_file_shown_can_be_read_and_has_every_key() -> None:
    found = re.search(r"^<!-- teams -->\n```yaml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found
    read_teams(found[1], "README.md")
    team = yaml.safe_load(found[1])["teams"][0]
    assert team.keys() == TeamSpec.model_fields.keys()
    assert team["members"][0].keys() == AgentSpec.model_fields.keys()


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"`((?:app|tests)/[\w./]+)`", README))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    assert len(named) > 10
