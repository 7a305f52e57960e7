"""Async Python SDK for the InnoCalls call bridging API.

Nobody is dialled twice by a retry, no limit is exceeded, and every failure is a typed error that
says what is known.
"""

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
from innocalls_async.models import BridgeRequest, CallState, CallStatus, LegState, ScheduledCall
from innocalls_async.outcomes import Done, InDoubt, Outcome, Refused, Scheduled
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
