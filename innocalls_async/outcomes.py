"""What became of one request in a fan-out."""

from __future__ import annotations

from typing import Any, Generic, TypeAlias, TypeVar

from attrs import field, frozen

from innocalls_async.errors import OutcomeUnknownError
from innocalls_async.masking import mask_text
from innocalls_async.models import BridgeRequest
from innocalls_async.schema import pydantic_aware

__all__ = ["Done", "InDoubt", "Outcome", "Refused", "Scheduled"]

Result = TypeVar("Result")


def _shown(item: object) -> str:
    """Any item at all, and it may hold whole numbers."""
    return mask_text(repr(item))


@pydantic_aware
@frozen
class Scheduled:
    """The service has the call on its books, after so many `attempts`. `index` counts the input
    from 0."""

    index: int
    request: BridgeRequest
    call_id: str
    attempts: int = field(default=1, eq=False)


@pydantic_aware
@frozen
class Done(Generic[Result]):
    """What `status_many`, `edit_many` and `delete_many` give for an item that went well."""

    index: int
    request: Any = field(repr=_shown)
    result: Result


@pydantic_aware
@frozen
class Refused:
    """The call is not on the books, and `error` says why. `request` is the item as given."""

    index: int
    request: Any = field(repr=_shown)
    error: Exception


@pydantic_aware
@frozen
class InDoubt:
    """The request may have reached the service, and its answer is not known."""

    index: int
    request: BridgeRequest
    error: OutcomeUnknownError


Outcome: TypeAlias = Scheduled | Refused | InDoubt
