"""The error tree as RFC 9457 problems: what an application's own caller may know of a failure.

The caller of the application is not the caller of the service. A wrong token is the
application's fault, and so is going too fast; a call that is not there, or a value that the
service refuses, concerns whoever asked.

================================  ================  ================================================
error                             status            why
================================  ================  ================================================
NotFoundError, GoneError          404, 410          the service's answer is the caller's answer
BadRequestError, ValidationError  422               with `errors` where the service named fields
OutcomeUnknownError               409               see below
RateLimitedError                  503, Retry-After  the limit is the application's, not the caller's
ServiceUnavailableError           503, Retry-After  the service is offline for a while
NotSentError                      503               nothing left this machine: sending again is safe
DeadlineExceededError             504               likewise
any other APIError                502               our token, our address, or the service failed
UnusableValueError                422               an id or a time that the client will not send
RequestValidationError            422               FastAPI's own; without what was given
================================  ================  ================================================

Every 422 has `errors`, fields to messages, where it is known which they are.

In doubt is a 409, and nothing else is. Proxies, meshes and HTTP clients send a 502, 503 or 504
again by themselves, some of them a POST too, and that is how people are dialled twice. Nobody
repeats a 409 unasked, and its meaning, "settle the state, then send again" (RFC 9110, 15.5.10),
is what the caller has to do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import frozen

from innocalls_async.errors import (
    APIError,
    BadRequestError,
    DeadlineExceededError,
    GoneError,
    InnoCallsError,
    NotFoundError,
    NotSentError,
    OutcomeUnknownError,
    RateLimitedError,
    ServiceUnavailableError,
    ValidationError,
)
from innocalls_async.masking import mask_text

__all__ = [
    "MEDIA_TYPE",
    "PROBLEM_RESPONSES",
    "Problem",
    "hide_digits",
    "problem_of",
    "request_problem",
    "value_problem",
]

MEDIA_TYPE: Final = "application/problem+json"
_SHORTEST_NUMBER: Final = 7


@frozen
class Problem:
    """A problem to answer with: HTTP `status`, JSON `body` and `headers`."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str]


@frozen
class _Kind:
    """`detail` None: the error's own (masked) words are fit for the caller."""

    status: int
    name: str
    title: str
    detail: str | None = None
    has_retry_after: bool = False


_NEXT_STEP: Final = (
    "The call may or may not be on the service's books, so it must not simply be sent again. "
    "Look it up at the service, or ask the callees, first."
)
_INVALID: Final = _Kind(422, "invalid", "The request is not valid")
_LATER: Final = "Nothing was put on the books. Try again later."
_KINDS: Final[Mapping[type[InnoCallsError], _Kind]] = {
    NotFoundError: _Kind(404, "not-found", "There is no such call"),
    GoneError: _Kind(410, "gone", "The call was removed"),
    BadRequestError: _INVALID,
    ValidationError: _INVALID,
    OutcomeUnknownError: _Kind(409, "in-doubt", "The call is in doubt", _NEXT_STEP),
    RateLimitedError: _Kind(
        503, "rate-limited", "The service's rate limit is reached", _LATER, has_retry_after=True
    ),
    ServiceUnavailableError: _Kind(
        503, "unavailable", "The service is offline for a while", _LATER, has_retry_after=True
    ),
    NotSentError: _Kind(
        503, "not-sent", "The service could not be reached", "Nothing was sent. Try again later."
    ),
    DeadlineExceededError: _Kind(
        504, "deadline-exceeded", "The service took too long", "It is safe to send this again."
    ),
    APIError: _Kind(
        502, "bad-gateway", "The service failed", "The service did not answer as it should."
    ),
    InnoCallsError: _Kind(
        502, "bad-gateway", "The service failed", "The service did not answer as it should."
    ),
}


def problem_of(error: InnoCallsError) -> Problem:
    """What to answer when `error` ended a request. No token and no whole number is in it."""
    kind = next(_KINDS[cls] for cls in type(error).__mro__ if cls in _KINDS)
    body = _body(kind, str(error) if kind.detail is None else kind.detail)
    if kind is _INVALID and (errors := _field_errors(error)):
        body["errors"] = errors
    if request_id := getattr(error, "request_id", None):
        body["request_id"] = request_id
    headers = {"Retry-After": _seconds(error)} if kind.has_retry_after else {}
    return Problem(kind.status, body, headers)


def value_problem(text: str) -> Problem:
    """What to answer when the client refused a value; `text` begins with the field's name."""
    masked = mask_text(text)
    field, _, message = masked.partition(": ")
    return _invalid(masked, {field: [message or masked]})


def request_problem(found: Iterable[Mapping[str, Any]]) -> Problem:
    """What to answer when the application itself finds a request not valid. `found` is as
    pydantic has it; what was given is left out, as it may be a number."""
    errors: dict[str, list[str]] = {}
    for each in found:
        field = _field(each)
        # Ours begin with the field's name, which stands before them here.
        message = _message(each).removeprefix(f"{field.rpartition('.')[2]}: ")
        errors.setdefault(field, []).append(message)
    return _invalid(f"What was given cannot be used: {', '.join(errors)}.", errors)


def _invalid(detail: str, errors: Mapping[str, list[str]]) -> Problem:
    return Problem(422, _body(_INVALID, detail) | {"errors": errors}, {})


def _body(kind: _Kind, detail: str) -> dict[str, Any]:
    return {
        "type": f"urn:innocalls:{kind.name}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
    }


def _field(found: Mapping[str, Any]) -> str:
    """Where it is: `duration`, or `3.duration` in a list; `body` for all of that."""
    place, *path = found["loc"]
    # Of what is no JSON, pydantic tells at which character that shows.
    named = [] if found["type"] == "json_invalid" else path
    return hide_digits(".".join(map(str, named)) or str(place))


def _message(found: Mapping[str, Any]) -> str:
    """In its own words, which may repeat what was given, or the tag that was in it."""
    text = str(found["msg"])
    for given in (found.get("input"), (found.get("ctx") or {}).get("tag")):
        if isinstance(given, str) and given != (hidden := hide_digits(given)):
            text = text.replace(given, hidden)
    return mask_text(text)


def hide_digits(text: str) -> str:
    """`text`, and where there are enough digits in it for a number, only the last three."""
    digits = [place for place, char in enumerate(text) if char.isdigit()]
    hidden = set(digits[:-3]) if len(digits) >= _SHORTEST_NUMBER else set()
    return "".join("*" if place in hidden else char for place, char in enumerate(text))


def _seconds(error: InnoCallsError) -> str:
    """As long as the service asked for; else 1, the least that can be said in whole seconds."""
    asked = getattr(error, "retry_after", None)
    return str(max(1, math.ceil(asked or 0)))


def _field_errors(error: InnoCallsError) -> Mapping[str, list[str]]:
    if isinstance(error, ValidationError):
        return error.errors
    # The document names 400 and no 422, and some services put the fields into that.
    try:
        errors = json.loads(getattr(error, "body", "")).get("errors")
    except (ValueError, AttributeError):
        return {}
    if not isinstance(errors, dict):
        return {}
    return {field: list(map(str, _listed(said))) for field, said in errors.items()}


def _listed(said: Any) -> list[Any]:
    return said if isinstance(said, list) else [said]


def _responses() -> dict[int | str, dict[str, Any]]:
    by_status: dict[int, dict[str, _Kind]] = {}
    for kind in _KINDS.values():
        by_status.setdefault(kind.status, {})[kind.name] = kind
    return {status: _described(status, kinds) for status, kinds in sorted(by_status.items())}


def _described(status: int, kinds: Mapping[str, _Kind]) -> dict[str, Any]:
    text = {"type": "string"}
    fields: dict[str, Any] = {
        "type": {"type": "string", "enum": [f"urn:innocalls:{name}" for name in kinds]},
        "title": text,
        "status": {"type": "integer", "enum": [status]},
        "detail": text,
    }
    required = list(fields)
    if status == _INVALID.status:
        texts = {"type": "array", "items": text}
        fields["errors"] = {"type": "object", "additionalProperties": texts}
    fields["request_id"] = text | {"description": "The service's, for its support."}
    schema = {"title": "Problem", "type": "object", "properties": fields, "required": required}
    described: dict[str, Any] = {
        "description": "; ".join(kind.title for kind in kinds.values()),
        "content": {MEDIA_TYPE: {"schema": schema}},
    }
    if any(kind.has_retry_after for kind in kinds.values()):
        seconds = {"description": "Seconds.", "schema": {"type": "integer"}}
        described["headers"] = {"Retry-After": seconds}
    return described


PROBLEM_RESPONSES: Final = _responses()
"""Every status above as OpenAPI has it: `FastAPI(responses=PROBLEM_RESPONSES)`. An
`HTTPException` that a route raises by itself keeps FastAPI's form, whatever its status."""
