"""The page of the API's description: complete, and nothing it needs is elsewhere."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from app.api.openapi.page import page_of
from tests.api.described import schemas_in
from tests.api.serving import serving
from tests.api.test_openapi import DOCUMENT, OPERATIONS, RESPONSES, STREAMS

pytestmark = pytest.mark.anyio

VOID = {"meta"}


class Page(HTMLParser):
    """A page's elements; asserts that every one of them is closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        told = dict(attrs)
        self.names.add(tag)
        self.ids += [told["id"] or ""] if "id" in told else []
        self.links += [str(told[key]) for key in ("href", "src", "action") if key in told]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close it."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note its text."""
        self.text += data


PAGE = Page(page_of(DOCUMENT))


def test_the_page_tells_everything_that_the_document_does() -> None:
    for method, path, operation in OPERATIONS:
        assert operation["operationId"] in PAGE.ids
        assert f"{method.upper()} {path}" in PAGE.text
        assert operation["summary"] in PAGE.text
    for _, _, stream in STREAMS:
        assert stream["examples"]["story"]["serializedValue"] in PAGE.text
    for _, status, answer in RESPONSES:
        assert str(status) in PAGE.text
        assert answer["description"].replace("`", "") in PAGE.text
        assert all(name in PAGE.text for name in answer.get("headers", ()))
    for parameter in DOCUMENT["components"]["parameters"].values():
        assert parameter["name"] in PAGE.text
    for name in DOCUMENT["components"]["schemas"]:
        assert f"schema-{name}" in PAGE.ids
    for _, schema in schemas_in(DOCUMENT["components"]["schemas"]):
        for name, part in schema["properties"].items():
            assert name in PAGE.text
            assert part["description"].replace("`", "") in PAGE.text


def test_the_page_needs_nothing_from_elsewhere() -> None:
    assert not PAGE.names & {"script", "link", "img", "iframe", "object", "form"}
    assert set(PAGE.links) <= {f"#{one}" for one in PAGE.ids} | {"openapi.json"}
    assert len(set(PAGE.ids)) == len(PAGE.ids)
    assert not re.search(r"@import|url\(|//", page_of(DOCUMENT).partition("</style>")[0])


def test_no_text_of_the_document_becomes_markup() -> None:
    hostile = "<script>`<b>`</script>\"'&"
    document: dict[str, Any] = {
        **DOCUMENT,
        "info": {**DOCUMENT["info"], "title": hostile, "description": hostile},
    }
    page = Page(page_of(document))
    assert "script" not in page.names
    assert page.text.count("<script>") == 3


async def test_the_page_is_served_under_a_policy_that_allows_its_style_alone() -> None:
    async with serving() as served:
        answer = await served.client.get("/docs")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        (style,) = re.findall("<style>(.*?)</style>", answer.text, re.DOTALL)
        digest = b64encode(sha256(style.encode()).digest()).decode()
        policy = unescape(answer.headers["content-security-policy"])
        assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; ")
        head = await served.client.head("/docs")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(answer.content))
