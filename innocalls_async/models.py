"""What goes in and what comes back: frozen values, checked when they are made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Self

import attrs
from attrs import Attribute, field, frozen

from innocalls_async.masking import mask_number, mask_text
from innocalls_async.phone import parse_number
from innocalls_async.schema import pydantic_aware

__all__ = ["BridgeRequest", "CallState", "CallStatus", "LegState", "ScheduledCall"]

_NAME_LENGTH = 250


def _first_number(value: str) -> str:
    return parse_number(value, "first_callee_number")


def _second_number(value: str) -> str:
    return parse_number(value, "second_callee_number")


def _masked(value: str | None) -> str:
    return repr(value and mask_number(value))


def _masked_text(value: str | None) -> str:
    """Of a name, for which lists often have the number."""
    return mask_text(repr(value))


def _check_text(_instance: object, attribute: Attribute[str], value: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name}: a str is needed, not {type(value).__name__}")
    if not value or value.isspace():
        raise ValueError(f"{attribute.name}: must not be empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{attribute.name}: holds half a character (a lone surrogate)") from None


def _check_name(instance: object, attribute: Attribute[str], value: str) -> None:
    _check_text(instance, attribute, value)
    if len(value) > _NAME_LENGTH:
        raise ValueError(
            f"{attribute.name}: {len(value)} characters; at most {_NAME_LENGTH} are taken"
        )


def _check_duration(_instance: object, _attribute: Attribute[int], value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"duration: whole minutes (an int) are needed, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"duration: at least 1 minute is needed, not {value}")


def _check_time(
    _instance: object, _attribute: Attribute[datetime | None], value: datetime | None
) -> None:
    if value is None:
        return
    if not isinstance(value, datetime):
        raise TypeError(f"call_time: an aware datetime or None, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise ValueError(
            f"call_time: {value.isoformat()} has no time zone; "
            "write datetime(..., tzinfo=ZoneInfo('Africa/Cairo')) or use UTC"
        )
    try:
        there_and_back = value.astimezone(UTC).astimezone(value.tzinfo)
    except OverflowError:
        raise ValueError(f"call_time: {value.isoformat()} is out of range") from None
    if there_and_back != value:  # in one zone, only what the clock shows is compared
        raise ValueError(
            f"call_time: {value.isoformat()} does not exist in {value.tzinfo}: "
            "the clocks are put forward over it"
        )


def _check_callees_differ(instance: BridgeRequest, _attribute: Attribute[str], value: str) -> None:
    if value == instance.first_callee_number:
        raise ValueError("second_callee_number: is the same as first_callee_number")


@pydantic_aware
@frozen
class BridgeRequest:
    """A call to schedule: who is joined with whom, when, and for how long.

    Numbers are given as people write them (`+20 112 345 6789`, `0020…`, digits of any script)
    and kept as the 7 to 15 digits that the API wants. `duration` is whole minutes, at least 1.
    `call_time` is an aware datetime, or None for now. Anything else is a `ValueError` or a
    `TypeError` that names the field, here and not when it is sent.

    Source: the API document, "Call Bridging".
    """

    call_flow_id: str = field(validator=_check_text)
    first_callee_number: str = field(converter=_first_number, repr=_masked)
    first_callee_name: str = field(validator=_check_name, repr=_masked_text)
    second_callee_number: str = field(
        converter=_second_number, validator=_check_callees_differ, repr=_masked
    )
    second_callee_name: str = field(validator=_check_name, repr=_masked_text)
    duration: int = field(validator=_check_duration)
    call_time: datetime | None = field(default=None, validator=_check_time)

    def masked(self) -> Self:
        """A copy for people to read, its numbers masked. It is refused where calls are made."""
        copy = object.__new__(type(self))
        for attribute in attrs.fields(type(self)):
            value = getattr(self, attribute.name)
            if attribute.name.endswith("_number"):
                value = mask_number(value)
            object.__setattr__(copy, attribute.name, value)
        return copy


@pydantic_aware
@frozen
class ScheduledCall:
    """A call that the service has on its books, under `call_id` (an opaque string)."""

    call_id: str
    request: BridgeRequest


def _folded(word: object) -> str:
    return re.sub(r"[\s_-]+", "_", str(word).strip().casefold())


class CallState(StrEnum):
    """What a call is doing. A word that is not known is `UNKNOWN`; `CallStatus.raw` has it."""

    PENDING = "pending"
    PROCESSING = "processing"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    DELETED = "deleted"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> CallState:
        word = _folded(value)
        return cls._value2member_map_.get(_CALL_WORDS.get(word, word), cls.UNKNOWN)  # type: ignore[return-value]

    @property
    def is_final(self) -> bool:
        """Whether the call stays as it is: completed, failed or deleted."""
        return self in {CallState.COMPLETED, CallState.FAILED, CallState.DELETED}


class LegState(StrEnum):
    """What became of one callee. A call flow may ring a callee again, so none of them is final
    before the call's own state is."""

    NOT_SENT = "not_sent"
    ANSWERED = "answered"
    NOT_ANSWERED = "not_answered"
    BUSY = "busy"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> LegState:
        word = _folded(value)
        if word.startswith("user_unreachable"):  # a reason in brackets follows
            return cls.UNREACHABLE
        return cls._value2member_map_.get(_LEG_WORDS.get(word, word), cls.UNKNOWN)  # type: ignore[return-value]


# Other words for the same states, seen in a customer dashboard of the service.
_CALL_WORDS: Mapping[str, str] = {
    "complete": "completed",
    "call_failed": "failed",
    "canceled": "deleted",
    "cancelled": "deleted",
}
_LEG_WORDS: Mapping[str, str] = {
    "call_failed": "failed",
    "user_did_not_answer": "not_answered",
    "no_answer": "not_answered",
    "user_busy": "busy",
    "user_busy/rejected_by_user": "busy",
    "rejected_by_user": "busy",
}


@pydantic_aware
@frozen
class CallStatus:
    """The service's account of one call.

    Times are aware. A field that is missing or unreadable is None; `raw` has the reply's own
    mapping, untouched. `call_duration` is probably the length asked for, also on a failed call:
    do not sum it as talk time.

    Source: the API document, "Call Status".
    """

    scheduled_date_time: datetime | None = None
    actual_date_time: datetime | None = None
    call_duration: timedelta | None = None
    caller_id: str | None = field(default=None, repr=_masked)
    first_recipient_name: str | None = field(default=None, repr=_masked_text)
    first_recipient_number: str | None = field(default=None, repr=_masked)
    first_recipient_status: LegState | None = None
    second_recipient_name: str | None = field(default=None, repr=_masked_text)
    second_recipient_number: str | None = field(default=None, repr=_masked)
    second_recipient_status: LegState | None = None
    call_status: CallState | None = None
    call_id: str | None = None
    raw: Mapping[str, Any] = field(factory=dict, repr=False, hash=False)

    @property
    def is_final(self) -> bool:
        """Whether the call stays as it is: it completed, failed or was deleted."""
        return self.call_status is not None and self.call_status.is_final
