"""To which part a sample of the profile is counted."""

from __future__ import annotations

from tests.benchmarks.origin import ROOT
from tests.benchmarks.profiling import PARTS, REST, by_part

STACKS = """\
main (/x/app/__main__.py:9);emit (/x/app/runtime/context.py:31) 5
main (/x/app/__main__.py:9);follow (/x/app/api/following.py:40) 2
main (/x/app/__main__.py:9);stream (/x/app/api/streams.py:7);<lambda> (/x/app/stores/memory.py:8) 1
main (/x/app/__main__.py:9);send (/y/site-packages/uvicorn/protocols/http/httptools_impl.py:7) 3
main (/x/app/__main__.py:9);run (/y/asyncio/runners.py:118) 4
"""


def test_a_sample_is_the_innermost_function_s() -> None:
    assert by_part(STACKS) == {
        "the team loop and its events": 5,
        "the store and its readers": 3,
        "sending": 3,
        REST: 4,
    }


def test_the_service_s_own_parts_are_where_they_are_looked_for() -> None:
    named = [path for _, paths in PARTS for path in paths if path.startswith("/app/")]
    assert [path for path in named if not (ROOT / path[1:]).exists()] == []
    assert len(named) > 5
