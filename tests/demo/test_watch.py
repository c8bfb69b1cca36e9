"""The demo's summary: the leader's text, or who spoke last."""

from __future__ import annotations

from typing import Any

import pytest

from app.demo.watch import preview


def member(name: str, content: str) -> dict[str, Any]:
    return {"agent_name": name, "content": content}


@pytest.mark.parametrize(
    ("content", "members", "shown"),
    [
        ("The  end.", [member("A", "Once")], "The end."),
        ("", [member("A", "Once"), member("B", "upon\na"), member("C", "")], "(B) upon a"),
        ("", [member("A", "")], "(none yet)"),
        ("", [], "(none yet)"),
    ],
)
def test_a_run_is_previewed_by_the_last_text_there_is(
    content: str, members: list[dict[str, Any]], shown: str
) -> None:
    assert preview({"content": content, "members": members}) == shown
