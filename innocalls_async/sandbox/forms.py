"""Form bodies, and what the API accepts in them."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import parse_qsl

import attrs
from python_multipart.multipart import parse_form

from innocalls_async.sandbox.exchange import ApplicationError, Request

# Numbers, names and durations as the service's own dashboard checks them, though it wants
# names of two characters; the digits of a duration are bounded so that times stay in range.
_NUMBER = (re.compile(r"[0-9]{7,15}"), "must be 7 to 15 digits.")
_NAME = (re.compile(r".{1,250}", re.DOTALL), "must be 1 to 250 characters.")
_CHECKS = {
    "call_flow_id": (re.compile(r".{1,250}"), "must be 1 to 250 characters."),
    "first_callee_number": _NUMBER,
    "first_callee_name": _NAME,
    "second_callee_number": _NUMBER,
    "second_callee_name": _NAME,
    "duration": (re.compile(r"0*[1-9][0-9]{0,5}"), "must be a whole number, at least 1."),
    "call_time": (
        re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}"),
        "does not match the format Y-m-d H:i:s.",
    ),
}


@attrs.frozen
class CallForm:
    """The fields of a create or an edit, under the document's names."""

    call_flow_id: str
    first_callee_number: str = attrs.field(repr=False)
    first_callee_name: str = attrs.field(repr=False)
    second_callee_number: str = attrs.field(repr=False)
    second_callee_name: str = attrs.field(repr=False)
    duration: int
    call_time: str | None

    @property
    def pair(self) -> tuple[str, str]:
        """Who is called: the first number and the second."""
        return self.first_callee_number, self.second_callee_number


def read_fields(request: Request) -> dict[str, str]:
    """The body's fields, trimmed, empty ones left out; of a repeated one, the last."""
    try:
        pairs = _read_pairs(request.headers.get("content-type", ""), request.body)
    except ValueError:  # of which python-multipart's own error is one
        raise ApplicationError(400, "The request body cannot be read.") from None
    trimmed = ((name, value.strip()) for name, value in pairs)
    return {name: value for name, value in trimmed if value}


def check_call(fields: Mapping[str, str], *, is_edit: bool = False) -> CallForm:
    """The form that `fields` make, or a `ApplicationError` that names every wrong field."""
    optional = () if is_edit else ("call_time",)
    errors: dict[str, list[str]] = {}
    for name in _CHECKS:
        complaint = _complain(name, fields.get(name), is_optional=name in optional)
        if complaint:
            errors[name] = [f"The {name.replace('_', ' ')} {complaint}"]
    if not errors and fields["first_callee_number"] == fields["second_callee_number"]:
        errors["second_callee_number"] = ["The two callee numbers must be different."]
    if errors:
        raise ApplicationError(400, next(iter(errors.values()))[0], errors)
    return CallForm(
        call_flow_id=fields["call_flow_id"],
        first_callee_number=fields["first_callee_number"],
        first_callee_name=fields["first_callee_name"],
        second_callee_number=fields["second_callee_number"],
        second_callee_name=fields["second_callee_name"],
        duration=int(fields["duration"]),
        call_time=fields.get("call_time"),
    )


def _complain(name: str, value: str | None, *, is_optional: bool) -> str | None:
    if value is None:
        return None if is_optional else "field is required."
    pattern, complaint = _CHECKS[name]
    if not pattern.fullmatch(value) or (name == "call_time" and not _is_on_calendar(value)):
        return complaint
    return None


def _is_on_calendar(text: str) -> bool:
    try:
        # A day's margin at each end keeps every zone's offset inside the calendar.
        return 1 < datetime.fromisoformat(text).year < 9999
    except ValueError:
        return False


def _read_pairs(content_type: str, body: bytes) -> list[tuple[str, str]]:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict")
    if kind == "multipart/form-data":
        return _read_multipart(content_type, body)
    if body:
        raise ValueError("not a form")
    return []


def _read_multipart(content_type: str, body: bytes) -> list[tuple[str, str]]:
    fields: list[tuple[bytes, bytes]] = []
    parse_form(
        {"Content-Type": content_type.encode("latin-1")},
        io.BytesIO(body),
        lambda field: fields.append((field.field_name or b"", field.value or b"")),
        None,
    )
    return [(name.decode(), value.decode()) for name, value in fields]
