"""What an outcome means for its row, and for the run."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

from attrs import define, field

from innocalls_async.campaign.ledger import Call, Record
from innocalls_async.campaign.states import State
from innocalls_async.errors import (
    APIError,
    AuthenticationError,
    DeadlineExceededError,
    NotSentError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    ServiceUnavailableError,
    ValidationError,
)
from innocalls_async.masking import mask_text
from innocalls_async.outcomes import InDoubt, Outcome, Refused, Scheduled

__all__ = ["ROUNDS", "Settling"]

# What came back pending is tried again in the same run, so many times in all.
ROUNDS: Final = 3
# After so many outcomes in a row that are the service's trouble (lost answers are), and none that
# is a row's, it is the service that is down (or `concurrency`, if that is more: these can fail at
# one blow).
OUTAGE: Final = 25
# Of rows that are refused one after the other, all in the same way, so many tell of the service or
# of a setting (a wrong address, no credit left) and not of the rows.
ALIKE: Final = 25
# A time that was to come when the row was sent may be over, by the service's clock, when it looks.
_CLOCK_SECONDS: Final = 60.0

_FATAL: Final = (AuthenticationError, PermissionDeniedError)
_RETRYABLE: Final = (NotSentError, RateLimitedError, ServerError, DeadlineExceededError)
# Of these, what never comes of the row itself.
_NEVER_THE_ROW: Final = (
    NotSentError,
    RateLimitedError,
    ServiceUnavailableError,
    DeadlineExceededError,
)


@define
class Settling:
    """Judges the outcomes of one run as they come. `complaint` is the latest thing that the
    service had against a row; `reason` says why the run must stop, once it must; `alike` are the
    rows that were refused in the same way since the last one that was taken. If these are why, it
    `takes_back` their refusals: they say nothing of the rows."""

    concurrency: int
    stop_after: int | None
    complaint: str | None = None
    reason: str | None = None
    alike: list[int] = field(factory=list)
    takes_back: bool = False
    has_late: bool = False  # a row that only came too late for its time is to be sent again
    _kind: tuple[object, ...] = ()  # of those
    _alike_with: str | None = None  # what was said of the last of them
    _refusals: int = 0
    _scheduled: int = 0
    _trouble: int = 0  # outcomes in a row that are the service's fault
    _failures: Counter[int] = field(factory=Counter)  # by row

    def record(self, call: Call, outcome: Outcome) -> Record:
        """What is to be recorded of `outcome`."""
        moment = time.time()
        if isinstance(outcome, Scheduled):
            self._scheduled += 1
            self._trouble = 0
            self._end_of_alike()
            return Record(
                call.row, State.SCHEDULED, outcome.attempts, outcome.call_id, None, moment
            )
        error = outcome.error
        if isinstance(error, OutcomeUnknownError):
            error = error.cause or error  # that it is in doubt is the row's state already
        said = self.complaint = mask_text(str(error))[:500]
        state = State.IN_DOUBT if isinstance(outcome, InDoubt) else self._after(call, outcome)
        if state is State.IN_DOUBT:
            self._note_trouble()
        if state is State.REFUSED:
            self._trouble = 0
            self._refusals += 1
            self._count_alike(call, outcome.error)
            if self.stop_after is not None and self._refusals >= self.stop_after:
                self._stop(f"{self._refusals} rows were refused")
        return Record(call.row, state, getattr(outcome.error, "attempts", 0), None, said, moment)

    def _after(self, call: Call, outcome: Refused) -> State:
        error = outcome.error
        if isinstance(error, _FATAL):
            self._stop(f"the service does not take the token: {self.complaint}")
            return State.PENDING
        if _came_too_late(call, error):
            self.has_late = True
            return self._again_or_refused(call)
        if not isinstance(error, _RETRYABLE):
            return State.REFUSED
        self._note_trouble()
        if isinstance(error, _NEVER_THE_ROW):
            return State.PENDING
        # The service may fail on this row again and again, while it takes others.
        again = self._again_or_refused(call)
        return again if self._scheduled > 0 else State.PENDING

    def _note_trouble(self) -> None:
        self._trouble += 1
        if self._trouble >= max(OUTAGE, self.concurrency):
            self._stop(f"the service is not well: {self.complaint}")

    def _again_or_refused(self, call: Call) -> State:
        self._failures[call.row] += 1
        return State.REFUSED if self._failures[call.row] >= ROUNDS else State.PENDING

    def _count_alike(self, call: Call, error: Exception) -> None:
        """Refusals that `stop_after` does not count for somebody who knows the list."""
        if self.stop_after is not None or not isinstance(error, APIError):
            return
        kind = (type(error), error.status_code)
        if kind != self._kind:
            if self.takes_back:
                return
            self._end_of_alike()
            self._kind = kind
        self.alike.append(call.row)
        self._alike_with = self.complaint
        if len(self.alike) >= max(ALIKE, self.concurrency) and not self.takes_back:
            self._take_back()

    def end(self) -> None:
        """No other row comes. Where none at all was taken, fewer that were refused alike will do
        than while others are under way."""
        if not self._scheduled and len(self.alike) >= ALIKE and not self.takes_back:
            self._take_back()

    def _take_back(self) -> None:
        self.takes_back = True
        reason = (
            f"{len(self.alike)} rows were refused in a row and none taken, the last with: "
            f"{self._alike_with}; that is the service or a setting (the address, the credit?), "
            "so they are pending again; if it is the rows, give --stop-after"
        )
        self.reason = reason if self.reason is None else f"{self.reason}; {reason}"

    def _end_of_alike(self) -> None:
        if not self.takes_back:
            self.alike.clear()

    def _stop(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason


def _came_too_late(call: Call, error: Exception) -> bool:
    """Whether the service refuses a time that went by while the row waited for its turn."""
    if not isinstance(error, ValidationError) or call.call_time is None or call.at_once:
        return False
    is_of_time = not error.errors or any("time" in name.lower() for name in error.errors)
    return is_of_time and call.call_time <= time.time() + _CLOCK_SECONDS
