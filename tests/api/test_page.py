from __future__ import annotations

import re
from importlib.resources import files

import pytest

from tests.api.serving import serving
from tests.api.test_problems import assert_problem

pytestmark = pytest.mark.anyio

PAGE = files("app") / "web"


async def test_the_page_is_served_with_a_policy_that_lets_nothing_else_in() -> None:
    async with serving() as served:
        answer = await served.client.get("/")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = answer.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} < set(policy)
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


async def test_everything_the_page_names_is_served_here_and_nothing_is_loaded_from_elsewhere() -> (
    None
):
    async with serving() as served:
        found, unread = dict[str, str](), ["/"]
        while unread:
            path = unread.pop()
            answer = await served.client.get(path)
            assert answer.status_code == 200, path
            found[path] = answer.text
            assert not re.search(r"(src|href|url\(|from|import)\W*(https?:)?//", answer.text), path
            named = re.findall(r"/assets/[\w.-]+", answer.text)
            named += [f"/assets/{name}" for name in re.findall(r'"\./([\w.-]+)"', answer.text)]
            unread += [name for name in named if name not in found and name not in unread]
        modules = {file.name for file in PAGE.iterdir() if file.name.endswith(".js")}
        assert modules == {path.removeprefix("/assets/") for path in found if path.endswith(".js")}


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html"),
        ("/assets/app.js", "text/javascript"),
        ("/assets/style.css", "text/css"),
        ("/assets/icon.svg", "image/svg+xml"),
    ],
)
async def test_files_have_their_type_and_head_answers_like_get(path: str, media_type: str) -> None:
    async with serving() as served:
        got, head = await served.client.get(path), await served.client.head(path)
        assert got.headers["content-type"].startswith(media_type)
        assert head.status_code == 200
        assert head.content == b""
        for name in ("content-type", "content-length", "etag", "content-security-policy"):
            assert head.headers[name] == got.headers[name]


async def test_a_file_that_has_not_changed_is_not_sent_again() -> None:
    async with serving() as served:
        first = await served.client.get("/assets/app.js")
        tag = {"If-None-Match": first.headers["etag"]}
        again = await served.client.get("/assets/app.js", headers=tag)
        assert again.status_code == 304
        assert again.content == b""
        assert first.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "name", ["none.js", "index.html", "..%2fmain.py", "..js", "__init__.py", "app.js%00"]
)
async def test_no_other_file_is_served(name: str) -> None:
    async with serving() as served:
        assert_problem(await served.client.get(f"/assets/{name}"), 404, "not_found")
