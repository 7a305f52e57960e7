"""What an outcome means for its row, and for the run."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

from attrs import define, field

from innocalls_async.campaign.ledger import Call, Record
from innocalls_async.campaign.states import State
from innocalls_async.errors import (
    AuthenticationError,
    DeadlineExceededError,
    NotSentError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    ServiceUnavailableError,
)
from innocalls_async.masking import mask_text
from innocalls_async.outcomes import InDoubt, Outcome, Refused, Scheduled

__all__ = ["ROUNDS", "Settling"]

# What came back pending is tried again in the same run, so many times in all.
ROUNDS: Final = 3
# After so many refusals in a row that are the service's trouble, and none that is a row's, it is
# the service that is down (or `concurrency`, if that is more: these can fail at one blow).
OUTAGE: Final = 25

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
    service had against a row; `reason` says why the run must stop, once it must."""

    concurrency: int
    stop_after: int | None
    complaint: str | None = None
    reason: str | None = None
    _refusals: int = 0
    _scheduled: int = 0
    _trouble: int = 0  # refusals in a row that are the service's
    _server_errors: Counter[int] = field(factory=Counter)  # by row

    def record(self, call: Call, outcome: Outcome) -> Record:
        """What is to be recorded of `outcome`."""
        moment = time.time()
        if isinstance(outcome, Scheduled):
            self._scheduled += 1
            self._trouble = 0
            return Record(
                call.row, State.SCHEDULED, outcome.attempts, outcome.call_id, None, moment
            )
        said = self.complaint = mask_text(str(outcome.error))[:500]
        state = State.IN_DOUBT if isinstance(outcome, InDoubt) else self._after(call, outcome)
        if state is not State.PENDING:
            self._trouble = 0
        if state is State.REFUSED:
            self._refusals += 1
            if self.stop_after is not None and self._refusals >= self.stop_after:
                self._stop(f"{self._refusals} rows were refused")
        return Record(call.row, state, getattr(outcome.error, "attempts", 0), None, said, moment)

    def _after(self, call: Call, outcome: Refused) -> State:
        error = outcome.error
        if isinstance(error, _FATAL):
            self._stop(f"the service does not take the token: {self.complaint}")
            return State.PENDING
        if not isinstance(error, _RETRYABLE):
            return State.REFUSED
        self._trouble += 1
        if self._trouble >= max(OUTAGE, self.concurrency):
            self._stop(f"the service is not well: {self.complaint}")
        if isinstance(error, _NEVER_THE_ROW):
            return State.PENDING
        # The service fails on this row again and again, while it takes others.
        self._server_errors[call.row] += 1
        is_the_row = self._server_errors[call.row] >= ROUNDS and self._scheduled > 0
        return State.REFUSED if is_the_row else State.PENDING

    def _stop(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason
