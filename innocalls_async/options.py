"""What a client is made with, checked before anything is done with it."""

from __future__ import annotations

import math
import os
from typing import Final

from innocalls_async.limiter import RateLimiter
from innocalls_async.retry import RetryPolicy

__all__ = [
    "DEFAULT",
    "Default",
    "check_count",
    "check_options",
    "check_parts",
    "check_seconds",
    "read_token",
]


class Default:
    """What `limiter` is unless it is given; None is a choice of its own."""


DEFAULT: Final = Default()


def read_token(token: str | None) -> str:
    """`token`, or the environment's."""
    token = os.environ.get("INNOCALLS_TOKEN") if token is None else token
    if not token:
        raise ValueError("token: there is none; pass token=... or set INNOCALLS_TOKEN")
    return token


def check_options(
    timeout: float,
    deadline: float | None,
    max_connections: int,
    transport: object,
    http_client: object,
) -> None:
    """ValueError or TypeError, naming the option, for what could not work."""
    check_seconds("timeout", timeout)
    if deadline is not None:
        check_seconds("deadline", deadline)
    check_count("max_connections", max_connections)
    if transport is not None and http_client is not None:
        raise ValueError("transport, http_client: give one of them, not both")


def check_parts(limiter: object, retry: object, on_event: object) -> None:
    """TypeError for a part that could not do its work: else it would come out in the first call."""
    is_limiter = isinstance(limiter, Default | RateLimiter) and not isinstance(limiter, type)
    if limiter is not None and not is_limiter:
        raise TypeError(f"limiter: a RateLimiter or None is needed, not {limiter!r}")
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry: a RetryPolicy or None is needed, not {type(retry).__name__}")
    if on_event is not None and not callable(on_event):
        raise TypeError(f"on_event: a function or None, not {type(on_event).__name__}")


def check_seconds(name: str, seconds: float) -> None:
    """They are a finite number above 0."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{name}: seconds are needed, not {type(seconds).__name__}")
    if not 0 < seconds < math.inf:
        raise ValueError(f"{name}: finite seconds above 0 are needed, not {seconds}")


def check_count(name: str, value: int) -> None:
    """It is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: an int is needed, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: at least 1 is needed, not {value}")
