"""What is sent again, decided by what is known and not by the method.

Each attempt ends in one piece of evidence, and one table says what follows from it for each
operation. Nothing here sends or waits: tenacity does the counting and the pauses, with what
`RetryPolicy` gives it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import anyio
from attrs import define, frozen

from innocalls_async.errors import GoneError, InnoCallsError, NotFoundError, ResponseError
from innocalls_async.replies import Reply

if TYPE_CHECKING:
    from tenacity import RetryCallState
    from tenacity.asyncio import AsyncRetrying

__all__ = ["Ending", "Evidence", "RetryBudget", "RetryPolicy", "Verdict", "evidence_of", "verdict"]

Creates: TypeAlias = Literal["documented", "never_twice", "always"]


class Evidence(Enum):
    """What is known once an attempt is over."""

    SUCCESS = auto()
    NOT_SENT = auto()  # provably nothing of the request left this machine
    LIMITED = auto()  # 429
    FAILED = auto()  # 500: "Try again later"
    UNAVAILABLE = auto()  # 503: "Please try again later"
    GATEWAY = auto()  # 502, 504, 408, other 5xx: somebody on the way answered
    LOST = auto()  # maybe sent, and no whole reply
    UNREADABLE = auto()  # a 2xx without what the document promises
    GONE = auto()  # 404, 410
    REFUSED = auto()  # success: false, other 4xx, 3xx


class Verdict(Enum):
    """What follows from it."""

    DONE = auto()
    RETRY = auto()
    RETRY_ONCE = auto()
    ERROR = auto()
    IN_DOUBT = auto()
    DONE_IF_SENT_BEFORE = auto()  # an earlier attempt of ours did it; else an error


_OPERATIONS: Final = ("create", "edit", "delete", "status")
_TABLE: Final[Mapping[Evidence, tuple[Verdict, Verdict, Verdict, Verdict]]] = {
    # evidence            create            edit           delete                       status
    Evidence.SUCCESS: (Verdict.DONE, Verdict.DONE, Verdict.DONE, Verdict.DONE),
    Evidence.NOT_SENT: (Verdict.RETRY, Verdict.RETRY, Verdict.RETRY, Verdict.RETRY),
    Evidence.LIMITED: (Verdict.RETRY, Verdict.RETRY, Verdict.RETRY, Verdict.RETRY),
    Evidence.FAILED: (Verdict.RETRY, Verdict.RETRY, Verdict.RETRY, Verdict.RETRY),
    Evidence.UNAVAILABLE: (Verdict.RETRY, Verdict.RETRY, Verdict.RETRY, Verdict.RETRY),
    Evidence.GATEWAY: (Verdict.IN_DOUBT, Verdict.RETRY, Verdict.RETRY, Verdict.RETRY),
    Evidence.LOST: (Verdict.IN_DOUBT, Verdict.RETRY, Verdict.RETRY, Verdict.RETRY),
    Evidence.UNREADABLE: (Verdict.IN_DOUBT, Verdict.ERROR, Verdict.DONE, Verdict.RETRY_ONCE),
    Evidence.GONE: (Verdict.ERROR, Verdict.ERROR, Verdict.DONE_IF_SENT_BEFORE, Verdict.ERROR),
    Evidence.REFUSED: (Verdict.ERROR, Verdict.ERROR, Verdict.ERROR, Verdict.ERROR),
}


@define
class Ending:
    """How one attempt ended: its evidence, with the result or the error that goes with it.

    `is_by_the_document` is whether a 503 has both a Retry-After and the API's own JSON body;
    `quota_pause` the seconds to hold back because the reply says that the quota is used up.
    """

    evidence: Evidence
    result: Any = None
    error: InnoCallsError | None = None
    status: int | None = None
    retry_after: float | None = None
    is_by_the_document: bool = False
    quota_pause: float | None = None

    @property
    def is_doubtful(self) -> bool:
        """Whether nobody can tell if the service carried the request out; of a 500 or 503 the
        document says to try again."""
        return self.evidence in _DOUBTFUL


# A tuple: to look for a member in a set costs a call of Enum's own hash each time.
_DOUBTFUL: Final = (Evidence.GATEWAY, Evidence.LOST, Evidence.UNREADABLE)


def evidence_of(reply: Reply, error: InnoCallsError | None) -> Evidence:
    """The evidence of a whole reply; `error` is what reading it gave."""
    status = reply.status
    if error is None:
        return Evidence.SUCCESS
    if 200 <= status < 300:
        return _evidence_inside(error)
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    # Below 200 no reply is final: whoever sent it broke off what was under way.
    return Evidence.GATEWAY if status >= 500 or status < 200 else Evidence.REFUSED


def _evidence_inside(error: InnoCallsError) -> Evidence:
    """Of a 2xx that is no success: what its body says."""
    if isinstance(error, ResponseError):
        return Evidence.UNREADABLE
    return Evidence.GONE if isinstance(error, NotFoundError | GoneError) else Evidence.REFUSED


_BY_STATUS: Final = {
    404: Evidence.GONE,
    408: Evidence.GATEWAY,
    410: Evidence.GONE,
    429: Evidence.LIMITED,
    500: Evidence.FAILED,
    503: Evidence.UNAVAILABLE,
}


def verdict(operation: str, ending: Ending, creates: Creates) -> Verdict:
    """The table's word, with `creates` applied to its first column."""
    row = _TABLE[ending.evidence]
    column = "status" if operation == "authorize" else operation
    if operation != "create" or creates == "documented":
        return row[_OPERATIONS.index(column)]
    if creates == "always":
        return row[_OPERATIONS.index("status")]
    doubtful = ending.evidence is Evidence.FAILED or (
        ending.evidence is Evidence.UNAVAILABLE and not ending.is_by_the_document
    )
    return Verdict.IN_DOUBT if doubtful else row[0]


@frozen
class RetryPolicy:
    """How often and how patiently one operation is tried.

    At most `attempts` exchanges. Between them a random pause from 0 to `initial` x 1, 2, 4, 8 …
    seconds, at most `maximum` (full jitter). A Retry-After is kept to; one above
    `max_retry_after` seconds ends the operation at once. `creates` says when a create is sent
    again: `"documented"` after a 500 and a 503, which the document says to try again;
    `"never_twice"` only where it is certain that no call came of it; `"always"` also after a lost
    answer, which can dial a person twice.
    """

    attempts: int = 5
    initial: float = 0.5
    maximum: float = 20.0
    max_retry_after: float = 120.0
    creates: Creates = "documented"

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.attempts, int) or isinstance(self.attempts, bool):
            raise TypeError(f"attempts: an int is needed, not {type(self.attempts).__name__}")
        if self.attempts < 1:
            raise ValueError(f"attempts: at least 1 is needed, not {self.attempts}")
        for name in ("initial", "maximum", "max_retry_after"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name}: seconds are needed, not {type(value).__name__}")
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: 0 or more finite seconds are needed, not {value}")
        if self.creates not in {"documented", "never_twice", "always"}:
            raise ValueError(
                f"creates: 'documented', 'never_twice' or 'always' is needed, not {self.creates!r}"
            )

    def retrying(
        self,
        *,
        is_retried: Callable[[Ending], bool],
        gives_up: Callable[[Ending, float], bool],
        announce: Callable[[Ending, float], None],
    ) -> AsyncRetrying:
        """A tenacity object for one operation, whose function returns an `Ending`.

        tenacity keeps its state in it, so it is never shared. `gives_up` is asked before, and
        `announce` told of, each pause of so many seconds.
        """
        # Half as long to import as httpx, and needed only once something went wrong.
        from tenacity import (  # noqa: PLC0415
            retry_if_result,
            stop_after_attempt,
            wait_random_exponential,
        )
        from tenacity.asyncio import AsyncRetrying  # noqa: PLC0415

        jitter = wait_random_exponential(multiplier=self.initial, max=self.maximum)
        enough = stop_after_attempt(self.attempts)
        return AsyncRetrying(
            retry=retry_if_result(is_retried),
            stop=lambda state: enough(state) or gives_up(_ending(state), state.upcoming_sleep),
            wait=lambda state: _pause(state, jitter),
            before_sleep=lambda state: announce(_ending(state), state.upcoming_sleep),
            sleep=anyio.sleep,
            retry_error_callback=_ending,
        )


def _ending(state: RetryCallState) -> Ending:
    """What the last attempt of a tenacity run returned."""
    assert state.outcome is not None  # noqa: S101 - tenacity sets it before it asks anything
    ending: Ending = state.outcome.result()
    return ending


def _pause(state: RetryCallState, jitter: Callable[[RetryCallState], float]) -> float:
    ending = _ending(state)
    if ending.evidence is Evidence.LIMITED:
        return 0.0  # everyone on the client waits for it together, see admission
    return max(ending.retry_after or 0.0, jitter(state))


class RetryBudget:
    """What all operations of a client may spend on retries, so that thousands of tasks never
    multiply an outage: 5 tokens of 500 a retry, 1 back a success.

    Source: the "standard" retry mode of the AWS SDKs.
    """

    CAPACITY: Final = 500
    PRICE: Final = 5

    def __init__(self) -> None:
        self._tokens = self.CAPACITY

    def spend(self) -> bool:
        """Pay for one retry; False if too little is left."""
        if self._tokens < self.PRICE:
            return False
        self._tokens -= self.PRICE
        return True

    def earn(self) -> None:
        """A success."""
        self._tokens = min(self.CAPACITY, self._tokens + 1)
