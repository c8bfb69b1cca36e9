"""What a provider sends, as it comes, and what may be read out of it; the Responses API's events.

Everything here came from elsewhere: nothing is taken for granted, and what has the wrong shape
counts as absent wherever the reply can still be understood without it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, NoReturn, TypeVar

import msgspec

from app.domain.errors import ModelFailed
from app.domain.events import Usage

Json = dict[str, Any]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
T = TypeVar("T")

_SHELLS: Final = ("message", "reasoning")
"""Items that are announced ahead of their first token; any other is a call, which is one."""

_UPSTREAM_CODE: Final = re.compile(r"[a-z0-9_.]{1,64}")


class StreamEvent(msgspec.Struct, gc=False):
    """One event of the stream, as loosely as it may come."""

    type: str = ""
    delta: str | None = None
    item_id: str | int | None = None
    output_index: int | None = None
    content_index: int | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    item: Json | None = None
    part: Json | None = None
    response: Json | None = None
    error: Any = None
    code: Any = None

    @property
    def is_token(self) -> bool:
        """Whether it shows that the model has begun to write, or to call something."""
        words = self.delta or self.text or self.refusal or self.arguments
        return bool(words or (self.item and _is_filled(self.item)))


def _is_filled(item: Json) -> bool:
    return item.get("type") not in _SHELLS or bool(item.get("content") or item.get("summary"))


class _TypeOnly(msgspec.Struct):
    type: str = ""


class _Tokens(msgspec.Struct):
    input_tokens: Count
    output_tokens: Count
    total_tokens: Count | None = None


_DECODER: Final = msgspec.json.Decoder(StreamEvent)
_TYPE_DECODER: Final = msgspec.json.Decoder(_TypeOnly)


def upstream_code(error: object) -> str | None:
    """Return the provider's code out of its error object, where it has one that can be told."""
    if not isinstance(error, Mapping):
        return None
    codes = (error.get("code"), error.get("type"))
    return next((c for c in codes if isinstance(c, str) and _UPSTREAM_CODE.fullmatch(c)), None)


def read_json(payload: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Read the data of one event. Raises `ModelFailed` for what is no JSON.

    What is JSON of another shape raises `msgspec.ValidationError`.
    """
    try:
        return decoder.decode(payload)
    except msgspec.ValidationError:
        raise
    except (ValueError, RecursionError):  # msgspec refuses lone surrogates and stray bytes
        return _read_with_care(payload, decoder.type)


def _read_with_care(payload: bytes, kind: type[T]) -> T:
    try:
        fields = json.loads(payload.decode("utf-8", "replace"), parse_constant=_reject)
        return msgspec.convert(fields, kind)
    except (ValueError, RecursionError):
        raise malformed() from None


def decode(payload: bytes, known: Container[str]) -> StreamEvent:
    """Read an event of a Responses stream. Raises `ModelFailed` for what is no JSON object."""
    try:
        return read_json(payload, _DECODER)
    except msgspec.ValidationError:
        return _unknown(payload, known)


def _unknown(payload: bytes, known: Container[str]) -> StreamEvent:
    """Let an event pass that has another shape, if its type is none of those that count."""
    try:
        event_type = _TYPE_DECODER.decode(payload).type
    except (ValueError, RecursionError):
        raise malformed() from None
    if event_type in known:
        raise malformed()
    return StreamEvent(event_type)


def _reject(constant: str) -> NoReturn:
    raise ValueError(constant)


def items_of(value: object) -> list[Json]:
    """Return the objects of a list, none for what is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_parts(items: Sequence[Json]) -> Iterator[tuple[str, str]]:
    """Yield `text` or `refusal`, and its string, for each part of the messages among items."""
    for item in items:
        for part in items_of(item.get("content")) if item.get("type") == "message" else ():
            kind = "refusal" if part.get("type") == "refusal" else "text"
            text = part.get(kind)
            if isinstance(text, str):
                yield kind, text


def usage_of(value: object) -> Usage | None:
    """Return the tokens that a response reports, `None` for what is no report."""
    try:
        spent = msgspec.convert(value, _Tokens)
    except msgspec.ValidationError:
        return None
    total = spent.input_tokens + spent.output_tokens
    return Usage(spent.input_tokens, spent.output_tokens, spent.total_tokens or total)


def malformed() -> ModelFailed:
    """Return the failure for data that cannot be read."""
    return ModelFailed("model_error", "The model sent something that cannot be read.")
