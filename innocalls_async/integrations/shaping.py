"""How pydantic reads one of our classes from a shape, and writes it by that.

A wrong value is repeated in pydantic's errors, and so in logs and in FastAPI's own 422. Where it
has digits enough for a number, it is given to pydantic with all but the last three hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic import (
    GetCoreSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
)
from pydantic_core import (
    CoreSchema,
    ErrorDetails,
    InitErrorDetails,
    PydanticCustomError,
    PydanticSerializationUnexpectedValue,
)
from pydantic_core import core_schema as cores

from innocalls_async.integrations.problems import hide_digits

__all__ = ["schema_by"]


def schema_by(
    shape: Any,
    cls: type[Any],
    handler: GetCoreSchemaHandler,
    *,
    read: Callable[[dict[str, Any]], object],
    write: Callable[[Any], dict[str, Any]],
) -> CoreSchema:
    """The schema of `cls`: what `shape` takes is given to `read`, and it takes what `write` gives
    of an instance. An instance passes through untouched."""

    def validate(value: Any, validate_shape: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, cls):
            return value
        try:
            fields = validate_shape(value)
        except ValidationError as error:
            raise _hidden(error) from None
        return read(fields)

    def serialize(value: Any, serialize_shape: SerializerFunctionWrapHandler) -> Any:
        if not isinstance(value, cls):  # in a union, another member's turn
            raise PydanticSerializationUnexpectedValue(f"{cls.__name__} expected")
        return serialize_shape(write(value))

    fields = handler.generate_schema(shape)
    return cores.no_info_wrap_validator_function(
        validate,
        fields,
        serialization=cores.wrap_serializer_function_ser_schema(serialize, schema=fields),
    )


def _hidden(error: ValidationError) -> ValidationError:
    lines = [_hidden_line(line) for line in error.errors(include_url=False)]
    return ValidationError.from_exception_data(error.title, lines)


def _hidden_line(line: ErrorDetails) -> InitErrorDetails:
    kind: Any = line["type"]
    if kind not in get_args(cores.ErrorType):
        told: Any = line["msg"]  # where pydantic asks for a literal
        kind = PydanticCustomError(kind, told)
    # A name that nobody knows can be a number as well.
    place = tuple(hide_digits(part) if isinstance(part, str) else part for part in line["loc"])
    shown = InitErrorDetails(type=kind, loc=place, input=_shown(line["input"]))
    if "ctx" in line:
        shown["ctx"] = line["ctx"]
    return shown


def _shown(given: Any) -> Any:
    if isinstance(given, Mapping):
        return {_shown(key): _shown(value) for key, value in given.items()}
    if isinstance(given, list | tuple):
        return [_shown(item) for item in given]
    if not isinstance(given, str | int | float | None):
        return f"<{type(given).__name__}>"
    text = str(given)
    return given if (hidden := hide_digits(text)) == text else hidden
