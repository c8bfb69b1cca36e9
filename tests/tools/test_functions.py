"""A typed function as a tool: what the model is told of it, and what it reads when it calls it."""

from __future__ import annotations

import asyncio
import contextvars
import enum
import functools
import json
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from anyio import CapacityLimiter
from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from app.domain.errors import ConfigurationError
from app.models.requests import is_strict
from app.ports import ToolCall, ToolResult
from app.tools.answers import MAX_RESULT_BYTES
from app.tools.functions import function_tool, open_tool, open_tools

pytestmark = pytest.mark.anyio

SECRET = "sk-secret"  # noqa: S105 - the word that must not be found anywhere


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Shade(enum.StrEnum):
    DARK = "dark"


@dataclass
class Point:
    x: int
    title: str = "here"


class Route(BaseModel):
    to: Annotated[Point, Field(description="The end.")]


def parameters_of(function: Callable[..., Any]) -> Any:
    function.__doc__ = "A tool."
    return function_tool("tool", function, CapacityLimiter(1)).spec.parameters


async def called(function: Callable[..., Any], arguments: object = "{}") -> ToolResult:
    function.__doc__ = "A tool."
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    tool = function_tool("tool", function, CapacityLimiter(1))
    return await tool(ToolCall("call_1", "tool", text))


# --- what the model is told -----------------------------------------------------------------------


def of_int(value: int) -> None: ...
def of_float(value: float) -> None: ...
def of_bool(value: bool) -> None: ...
def of_str(value: str) -> None: ...
def of_list(value: list[int]) -> None: ...
def of_literal(value: Literal["a", "b"]) -> None: ...
def of_enum(value: Color) -> None: ...
def of_optional(value: int | None) -> None: ...
def of_dataclass(value: Point) -> None: ...
def of_model(value: Route) -> None: ...
def of_annotated(value: Annotated[int, Field(ge=1, description="How many.")]) -> None: ...


POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "title": {"type": "string", "default": "here"}},
    "required": ["x"],
}
CLOSED = {"additionalProperties": False}


@pytest.mark.parametrize(
    ("function", "schema", "definitions"),
    [
        (of_int, {"type": "integer"}, {}),
        (of_float, {"type": "number"}, {}),
        (of_bool, {"type": "boolean"}, {}),
        (of_str, {"type": "string"}, {}),
        (of_list, {"type": "array", "items": {"type": "integer"}}, {}),
        (of_literal, {"type": "string", "enum": ["a", "b"]}, {}),
        (
            of_enum,
            {"$ref": "#/$defs/Color"},
            {"Color": {"type": "string", "enum": ["red", "blue"]}},
        ),
        (of_optional, {"anyOf": [{"type": "integer"}, {"type": "null"}]}, {}),
        (of_dataclass, {"$ref": "#/$defs/Point"}, {"Point": POINT | CLOSED}),
        (
            of_model,
            {"$ref": "#/$defs/Route"},
            {
                "Point": POINT,
                "Route": {
                    "type": "object",
                    "properties": {"to": {"$ref": "#/$defs/Point", "description": "The end."}},
                    "required": ["to"],
                },
            },
        ),
        (of_annotated, {"type": "integer", "minimum": 1, "description": "How many."}, {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_type_has_its_schema(
    function: Callable[..., Any], schema: object, definitions: object
) -> None:
    expected = {
        "type": "object",
        "properties": {"value": schema},
        "required": ["value"],
        "additionalProperties": False,
    }
    assert parameters_of(function) == expected | ({"$defs": definitions} if definitions else {})


def test_a_default_makes_a_parameter_optional_and_is_told() -> None:
    def tool(a: int, *, b: Color = Color.RED, c: list[str] | None = None) -> None: ...

    parameters = parameters_of(tool)
    assert parameters["required"] == ["a"]
    assert parameters["properties"]["b"]["default"] == "red"
    assert parameters["properties"]["c"]["default"] is None


def test_a_tool_without_parameters_takes_an_empty_object() -> None:
    def tool() -> None: ...

    expected = {"type": "object", "properties": {}, "additionalProperties": False}
    assert parameters_of(tool) == expected


def test_a_parameter_may_have_any_name() -> None:
    def tool(schema: int, _x: int, model_config: int, title: Point) -> None: ...

    assert list(parameters_of(tool)["properties"]) == ["schema", "_x", "model_config", "title"]


def test_plain_parameters_make_a_schema_that_providers_take_strictly() -> None:
    def tool(a: str, b: Literal["x", "y"], c: list[int]) -> None: ...

    assert is_strict(parameters_of(tool))


def test_name_and_description_are_the_functions() -> None:
    spec = open_tool("app.tools.examples:repeated_words", CapacityLimiter(1)).spec
    assert spec.name == "repeated_words"
    assert spec.description.startswith("Tell which words of a text are used more than once")


# --- mistakes in the teams file -------------------------------------------------------------------

NOT_A_FUNCTION = 1


def varied(*args: int) -> None:
    """A tool."""


def keyed(**kwargs: int) -> None:
    """A tool."""


def positional(a: int, /) -> None:
    """A tool."""


def untyped(a) -> None:  # type: ignore[no-untyped-def] # that is the mistake
    """A tool."""


def unresolved(a: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821 - that is the mistake
    """A tool."""


def unspeakable(a: threading.Lock) -> None:
    """A tool."""


def undescribed(a: int) -> None: ...


def añejo(a: int) -> None:  # noqa: PLC2401 - no model could call it
    """A tool."""


def fine(a: int) -> None:
    """A tool."""


HERE = "tests.tools.test_functions"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("no colon", "expected package.module:function"),
        (f"{HERE}:a.b", "expected package.module:function"),
        ("no.such:thing", "there is no module no to import"),
        ("tests.tools.broken:thing", "importing tests.tools.broken raised ZeroDivisionError"),
        (f"{HERE}:missing", f"expected a function missing in the module {HERE}"),
        (f"{HERE}:NOT_A_FUNCTION", "expected a function NOT_A_FUNCTION"),
        (f"{HERE}:Color", "expected a function Color"),
        (f"{HERE}:varied", "*args parameters are not supported: args"),
        (f"{HERE}:keyed", "**kwargs parameters are not supported: kwargs"),
        (f"{HERE}:positional", "positional-only parameters are not supported: a"),
        (f"{HERE}:untyped", "expected a type for the parameter a"),
        (f"{HERE}:unresolved", "its type hints cannot be read: NameError"),
        (f"{HERE}:unspeakable", "the type of the parameter a has no JSON form"),
        (f"{HERE}:undescribed", "expected a docstring"),
        (f"{HERE}:añejo", "expected a name of 1 to 64 ASCII letters"),
    ],
)
def test_a_mistake_is_told_with_the_path_and_what_was_expected(path: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        open_tool(path, CapacityLimiter(1))
    assert str(told.value).startswith(f"{path}: ")
    assert sentence in str(told.value)


def test_the_tools_of_an_agent_are_known_by_name() -> None:
    paths = [f"{HERE}:fine", "app.tools.examples:text_statistics"]
    assert list(open_tools(paths, CapacityLimiter(1))) == ["fine", "text_statistics"]


@pytest.mark.parametrize(
    ("paths", "taken", "key"),
    [
        ([f"{HERE}:fine", f"{HERE}:fine"], set[str](), "tools.1: "),
        ([f"{HERE}:fine"], {"fine"}, "tools.0: "),
    ],
)
def test_two_tools_of_an_agent_cannot_have_one_name(
    paths: list[str], taken: set[str], key: str
) -> None:
    with pytest.raises(ConfigurationError, match="no other tool of the agent has") as told:
        open_tools(paths, CapacityLimiter(1), taken)
    assert str(told.value).startswith(f"{key}{HERE}:fine: ")


def test_a_mistake_in_a_list_of_tools_is_told_with_its_key() -> None:
    with pytest.raises(ConfigurationError, match=r"^tools\.1: nothing: expected package"):
        open_tools([f"{HERE}:fine", "nothing"], CapacityLimiter(1))


# --- arguments ------------------------------------------------------------------------------------


async def test_values_arrive_typed_and_defaults_are_filled_in() -> None:
    seen: list[object] = []

    def tool(a: Color, b: Point, c: int = Field(3, description="As pydantic has it.")) -> None:
        seen.extend((a, b, c))

    await called(tool, {"a": "blue", "b": {"x": "1"}})
    assert seen == [Color.BLUE, Point(1), 3]


async def test_a_default_that_a_tool_changes_is_new_in_the_next_call() -> None:
    def tool(seen: list[int] = []) -> list[int]:  # noqa: B006 - that is the case
        seen.append(1)
        return seen

    assert [(await called(tool)).output for _ in range(2)] == ["[1]", "[1]"]


def refuse(value: str) -> str:
    raise ValueError(f"{SECRET} {value}")


def refuse_aloud(value: str) -> str:
    raise PydanticCustomError("too_rude", "Say please")


def takes(
    count: Annotated[int, Field(ge=1)] = 1,
    where: Point | None = None,
    checked: Annotated[str, AfterValidator(refuse)] = "",
    polite: Annotated[str, AfterValidator(refuse_aloud)] = "",
    ratio: float = 0,
) -> str:
    """A tool."""
    return "done"


@pytest.mark.parametrize(
    ("arguments", "complaints"),
    [
        ('{"count": 0}', ["count: Input should be greater than or equal to 1"]),
        ('{"count": "sk-secret"}', ["count: Input should be a valid integer"]),
        ('{"where": {"title": "x"}}', ["where.x: Field required"]),
        ('{"kount": 1}', ["kount: Extra inputs are not permitted"]),
        ('{"count": 0, "where": 1}', ["count: ", "; where: "]),
        ('{"checked": "x"}', ["checked: The tool does not take this value"]),
        ('{"polite": "x"}', ["polite: Say please"]),
        ('{"ratio": NaN}', ["ratio: Input should be a finite number"]),
        ("[1]", ["the arguments: Input should be an object"]),
        ("{", ["the arguments: Invalid JSON: "]),
        ('{"polite": "\ud83d"}', ["polite: Say please"]),
        ("[" * 100_000, ["the arguments: Invalid JSON: recursion limit exceeded"]),
    ],
)
async def test_arguments_that_do_not_fit_are_told_so_that_the_model_can_mend_them(
    arguments: str, complaints: list[str]
) -> None:
    result = await called(takes, arguments)
    assert result.status == "error"
    error = json.loads(result.output)["error"]
    assert error.startswith("The arguments don't fit. ")
    assert all(complaint in error for complaint in complaints), error
    assert SECRET not in error


async def test_a_long_list_of_mistakes_is_cut() -> None:
    def tool(values: list[int]) -> None: ...

    error = (await called(tool, {"values": ["x"] * 1000} | {"y" * 10_000: 1})).output
    assert "values.9: " in error
    assert "and 991 more" in error
    assert len(error) < 4000


async def test_no_arguments_are_an_empty_object() -> None:
    assert (await called(takes, "")).output == "done"


# --- results --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "output"),
    [
        ("as\nit is ", "as\nit is "),
        (Shade.DARK, "dark"),
        (None, "null"),
        ({"a": [1, True, "é"]}, '{"a":[1,true,"é"]}'),
        (Point(1), '{"x":1,"title":"here"}'),
        (Route(to=Point(1)), '{"to":{"x":1,"title":"here"}}'),
        ([math.nan, math.inf], "[null,null]"),
        ("half \ud83d", "half \ufffd"),
        (["\ud83d", "\ud83d\ude00"], '["\ufffd","😀"]'),
    ],
    ids=str,
)
async def test_a_result_is_text_as_it_is_and_anything_else_as_json(
    result: object, output: str
) -> None:
    def tool() -> object:
        return result

    answer = await called(tool)
    assert (answer.call_id, answer.status, answer.output) == ("call_1", "completed", output)
    assert type(answer.output) is str


@pytest.mark.parametrize("result", [object(), b"\xff", {"a": threading.Lock()}])
async def test_a_result_that_is_not_json_is_an_error(result: object) -> None:
    def tool() -> object:
        return result

    answer = await called(tool)
    assert answer.status == "error"
    assert json.loads(answer.output) == {"error": "The tool's result cannot be written as JSON."}


@pytest.mark.parametrize("letter", ["a", "é", "😀"])
async def test_a_long_result_is_cut_at_a_character_with_a_note(letter: str) -> None:
    def tool() -> str:
        return "-" + letter * MAX_RESULT_BYTES

    output = (await called(tool)).output
    head, _, note = output.partition("\n")
    assert MAX_RESULT_BYTES - 4 < len(head.encode()) <= MAX_RESULT_BYTES
    assert set(head) == {"-", letter}
    size = 1 + len(letter.encode()) * MAX_RESULT_BYTES
    assert note == f"[cut here: the result has {size} bytes]"


# --- how it is called -----------------------------------------------------------------------------


def raises_an_error() -> None:
    raise RuntimeError(SECRET)


def leaves() -> None:
    raise SystemExit(SECRET)


def stops_an_iteration() -> None:
    raise StopIteration(SECRET)


async def raises_later() -> None:
    raise RuntimeError(SECRET)


async def leaves_later() -> None:
    raise SystemExit(SECRET)


@pytest.mark.parametrize(
    "function", [raises_an_error, leaves, stops_an_iteration, raises_later, leaves_later]
)
async def test_what_a_tool_raises_is_logged_and_not_told(
    function: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    answer = await called(function)
    assert (answer.status, answer.output) == ("error", '{"error": "The tool failed."}')
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "the tool tool raised"
    assert record.exc_info is not None


async def test_a_tool_that_cancels_itself_has_failed() -> None:
    async def tool() -> None:
        raise asyncio.CancelledError

    assert (await called(tool)).status == "error"


async def test_async_functions_run_on_the_loop_and_others_in_daemon_threads() -> None:
    here = threading.current_thread()

    def of_threads() -> tuple[bool, bool]:
        thread = threading.current_thread()
        return thread is here, thread.daemon

    async def on_the_loop() -> bool:
        return threading.current_thread() is here

    assert (await called(of_threads)).output == "[false,true]"
    assert (await called(on_the_loop)).output == "true"


async def test_an_async_function_in_a_plain_wrapper_is_async() -> None:
    async def inner(a: int) -> int:
        return a

    @functools.wraps(inner)
    def wrapper(*args: int, **kwargs: int) -> object:
        return inner(*args, **kwargs)

    assert (await called(wrapper, {"a": 2})).output == "2"


SPEAKER: contextvars.ContextVar[str] = contextvars.ContextVar("speaker")


async def test_context_variables_are_seen_by_both_kinds() -> None:
    def asks() -> str:
        return SPEAKER.get()

    async def later() -> str:
        return SPEAKER.get()

    token = SPEAKER.set("me")
    outputs = [(await called(function)).output for function in (asks, later)]
    SPEAKER.reset(token)
    assert outputs == ["me", "me"]
