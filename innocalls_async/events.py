"""What happens inside the client, as small frozen objects: the base of logs, progress and traces.

No event holds a token, a whole number or a name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from attrs import field, frozen

__all__ = [
    "AttemptEnded",
    "AttemptStarted",
    "Emitter",
    "Event",
    "LimiterWaited",
    "OperationEnded",
    "OperationStarted",
    "Paused",
    "RetryPlanned",
]

LOGGER: Final = logging.getLogger("innocalls_async")
LOGGER.addHandler(logging.NullHandler())  # silent until the application configures logging

OutcomeWord: TypeAlias = Literal["done", "refused", "in_doubt", "cancelled"]


@frozen
class Event:
    """Of one operation (`create`, `status`, `edit`, `delete`, `authorize`). `number` tells the
    operations of a process apart; `attempt` counts from 1, and is 0 before the first; `seconds`
    is how long the thing took, or will take."""

    operation: str
    number: int
    attempt: int
    seconds: float


@frozen
class OperationStarted(Event):
    """An operation was begun. `address` is the client's base URL, `method` the HTTP method."""

    method: str
    address: str


@frozen
class LimiterWaited(Event):
    """An attempt waited `seconds` for a connection, a pause or the limiter."""


@frozen
class AttemptStarted(Event):
    """An HTTP exchange begins. What a listener puts into `headers` is sent with it."""

    headers: dict[str, str] = field(factory=dict, eq=False, repr=False)


@frozen
class AttemptEnded(Event):
    """An HTTP exchange ended: with an HTTP `status`, or with none and an `error`, the class of
    what broke it off (a cancellation is one, too)."""

    status: int | None
    error: str | None


@frozen
class Paused(Event):
    """The service asked to slow down: everyone on the client waits `seconds`."""


@frozen
class RetryPlanned(Event):
    """Another attempt follows in `seconds`, because of `reason`."""

    reason: str


@frozen
class OperationEnded(Event):
    """The operation is over, after `seconds` in all. `outcome` is `done`, `refused` (with
    `error`, the error's class), `in_doubt`, or `cancelled` (nothing of it is left open)."""

    outcome: OutcomeWord
    error: str | None


_LEVELS: Final = {Paused: logging.WARNING, RetryPlanned: logging.INFO}


class Emitter:
    """Hands events to the caller's callback and to the log. `is_on` says whether anybody
    listens, so that nothing need be built for nobody."""

    def __init__(self, on_event: Callable[[Event], object] | None) -> None:
        self._on_event = on_event
        self._has_failed = False

    @property
    def is_on(self) -> bool:
        return self._on_event is not None or LOGGER.isEnabledFor(logging.DEBUG)

    def emit(self, event: Event) -> None:
        """Log `event` and call the callback; what that raises is logged once and goes no
        further."""
        level = _level(event)
        if LOGGER.isEnabledFor(level):
            LOGGER.log(level, "%s", _sentence(event))
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:
            if not self._has_failed:
                self._has_failed = True
                LOGGER.exception("on_event failed; further failures of it are not logged")


def _level(event: Event) -> int:
    if isinstance(event, OperationEnded) and event.outcome == "in_doubt":
        return logging.WARNING
    return _LEVELS.get(type(event), logging.DEBUG)


def _sentence(event: Event) -> str:
    details = {
        name: value
        for name in ("status", "outcome", "error", "reason")
        if (value := getattr(event, name, None)) is not None
    }
    shown = "".join(f" {name}={value}" for name, value in details.items())
    return (
        f"{event.operation} #{event.number} {type(event).__name__} "
        f"attempt={event.attempt} seconds={event.seconds:.3f}{shown}"
    )
