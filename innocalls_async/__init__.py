"""Async Python SDK for the InnoCalls call bridging API.

Nobody is dialled twice by a retry, no limit is exceeded, and every failure is a typed error that
says what is known.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from innocalls_async.client import AsyncBridgeClient
    from innocalls_async.errors import (
        APIError,
        AuthenticationError,
        BadRequestError,
        DeadlineExceededError,
        GoneError,
        InnoCallsError,
        MethodNotAllowedError,
        NotAcceptableError,
        NotFoundError,
        NotSentError,
        OutcomeUnknownError,
        PermissionDeniedError,
        RateLimitedError,
        RedirectError,
        ResponseError,
        ServerError,
        ServiceUnavailableError,
        TeapotError,
        ValidationError,
    )
    from innocalls_async.limiter import RateLimiter, TokenBucket
    from innocalls_async.models import (
        BridgeRequest,
        CallState,
        CallStatus,
        LegState,
        ScheduledCall,
    )
    from innocalls_async.outcomes import (
        Done,
        InDoubt,
        Outcome,
        Refused,
        Scheduled,
    )
    from innocalls_async.retry import RetryPolicy

__version__ = "0.1.0"

__all__ = [
    "APIError",
    "AsyncBridgeClient",
    "AuthenticationError",
    "BadRequestError",
    "BridgeRequest",
    "CallState",
    "CallStatus",
    "DeadlineExceededError",
    "Done",
    "GoneError",
    "InDoubt",
    "InnoCallsError",
    "LegState",
    "MethodNotAllowedError",
    "NotAcceptableError",
    "NotFoundError",
    "NotSentError",
    "Outcome",
    "OutcomeUnknownError",
    "PermissionDeniedError",
    "RateLimitedError",
    "RateLimiter",
    "RedirectError",
    "Refused",
    "ResponseError",
    "RetryPolicy",
    "Scheduled",
    "ScheduledCall",
    "ServerError",
    "ServiceUnavailableError",
    "TeapotError",
    "TokenBucket",
    "ValidationError",
]

# Each module is imported when its first name is asked for (PEP 562): the test kit's plugin is
# loaded by every pytest run, and the command line by every tab in a shell, for next to nothing.
_NAMES = {
    "client": ("AsyncBridgeClient",),
    "errors": (
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
    ),
    "limiter": (
        "RateLimiter",
        "TokenBucket",
    ),
    "models": (
        "BridgeRequest",
        "CallState",
        "CallStatus",
        "LegState",
        "ScheduledCall",
    ),
    "outcomes": (
        "Done",
        "InDoubt",
        "Outcome",
        "Refused",
        "Scheduled",
    ),
    "retry": ("RetryPolicy",),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
