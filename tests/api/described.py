"""The OpenAPI document as a judge of real answers: what it does not name must not be there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

Document = Mapping[str, Any]

NOT_DESCRIBED = {
    "connection",
    "content-length",
    "content-security-policy",
    "content-type",
    "date",
    "referrer-policy",
    "transfer-encoding",
    "vary",
    "x-content-type-options",
}
"""Headers of the transport, and those that only browsers look at."""


def closed(part: Any) -> Any:
    """Return a document whose objects have no other properties than it names."""
    if isinstance(part, list):
        return [closed(one) for one in part]
    if not isinstance(part, dict):
        return part
    inner = {key: closed(value) for key, value in part.items()}
    if inner.get("type") == "object" and "properties" in inner:
        inner.setdefault("additionalProperties", False)
    return inner


class Judge:
    """Checks answers, and remembers which it has seen as (operation id, status)."""

    def __init__(self, document: Document) -> None:
        self.document = closed(document)
        self.seen: set[tuple[str, int]] = set()
        self.events_seen: set[tuple[str, str]] = set()
        resource = DRAFT202012.create_resource(self.document)
        registry: Registry[Any] = Registry().with_resource("urn:openapi", resource)
        self._registry = registry.crawl()

    def check(self, answer: httpx.Response) -> None:
        """Assert that the document tells this answer: status, headers, media type and content."""
        operation = self._operation(answer)
        status = str(answer.status_code)
        assert status in operation["responses"], f"{operation['operationId']}: {answer.text}"
        described = operation["responses"][status]
        self._check_headers(answer, described.get("headers", {}))
        if answer.content or "content" in described:
            media_type = answer.headers["content-type"].partition(";")[0]
            self._check_content(answer, media_type, described["content"][media_type])
        self.seen.add((operation["operationId"], answer.status_code))

    def flaws(self, schema: Mapping[str, Any], value: Any) -> list[str]:
        """Return what is wrong with a value; references are to parts of the document."""
        rooted = json.loads(json.dumps(schema).replace('"#/', '"urn:openapi#/'))
        validator = Draft202012Validator(
            rooted, registry=self._registry, format_checker=Draft202012Validator.FORMAT_CHECKER
        )
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]

    def _operation(self, answer: httpx.Response) -> Document:
        request = answer.request
        for path, methods in self.document["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), request.url.path):
                found: Document = methods[request.method.lower()]
                return found
        raise AssertionError(f"{request.url.path} is not described")

    def _check_headers(self, answer: httpx.Response, described: Document) -> None:
        schemas = {name.lower(): self._header(one) for name, one in described.items()}
        for name, text in answer.headers.items():
            if name not in NOT_DESCRIBED:
                assert name in schemas, f"{name} is not described"
                value = int(text) if schemas[name].get("type") == "integer" else text
                assert not self.flaws(schemas[name], value), name

    def _header(self, reference: Document) -> Document:
        name = reference["$ref"].rpartition("/")[2]
        found: Document = self.document["components"]["headers"][name]["schema"]
        return found

    def _check_content(self, answer: httpx.Response, media_type: str, told: Document) -> None:
        if "itemSchema" in told:
            self._check_items(answer, media_type, told)
        else:
            is_json = media_type.endswith("json")
            flaws = self.flaws(told["schema"], answer.json() if is_json else answer.text)
            assert not flaws, flaws

    def _check_items(self, answer: httpx.Response, media_type: str, told: Document) -> None:
        for item in items(media_type, answer.text):
            flaws = self.flaws(told["itemSchema"], item)
            assert not flaws, flaws
            assert item["event"] in told["x-event-names"]
            if "data" in item:
                self._check_data(item)
            self.events_seen.add((media_type, item["event"]))

    def _check_data(self, frame: Document) -> None:
        """Do what JSON Schema leaves to the application: look into the text."""
        (branch,) = [
            one["properties"]["data"]
            for one in self.document["components"]["schemas"]["ServerSentEvent"]["oneOf"]
            if one["properties"]["event"]["const"] == frame["event"]
        ]
        flaws = self.flaws(branch["contentSchema"], json.loads(frame["data"]))
        assert not flaws, flaws


def items(media_type: str, text: str) -> Iterable[dict[str, Any]]:
    """Return the items of a stream, as OpenAPI understands its media type."""
    if media_type == "text/event-stream":
        return frames(text)
    return (json.loads(line) for line in text.split("\n") if line)


def frames(text: str) -> Iterator[dict[str, Any]]:
    """Parse server-sent events by the HTML standard; `retry`, too, is told."""
    for block in text.split("\n\n"):
        fields: dict[str, Any] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
        if "retry" in fields:
            fields["retry"] = int(fields["retry"])
        if "data" in fields:
            yield fields


def schemas_in(part: Any, path: str = "") -> Iterator[tuple[str, Document]]:
    """Yield every schema that names properties, with where it stands."""
    if isinstance(part, dict):
        if part.get("type") == "object" and isinstance(part.get("properties"), dict):
            yield path, part
        for key, value in part.items():
            yield from schemas_in(value, f"{path}/{key}")
    elif isinstance(part, list):
        for place, value in enumerate(part):
            yield from schemas_in(value, f"{path}/{place}")
