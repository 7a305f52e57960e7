"""The hooks by which pydantic and FastAPI, where they are installed, understand our models."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import attrs

__all__ = ["pydantic_aware"]

Class = TypeVar("Class", bound=type)


def pydantic_aware(cls: Class) -> Class:
    """Let an attrs class be a field of a pydantic model, and a FastAPI body or response type."""
    cls.__get_pydantic_core_schema__ = classmethod(_core_schema)  # type: ignore[attr-defined]
    # FastAPI takes only models, mappings and dataclasses for a body, and whatever else has a
    # schema for a query parameter.
    cls.__dataclass_fields__ = _DataclassFields()  # type: ignore[attr-defined]
    # `pprint` asks every dataclass for it, and then prints ours by their own, masked repr.
    cls.__dataclass_params__ = _PARAMS  # type: ignore[attr-defined]
    return cls


@dataclasses.dataclass(repr=False)
class _Plain:
    """Only what `dataclasses` notes of it is of use."""


_PARAMS = _Plain.__dataclass_params__  # type: ignore[attr-defined]


class _DataclassFields:
    """What makes a class a dataclass in FastAPI's eyes, made when it is looked at."""

    def __get__(self, instance: object, owner: type) -> dict[str, dataclasses.Field[Any]]:
        fields = _dataclass_fields(owner)
        owner.__dataclass_fields__ = fields  # type: ignore[attr-defined]
        return fields


def _core_schema(cls: type, source: Any, handler: Any) -> Any:
    # Only pydantic calls this, so only then is it imported.
    from innocalls_async.integrations.pydantic import core_schema  # noqa: PLC0415

    return core_schema(cls, source, handler)


def _dataclass_fields(cls: type) -> dict[str, dataclasses.Field[Any]]:
    fields = [(a.name, a.type or Any, _dataclass_field(a)) for a in attrs.fields(cls)]
    twin = dataclasses.make_dataclass(cls.__name__, fields, init=False, repr=False, eq=False)
    return {field.name: field for field in dataclasses.fields(twin)}


def _dataclass_field(attribute: attrs.Attribute[Any]) -> Any:
    default: Any = attribute.default
    if default is attrs.NOTHING:
        return dataclasses.field()
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return dataclasses.field(default_factory=default.factory)
    return dataclasses.field(default=default)
