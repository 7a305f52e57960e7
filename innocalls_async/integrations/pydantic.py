"""Our models as pydantic sees them, and so as FastAPI body and response types.

Each model has a shape below, a TypedDict of the same name, because OpenAPI names a component by
it. What comes in is read by the shape and made into the model; what goes out is the model's
fields, written by the shape. An instance passes through untouched.

- A field that the shape does not know is refused: a misspelt `call_time` would otherwise dial
  two people now.
- `call_time` is text with an offset (ISO 8601). A bare number is refused: it may be seconds or
  milliseconds.
- `CallStatus.raw` is left out, since it repeats whole numbers; durations are ISO 8601 (`PT5M`).
- An outcome has one field more, `outcome`, that tells the three apart.
- An error is its class, its (masked) message and its HTTP status.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Annotated, Any, Final, Literal, NotRequired, TypeAlias, get_args

import attrs
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    GetPydanticSchema,
    PlainSerializer,
    ValidationInfo,
)
from pydantic_core import CoreSchema, PydanticCustomError, to_jsonable_python

# pydantic takes the one of `typing` only from Python 3.12 on; it depends on this package itself.
from typing_extensions import TypedDict

from innocalls_async import errors, models, outcomes
from innocalls_async.integrations.shaping import schema_by
from innocalls_async.masking import mask_text
from innocalls_async.models import CallState, LegState

__all__ = ["TaggedOutcome", "core_schema"]

_Class: TypeAlias = type[Any]


def core_schema(cls: _Class, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    """The schema of `cls`, one of our models; `source` is `cls` or, with its argument, `Done`."""
    if issubclass(cls, outcomes.Done):
        shape = _done(*get_args(source))
    else:
        shape = next(_SHAPES[kind] for kind in cls.__mro__ if kind in _SHAPES)
    return schema_by(shape, cls, handler, read=lambda given: _make(cls, given), write=_fields)


def _make(cls: _Class, given: dict[str, Any]) -> Any:
    known = attrs.fields_dict(cls)
    return cls(**{name: value for name, value in given.items() if name in known})


def _fields(model: Any) -> dict[str, Any]:
    fields = {name: getattr(model, name) for name in attrs.fields_dict(type(model))}
    fields.pop("raw", None)
    if word := _OUTCOME_WORDS.get(type(model)):
        fields["outcome"] = word
    return fields


def _check(value: Any, info: ValidationInfo) -> Any:
    """Convert and check one field of a request as the model itself would, so that all the wrong
    fields are named at once."""
    assert info.field_name is not None  # noqa: S101 - only fields have this validator
    attribute: Any = attrs.fields_dict(models.BridgeRequest)[info.field_name]
    before = SimpleNamespace(**{"first_callee_number": None, **info.data})
    try:
        if attribute.converter is not None:
            value = attribute.converter(value)
        if attribute.validator is not None:
            attribute.validator(before, attribute, value)
    except ValueError as error:
        told: Any = str(error)  # where pydantic asks for a literal
        raise PydanticCustomError("bridge_request", told) from None
    return value


def _refuse_bare_number(value: Any) -> Any:
    text = str(value).strip().lstrip("+-").replace(".", "", 1)
    if isinstance(value, int | float) or text.isdecimal():
        raise PydanticCustomError(
            "bridge_request", "call_time: a bare number is no time; write 2030-04-23T10:30:00+02:00"
        )
    return value


def _refuse_naive(value: datetime | None) -> datetime | None:
    if value is not None and value.tzinfo is None:
        raise PydanticCustomError(
            "bridge_request",
            "call_time: has no time zone; write its offset: 2030-04-23T10:30:00+02:00",
        )
    return value


_Checked = AfterValidator(_check)
_Number = Annotated[
    str,
    Field(
        description="A phone number with its country code, as people write it.",
        examples=["+20 112 345 6789"],
    ),
    _Checked,
]
_Name = Annotated[
    str, Field(description="A callee's name.", min_length=1, max_length=250), _Checked
]


class BridgeRequest(TypedDict):
    """A call to schedule: who is joined with whom, when, and for how long."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    call_flow_id: Annotated[
        str, Field(description="The call flow that sends this call.", min_length=1), _Checked
    ]
    first_callee_number: _Number
    first_callee_name: _Name
    second_callee_number: _Number
    second_callee_name: _Name
    duration: Annotated[
        int, Field(strict=True, ge=1, description="Length after bridging, in whole minutes.")
    ]
    call_time: Annotated[
        datetime | None,
        Field(default=None, description="When to call, with an offset; null for now."),
        AfterValidator(_refuse_naive),
        _Checked,
        BeforeValidator(_refuse_bare_number),
    ]


class ScheduledCall(TypedDict):
    """A call that the service has on its books."""

    call_id: str
    request: models.BridgeRequest


_Time: TypeAlias = Annotated[datetime | None, Field(default=None)]
_Text: TypeAlias = Annotated[str | None, Field(default=None)]
_Leg: TypeAlias = Annotated[LegState | None, Field(default=None)]


class CallStatus(TypedDict):
    """The service's account of one call. A field that it did not give is null."""

    scheduled_date_time: _Time
    actual_date_time: _Time
    call_duration: Annotated[timedelta | None, Field(default=None)]
    caller_id: _Text
    first_recipient_name: _Text
    first_recipient_number: _Text
    first_recipient_status: _Leg
    second_recipient_name: _Text
    second_recipient_number: _Text
    second_recipient_status: _Leg
    call_status: Annotated[CallState | None, Field(default=None)]
    call_id: _Text


class CallError(TypedDict):
    """Why there is no call, or why it is not known whether there is one."""

    type: Annotated[str, Field(description="The class of the error.", examples=["NotFoundError"])]
    message: str
    status_code: Annotated[
        int | None, Field(default=None, description="The service's HTTP status.")
    ]


def _read_error(given: dict[str, Any]) -> Exception:
    builtin = {"ValueError": ValueError, "TypeError": TypeError}
    kind: Any = builtin.get(given["type"]) or getattr(errors, given["type"], None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = errors.InnoCallsError
    is_answer = issubclass(kind, errors.APIError)
    facts = {"status_code": given["status_code"]} if is_answer else {}
    error: Exception = kind(given["message"], **facts)
    return error


def _refusal(given: dict[str, Any]) -> Exception:
    error = _read_error(given)
    if isinstance(error, errors.OutcomeUnknownError):
        raise PydanticCustomError("outcome", "a call in doubt is not refused")
    return error


def _write_error(error: Exception) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "message": mask_text(str(error)),
        "status_code": getattr(error, "status_code", None),
    }


def _error_type(cls: type[Exception], read: Callable[[dict[str, Any]], Exception]) -> Any:
    return GetPydanticSchema(
        lambda _, handler: schema_by(CallError, cls, handler, read=read, write=_write_error)
    )


def _write_item(item: object) -> Any:
    # An input item may be anything at all, and a report must not fail on it.
    return to_jsonable_python(item, bytes_mode="base64", fallback=_describe)


def _describe(part: object) -> Any:
    return _fields(part) if type(part) in _SHAPES else f"<{type(part).__name__}>"


def _require_outcome(schema: dict[str, Any]) -> None:
    # It may be missing where we read it. It never is where we wrote it, and others rely on that.
    schema["required"].insert(0, "outcome")


_OUTCOME: Final = ConfigDict(json_schema_extra=_require_outcome)
_Doubt: TypeAlias = errors.OutcomeUnknownError
_Given: TypeAlias = models.BridgeRequest | Any
_Index = Annotated[int, Field(ge=0, description="The item's place in the input, from 0.")]
_Item = Annotated[_Given, PlainSerializer(_write_item, return_type=_Given)]


class Scheduled(TypedDict):
    """The service has the call on its books."""

    __pydantic_config__ = _OUTCOME  # type: ignore[misc]

    outcome: NotRequired[Literal["scheduled"]]
    index: _Index
    request: models.BridgeRequest
    call_id: str
    attempts: Annotated[int, Field(default=1, ge=1, description="HTTP exchanges it took.")]


class Refused(TypedDict):
    """The call is not on the books."""

    __pydantic_config__ = _OUTCOME  # type: ignore[misc]

    outcome: NotRequired[Literal["refused"]]
    index: _Index
    request: _Item
    error: Annotated[Exception, _error_type(Exception, _refusal)]


class InDoubt(TypedDict):
    """The call may or may not be on the books: look before it is sent again."""

    __pydantic_config__ = _OUTCOME  # type: ignore[misc]

    outcome: NotRequired[Literal["in_doubt"]]
    index: _Index
    request: models.BridgeRequest
    error: Annotated[_Doubt, _error_type(_Doubt, lambda given: _Doubt(given["message"]))]


@cache
def _done(result: Any = Any) -> Any:
    name = getattr(result, "__name__", "")
    fields = {"index": _Index, "request": _Item, "result": result}
    return TypedDict(f"Done[{name}]", fields)  # type: ignore[operator]


_SHAPES: Mapping[_Class, Any] = {
    models.BridgeRequest: BridgeRequest,
    models.ScheduledCall: ScheduledCall,
    models.CallStatus: CallStatus,
    outcomes.Scheduled: Scheduled,
    outcomes.Refused: Refused,
    outcomes.InDoubt: InDoubt,
}
_OUTCOME_WORDS: Mapping[_Class, str] = {
    outcomes.Scheduled: "scheduled",
    outcomes.Refused: "refused",
    outcomes.InDoubt: "in_doubt",
}


class _Discriminator:
    """Says of the union of outcomes by which field they are told apart."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        choices = handler(schema)["anyOf"]
        refs = [choice["$ref"] for choice in choices]
        mapping = dict(zip(_OUTCOME_WORDS.values(), refs, strict=True))
        return {
            "oneOf": choices,
            "discriminator": {"propertyName": "outcome", "mapping": mapping},
        }


TaggedOutcome: TypeAlias = Annotated[outcomes.Outcome, _Discriminator()]
