"""What a typed Python function tells of itself: where it is, and its parameters as a schema.

Decisions:

- A function is refused when anything is missing that a model needs: a type for each parameter, a
  docstring. The mistake is told at the start, not by a model that guesses.
- Arguments come as one JSON object, so parameters must be nameable: no `*args`, no `**kwargs`,
  nothing positional-only.
- Pydantic reads the arguments, by fields named `p0`, `p1`…, with the parameters' names as aliases:
  a parameter may have any name, `schema` and `_x` too.
- Titles are left out of the schema. They tell nothing that the names don't, cost tokens in each
  call, and keep schemas from being taken strictly.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import Parameter
from typing import Annotated, Any, Final, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from app.domain.errors import ConfigurationError

Function = Callable[..., Any]
Json = dict[str, Any]

_PATH: Final = re.compile(r"(\w+(?:\.\w+)*):(\w+)")
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CONFIG: Final = ConfigDict(extra="forbid", allow_inf_nan=False)
_UNNAMED: Final = {
    Parameter.VAR_POSITIONAL: "*args",
    Parameter.VAR_KEYWORD: "**kwargs",
    Parameter.POSITIONAL_ONLY: "positional-only",
}
_OF_SCHEMAS: Final = ("properties", "$defs")
_OF_VALUES: Final = ("default", "const", "enum", "examples")


def find(path: str) -> tuple[str, Function]:
    """Import what `package.module:function` names; return its name and the function."""
    parts = _PATH.fullmatch(path)
    if parts is None:
        raise ConfigurationError("expected package.module:function")
    module, name = parts.groups()
    if not _NAME.fullmatch(name):
        raise ConfigurationError("expected a name of 1 to 64 ASCII letters, digits and underscores")
    function = getattr(_import(module), name, None)
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise ConfigurationError(f"expected a function {name} in the module {module}")
    return name, function


def _import(module: str) -> object:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"there is no module {error.name} to import") from error
    except Exception as error:  # a module may raise anything
        reason = type(error).__name__
        raise ConfigurationError(f"importing {module} raised {reason}") from error


def description_of(function: Function) -> str:
    """Return the docstring, without its indentation."""
    described = inspect.getdoc(function)
    if not described:
        raise ConfigurationError("expected a docstring: it is what the model is told")
    return described


class Arguments:
    """The parameters of a function: their JSON Schema, and how JSON text becomes their values."""

    def __init__(self, function: Function) -> None:
        """Raise `ConfigurationError` that names the parameter which a model could not fill."""
        fields = _fields(function)
        self._names = tuple(fields)
        numbered = {f"p{place}": field for place, field in enumerate(fields.values())}
        self._model: type[BaseModel] = create_model("Arguments", __config__=_CONFIG, **numbered)
        self.schema: Json = {"properties": {}, **_untitled(self._model.model_json_schema())}

    def read(self, text: str) -> Mapping[str, Any]:
        """Return the values by name, defaults included. Raises pydantic's `ValidationError`."""
        read = self._model.model_validate_json((text or "{}").encode("utf-8", "replace"))
        return {name: getattr(read, f"p{place}") for place, name in enumerate(self._names)}


def _fields(function: Function) -> dict[str, Any]:
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:  # hints are evaluated: they may raise anything
        reason = type(error).__name__
        raise ConfigurationError(f"its type hints cannot be read: {reason}") from error
    parameters = inspect.signature(function).parameters
    return {name: _field(parameter, hints) for name, parameter in parameters.items()}


def _field(parameter: Parameter, hints: Mapping[str, Any]) -> Any:
    """Return a field as `create_model` takes it: type and default."""
    name = parameter.name
    if parameter.kind in _UNNAMED:
        raise ConfigurationError(f"{_UNNAMED[parameter.kind]} parameters are not supported: {name}")
    if name not in hints:
        raise ConfigurationError(f"expected a type for the parameter {name}")
    default = ... if parameter.default is Parameter.empty else parameter.default
    field: Any = (Annotated[hints[name], Field(alias=name)], default)
    try:
        create_model("Argument", p=field).model_json_schema()
    except Exception as error:  # pydantic's errors for types have no common class
        raise ConfigurationError(f"the type of the parameter {name} has no JSON form") from error
    return field


def _untitled(schema: Any) -> Any:
    """Return a schema without titles; a property may be called `title`, and stays."""
    if isinstance(schema, list):
        return [_untitled(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _kept(key, inner) for key, inner in schema.items() if key != "title"}


def _kept(key: str, inner: Any) -> Any:
    if key in _OF_SCHEMAS:
        return {name: _untitled(schema) for name, schema in inner.items()}
    return inner if key in _OF_VALUES else _untitled(inner)
