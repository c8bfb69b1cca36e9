"""The OpenAPI document as one page of HTML: no script, no second file, nothing from elsewhere.

Descriptions are Markdown of which the page knows what the document uses: paragraphs and `code`.
Elements are made by `tag`, which escapes whatever is not an element already, so no text of the
document can become markup.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

Schema = Mapping[str, Any]

_CODE = re.compile(r"`([^`]+)`")


class Html(str):
    """Text that is markup."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str) -> Html:
    """Return an element; `class_` loses its underscore, `aria_label` gets a hyphen for it."""
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    told = "".join(f' {key}="{escape(value)}"' for key, value in named.items())
    return Html(f"<{name}{told}>{joined(children)}</{name}>")


def joined(children: Iterable[str]) -> Html:
    """Return elements and texts one after the other."""
    return Html("".join(one if isinstance(one, Html) else escape(one) for one in children))


@cache
def style() -> str:
    """Return the page's style sheet."""
    return (files("app") / "web" / "docs.css").read_text("utf-8")


def style_digest() -> str:
    """Return what a Content-Security-Policy calls the style sheet."""
    return "sha256-" + b64encode(sha256(style().encode()).digest()).decode()


def page_of(document: Schema) -> str:
    """Return the page."""
    info = document["info"]
    head = joined(
        [
            Html('<meta charset="utf-8">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            tag("title", f"{info['title']} {info['version']}"),
            tag("style", Html(style())),
        ]
    )
    body = joined(
        [
            tag("nav", *_contents(document), aria_label="Contents"),
            tag("main", *_main(document)),
        ]
    )
    return "<!doctype html>\n" + tag("html", tag("head", head), tag("body", body), lang="en")


def _main(document: Schema) -> Iterable[Html]:
    info = document["info"]
    yield tag("h1", info["title"], " ", tag("small", info["version"]))
    yield tag("p", info["summary"], class_="lead")
    yield _prose(info["description"])
    raw = tag("a", "openapi.json", href="openapi.json")
    yield tag("p", "OpenAPI ", document["openapi"], " for programs: ", raw)
    for name, operations in _by_tag(document).items():
        told = next(one["description"] for one in document["tags"] if one["name"] == name)
        shown = [_operation(document, *one) for one in operations]
        yield tag("section", tag("h2", name.capitalize()), _prose(told), *shown)
    schemas = [_schema(*one) for one in document["components"]["schemas"].items()]
    yield tag("section", tag("h2", "Schemas", id="schemas"), *schemas)


# --- contents -------------------------------------------------------------------------------------


def _by_tag(document: Schema) -> Mapping[str, list[tuple[str, str, Schema]]]:
    found: dict[str, list[tuple[str, str, Schema]]] = {one["name"]: [] for one in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            found[operation["tags"][0]].append((method.upper(), path, operation))
    return found


def _contents(document: Schema) -> Iterable[Html]:
    for name, operations in _by_tag(document).items():
        links = [
            tag("li", tag("a", tag("code", method), " ", path, href=f"#{operation['operationId']}"))
            for method, path, operation in operations
        ]
        yield tag("h2", name.capitalize())
        yield tag("ul", *links)
    yield tag("h2", "Schemas")
    names = document["components"]["schemas"]
    yield tag("ul", *(tag("li", _to_schema(name)) for name in names))


# --- operations -----------------------------------------------------------------------------------


def _operation(document: Schema, method: str, path: str, operation: Schema) -> Html:
    heading = tag(
        "h3",
        tag("code", tag("b", method, class_=method.lower()), " ", path),
        " ",
        operation["summary"],
        id=operation["operationId"],
    )
    parts = [heading, _prose(operation["description"])]
    parameters = [_resolved(document, one) for one in operation.get("parameters", ())]
    if parameters:
        rows = [[_code(p["name"]), p["in"], _type(p["schema"]), _about(p)] for p in parameters]
        parts.append(_table("Parameters", ("name", "in", "type", "meaning"), rows))
    if "requestBody" in operation:
        parts.append(
            _table("Body", ("media type", "schema"), _contents_of(operation["requestBody"]))
        )
    rows = [
        [tag("b", status), _inline(answer["description"]), _media(answer), _headers(answer)]
        for status, answer in operation["responses"].items()
    ]
    parts.append(_table("Answers", ("status", "meaning", "content", "headers"), rows))
    return tag("article", *parts, *_streams(operation))


def _resolved(document: Schema, one: Schema) -> Schema:
    if "$ref" not in one:
        return one
    found: Schema = document["components"]["parameters"][_name(one)]
    return found


def _contents_of(holder: Schema) -> list[list[str]]:
    return [
        [_code(media_type), _type(told.get("itemSchema") or told["schema"])]
        for media_type, told in holder["content"].items()
    ]


def _media(answer: Schema) -> Html:
    if "content" not in answer:
        return Html("")
    return joined(
        tag("div", media_type, ": ", "a stream of " if "itemSchema" in told else "", kind)
        for (media_type, kind), told in zip(
            _contents_of(answer), answer["content"].values(), strict=True
        )
    )


def _streams(operation: Schema) -> Iterable[Html]:
    """Yield the streams that an operation may answer with, as they look on the wire."""
    for answer in operation["responses"].values():
        for media_type, told in answer.get("content", {}).items():
            for example in told.get("examples", {}).values():
                if "serializedValue" in example:
                    yield _figure(f"Example, {media_type}", example["serializedValue"])


def _figure(caption: str, text: str) -> Html:
    shown = tag("pre", text, tabindex="0")  # what scrolls must be reachable by keyboard
    return tag("figure", tag("figcaption", caption), shown)


def _headers(answer: Schema) -> Html:
    return joined(tag("div", _code(name)) for name in answer.get("headers", ()))


# --- schemas --------------------------------------------------------------------------------------


def _schema(name: str, schema: Schema) -> Html:
    parts = [tag("h3", _code(name), id=f"schema-{name}"), _prose(schema.get("description", ""))]
    if "properties" in schema:
        required = schema.get("required", ())
        rows = [
            [_code(key), _type(part), "" if key in required else "optional", _about(part)]
            for key, part in schema["properties"].items()
        ]
        parts.append(_table("Properties", ("name", "type", "", "meaning"), rows))
    else:
        parts.append(tag("p", _type(schema)))
    parts += [
        _figure("Example", json.dumps(example, indent=2)) for example in schema.get("examples", ())
    ]
    return tag("article", *parts)


def _type(schema: Schema) -> Html:
    """Return a schema in a few words."""
    if "$ref" in schema:
        return _to_schema(_name(schema))
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return _listed([_type(one) for one in schema[union]], " or ")
    if "const" in schema:
        return _code(json.dumps(schema["const"]))
    if "enum" in schema:
        return _listed([_code(json.dumps(one)) for one in schema["enum"]], " or ")
    if schema.get("type") == "array":
        return joined(["array of ", _type(schema.get("items", {}))])
    kind = schema.get("format") or schema.get("type") or "anything"
    return joined([kind, *(f", {word} {schema[key]}" for key, word in _LIMITS if key in schema)])


_LIMITS = (
    ("minimum", "at least"),
    ("exclusiveMinimum", "above"),
    ("maximum", "at most"),
    ("minLength", "length at least"),
    ("maxLength", "length at most"),
    ("maxProperties", "pairs at most"),
    ("pattern", "matching"),
    ("default", "else"),
)


def _listed(parts: Iterable[Html], between: str) -> Html:
    return Html(between.join(parts))


def _to_schema(name: str) -> Html:
    return tag("a", name, href=f"#schema-{name}")


def _name(reference: Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


# --- words ----------------------------------------------------------------------------------------


def _table(caption: str, heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Html:
    head = tag("tr", *(tag("th", one, scope="col") for one in heads))
    lines = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *lines))


def _about(part: Schema) -> Html:
    return _inline(part.get("description", ""))


def _prose(text: str) -> Html:
    return joined(tag("p", _inline(paragraph)) for paragraph in text.split("\n\n") if paragraph)


def _inline(text: str) -> Html:
    return Html(_CODE.sub(r"<code>\1</code>", escape(text)))


def _code(text: str) -> Html:
    return tag("code", text)
