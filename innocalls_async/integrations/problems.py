"""The error tree as RFC 9457 problems: what an application's own caller may know of a failure.

The caller of the application is not the caller of the service. A wrong token is the
application's fault, and so is going too fast; a call that is not there, or a value that the
service refuses, concerns whoever asked.

| error | status | why |
| --- | --- | --- |
| NotFoundError, GoneError | 404, 410 | the service's answer is the caller's answer |
| BadRequestError, ValidationError | 422 | with `errors` where the service named fields |
| OutcomeUnknownError | 409 | see below |
| RateLimitedError | 503, Retry-After | the limit is the application's, not the caller's |
| ServiceUnavailableError | 503, Retry-After | |
| NotSentError | 503 | nothing left this machine: sending again is safe |
| DeadlineExceededError | 504 | likewise |
| any other APIError | 502 | our token, our address, or the service's own failure |
| UnusableValueError | 422 | an id or a time that the client will not send |

In doubt is a 409, and nothing else is. Proxies, meshes and HTTP clients send a 502, 503 or 504
again by themselves, some of them a POST too, and that is how people are dialled twice. Nobody
repeats a 409 unasked, and its meaning, "settle the state, then send again" (RFC 9110, 15.5.10),
is what the caller has to do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
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

__all__ = ["MEDIA_TYPE", "Problem", "problem_of", "value_problem"]

MEDIA_TYPE: Final = "application/problem+json"


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
    "The call may or may not be on the service's books, and nothing sends it again. Look it up "
    "at the service, or ask the callees, before you send it again."
)
_LATER: Final = "Nothing was put on the books. Try again later."
_KINDS: Final[Mapping[type[InnoCallsError], _Kind]] = {
    NotFoundError: _Kind(404, "not-found", "There is no such call"),
    GoneError: _Kind(410, "gone", "The call was removed"),
    BadRequestError: _Kind(422, "invalid", "The service refuses the request"),
    ValidationError: _Kind(422, "invalid", "The service refuses the request"),
    OutcomeUnknownError: _Kind(409, "outcome-unknown", "The outcome is not known", _NEXT_STEP),
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
    body: dict[str, Any] = {
        "type": f"urn:innocalls:{kind.name}",
        "title": kind.title,
        "status": kind.status,
        "detail": str(error) if kind.detail is None else kind.detail,
    }
    if kind.status == 422 and (errors := _field_errors(error)):
        body["errors"] = errors
    if request_id := getattr(error, "request_id", None):
        body["request_id"] = request_id
    headers = {"Retry-After": _seconds(error)} if kind.has_retry_after else {}
    return Problem(kind.status, body, headers)


def value_problem(text: str) -> Problem:
    """What to answer when the client refused a value; `text` begins with the field's name."""
    body = {
        "type": "urn:innocalls:invalid",
        "title": "A value cannot be used",
        "status": 422,
        "detail": text,
        "errors": {text.partition(":")[0]: [text]},
    }
    return Problem(422, body, {})


def _seconds(error: InnoCallsError) -> str:
    """As long as the service asked for, or as the client itself pauses where it did not say."""
    asked = getattr(error, "retry_after", None)
    return str(max(1, math.ceil(asked or 0)))


def _field_errors(error: InnoCallsError) -> Mapping[str, Any]:
    if isinstance(error, ValidationError):
        return error.errors
    # The document names 400 and no 422, and some services put the fields into that.
    try:
        errors = json.loads(getattr(error, "body", "")).get("errors")
    except (ValueError, AttributeError):
        return {}
    return errors if isinstance(errors, dict) else {}
