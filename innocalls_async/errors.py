"""Every way an operation can fail, as one tree.

    InnoCallsError
    ├── APIError                    the service answered, and it was no success
    │   ├── BadRequestError 400 · AuthenticationError 401 · PermissionDeniedError 403
    │   ├── NotFoundError 404 · MethodNotAllowedError 405 · NotAcceptableError 406
    │   ├── GoneError 410 · TeapotError 418
    │   ├── ValidationError 422     errors: field -> messages
    │   ├── RateLimitedError 429    retry_after
    │   ├── ServerError 5xx
    │   │   └── ServiceUnavailableError 503
    │   ├── RedirectError 3xx
    │   └── ResponseError           a reply that does not have the documented form
    ├── NotSentError                nothing left this machine: safe to send again
    ├── OutcomeUnknownError         a create that may or may not have happened
    └── DeadlineExceededError       never sent, or idempotent, when time ran out

A caller's own mistake is a `ValueError` or a `TypeError`, raised before anything is sent.

Errors hold plain data and can be pickled. What they hold was masked when they were made: no
token and no whole phone number is in a message, a repr, a body or a pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from innocalls_async.models import BridgeRequest

__all__ = [
    "APIError",
    "AuthenticationError",
    "BadRequestError",
    "DeadlineExceededError",
    "GoneError",
    "InnoCallsError",
    "MethodNotAllowedError",
    "NotAcceptableError",
    "NotFoundError",
    "NotSentError",
    "OutcomeUnknownError",
    "PermissionDeniedError",
    "RateLimitedError",
    "RedirectError",
    "ResponseError",
    "ServerError",
    "ServiceUnavailableError",
    "TeapotError",
    "ValidationError",
    "error_for_status",
]


class InnoCallsError(Exception):
    """Anything that ended an operation. `attempts` HTTP exchanges were begun for it, and it
    took `elapsed` seconds in all."""

    attempts: int = 0
    elapsed: float = 0.0


class APIError(InnoCallsError):
    """The service answered, and the answer was no success.

    `message` has what the service said, and ends in what to do about it where that is known.

    `status_code` is the HTTP status, or the body's own `status` where a 200 said
    `success: false`; None if the reply broke off before its status was known. `body` is the
    reply's text, at most 4 KiB of it; `headers` its headers, names in lower case.
    """

    advice: ClassVar[str] = ""

    def __init__(
        self,
        message: str = "",
        *,
        status_code: int | None = None,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.body = body
        self.headers = dict(headers or {})
        self.request_id = request_id


class BadRequestError(APIError):
    """400: the service did not understand the request."""


class AuthenticationError(APIError):
    """401: the token is missing, wrong or expired."""

    advice = "check the token (INNOCALLS_TOKEN)"


class PermissionDeniedError(APIError):
    """403: the token may not do this."""

    advice = "ask the account's owner what this token may do"


class NotFoundError(APIError):
    """404: the service knows no such call."""


class MethodNotAllowedError(APIError):
    """405: the address does not take this method; is `base_url` right?"""

    advice = "check the base URL (INNOCALLS_BASE_URL)"


class NotAcceptableError(APIError):
    """406: the service will not answer in JSON."""


class GoneError(APIError):
    """410: the call was removed."""


class TeapotError(APIError):
    """418: documented by the service."""


class ValidationError(APIError):
    """422: the service refuses values. `errors` maps a field to what is wrong with it."""

    def __init__(
        self,
        message: str = "",
        *,
        errors: Mapping[str, list[str]] | None = None,
        status_code: int | None = None,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(
            message, status_code=status_code, body=body, headers=headers, request_id=request_id
        )
        self.errors = dict(errors or {})


class RateLimitedError(APIError):
    """429: too many requests. `retry_after` is the seconds the service asked for, or None."""

    retry_after: float | None = None


class ServerError(APIError):
    """5xx: the service failed."""

    retry_after: float | None = None


class ServiceUnavailableError(ServerError):
    """503: the service is offline for a while. `retry_after` as for `RateLimitedError`."""


class RedirectError(APIError):
    """3xx: the service sent us elsewhere. It is not followed; is `base_url` right?"""

    advice = MethodNotAllowedError.advice


class ResponseError(APIError):
    """The reply does not have the documented form, or broke off before it was whole."""


class NotSentError(InnoCallsError):
    """Nothing of the request left this machine: it is safe to send it again."""


class OutcomeUnknownError(InnoCallsError):
    """A create that may or may not have happened. Nothing sends it again by itself.

    `request` is what was asked for and `cause` the error that left it open. To settle it, look
    the call up at the service, or ask the callees' side; only then send it again. In a pickle
    the numbers of `request` are masked.
    """

    def __init__(
        self,
        message: str = "",
        *,
        request: BridgeRequest | None = None,
        cause: InnoCallsError | None = None,
    ) -> None:
        super().__init__(message)
        self.request = request
        self.cause = cause

    def __reduce__(self) -> tuple[Any, ...]:
        state = dict(self.__dict__)
        if self.request is not None:
            state["request"] = self.request.masked()
        return type(self), self.args, state


class DeadlineExceededError(InnoCallsError):
    """Time ran out on something that was never sent, or that can be sent again safely."""


_BY_STATUS: Mapping[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: MethodNotAllowedError,
    406: NotAcceptableError,
    410: GoneError,
    418: TeapotError,
    422: ValidationError,
    429: RateLimitedError,
    503: ServiceUnavailableError,
}


def error_for_status(status: int) -> type[APIError]:
    """The class for an HTTP status that is no success, by the document's error table."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 300 <= status < 400:
        return RedirectError
    return ServerError if status >= 500 else APIError
