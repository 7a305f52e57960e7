"""The hook by which pydantic, where it is installed, finds the schema of our models."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["pydantic_aware"]

Class = TypeVar("Class", bound=type)


def _core_schema(cls: type, source: Any, handler: Any) -> Any:
    # Only pydantic calls this, so only then is it imported.
    from innocalls_async.integrations.pydantic import core_schema  # noqa: PLC0415

    return core_schema(cls, source, handler)


def pydantic_aware(cls: Class) -> Class:
    """Let `cls` be a field of a pydantic model, and so a FastAPI body or response type."""
    cls.__get_pydantic_core_schema__ = classmethod(_core_schema)  # type: ignore[attr-defined]
    return cls
