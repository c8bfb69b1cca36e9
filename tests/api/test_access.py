from __future__ import annotations

import pytest

from app.api.access import check
from app.api.problems import Refused
from app.api.services import ApiLimits

LIMITS = ApiLimits(
    allowed_hosts=frozenset({"runs.example"}),
    allowed_origins=frozenset({"https://pages.example"}),
)


def verdict(
    limits: ApiLimits = LIMITS, method: str = "GET", path: str = "/runs", **headers: str
) -> str:
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    try:
        check(method, path, pairs, limits)
    except Refused as refused:
        return refused.code
    return "served"


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]", "[::1]:8000", "runs.example:443"],
)
def test_loopback_and_allowed_hosts_are_served_on_any_port(host: str) -> None:
    assert verdict(host=host) == "served"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "127.0.0.2",
        "localhost:x",
        "localhost:80:80",
        "user@localhost",
        "localhost, evil.example",
        "\xfflocalhost",
        "::1",
        "[::1",
        "",
    ],
)
def test_other_hosts_are_refused(host: str) -> None:
    assert verdict(host=host) == "host_not_allowed"


def test_a_request_without_or_with_two_hosts_is_refused() -> None:
    assert verdict() == "host_not_allowed"
    with pytest.raises(Refused):
        check("GET", "/runs", [(b"host", b"localhost"), (b"host", b"localhost")], LIMITS)


def test_every_host_is_served_where_the_check_is_off() -> None:
    assert verdict(ApiLimits(allowed_hosts=None), host="evil.example") == "served"


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_may_name_the_process_as_they_like(path: str) -> None:
    assert verdict(path=path, host="10.0.0.7:8000") == "served"


@pytest.mark.parametrize(
    ("method", "origin", "expected"),
    [
        ("POST", "http://localhost:8000", "served"),
        ("DELETE", "HTTP://LOCALHOST:8000", "served"),
        ("POST", "https://pages.example", "served"),
        ("POST", "http://localhost", "origin_not_allowed"),
        ("POST", "http://localhost:3000", "origin_not_allowed"),
        ("POST", "http://pages.example", "origin_not_allowed"),
        ("POST", "null", "origin_not_allowed"),
        ("POST", "", "origin_not_allowed"),
        ("DELETE", "https://evil.example", "origin_not_allowed"),
        ("GET", "https://evil.example", "served"),
        ("HEAD", "https://evil.example", "served"),
    ],
)
def test_only_pages_of_ours_may_change_anything(method: str, origin: str, expected: str) -> None:
    assert verdict(method=method, host="localhost:8000", origin=origin) == expected
