"""One operation, from its message to its result: the one path that all five take.

    admitted (place, pause, limiter) -> exchanged, within `timeout` -> read -> verdict
        ^                                                                |
        └───────────────── retried, as tenacity paces it ────────────────┘

all of it within `deadline`. What an operation ended in is known on every way out, also when it is
cancelled: a create whose bytes may have left is in doubt, and is never said to be anything else.
"""

from __future__ import annotations

import itertools
from typing import Any

import anyio
from attrs import define

from innocalls_async import events
from innocalls_async.admission import Admission, Rank
from innocalls_async.clock import current_time
from innocalls_async.errors import (
    APIError,
    DeadlineExceededError,
    InnoCallsError,
    NotSentError,
    OutcomeUnknownError,
    ResponseError,
)
from innocalls_async.events import Emitter
from innocalls_async.quota import quota_pause
from innocalls_async.replies import Reader, Reply, is_json
from innocalls_async.retry import (
    Ending,
    Evidence,
    RetryBudget,
    RetryPolicy,
    Verdict,
    evidence_of,
    verdict,
)
from innocalls_async.transport import Attempt, ExchangeError, Exchanger, ExchangeTimeoutError
from innocalls_async.wire import CREATE, Message

__all__ = ["Pipeline", "Run"]


@define(eq=False)
class Run:
    """One operation under way. With `is_last` set, the attempt under way is not followed by
    another."""

    message: Message
    number: int
    rank: Rank
    started: float
    is_watched: bool  # whether anybody listens to its events
    deadline: float | None = None
    attempts: int = 0
    attempt: Attempt | None = None  # while one is under way
    last: Ending | None = None
    lost: bool = False  # an earlier attempt was maybe sent, and had no answer
    left: Ending | None = None  # how the last one ended of which bytes left
    is_doubtful: bool = False  # of an earlier one no later answer can tell what came of it
    unreadable: int = 0  # attempts so far that were answered so
    is_late: bool = False
    is_last: bool = False

    @property
    def is_on_the_wire(self) -> bool:
        """Whether an attempt is under way of which bytes may have left."""
        return self.attempt is not None and self.attempt.sent

    @property
    def is_create(self) -> bool:
        return self.message.operation is CREATE

    @property
    def is_in_doubt(self) -> bool:
        """Whether, if it stopped now, a call may or may not be on the books."""
        under_way = self.attempt is not None and self.attempt.sent
        return self.is_create and (under_way or self.is_doubtful)

    def note(self, ending: Ending) -> None:
        self.attempt = None
        self.last = ending
        self.lost = self.lost or ending.evidence is Evidence.LOST
        if ending.evidence is not Evidence.NOT_SENT:
            self.left = ending
        self.is_doubtful = self.is_doubtful or ending.is_doubtful
        self.unreadable += ending.evidence is Evidence.UNREADABLE


# Of the whole process, so that listeners can tell the operations of several clients apart.
_numbers = itertools.count(1)


class Pipeline:
    """Carries out operations for one client."""

    def __init__(
        self,
        *,
        origin: str,
        base_url: str,
        exchanger: Exchanger,
        reader: Reader,
        admission: Admission,
        retry: RetryPolicy,
        timeout: float,
        deadline: float | None,
        emitter: Emitter,
    ) -> None:
        self._origin = origin
        self._base_url = base_url
        self._exchanger = exchanger
        self._reader = reader
        self._admission = admission
        self._policy = retry
        self._timeout = timeout
        self._deadline = deadline
        self._emitter = emitter
        self._budget = RetryBudget()
        self._clock = current_time

    def begin(self, message: Message) -> Run:
        """The operation's run, to be carried out once. Its number is its place in line."""
        number = next(_numbers)
        rank = (int(message.operation.is_poll), number)
        return Run(message, number, rank, self._clock(), self._emitter.is_on)

    def close(self) -> None:
        """No attempt begins any more: whoever wants to make one gets a RuntimeError."""
        self._admission.close()

    async def carry_out(self, run: Run) -> Any:
        """The operation's result, or an `InnoCallsError`."""
        if run.is_watched:
            method = run.message.operation.method
            self._emit(events.OperationStarted, run, 0.0, method, self._base_url)
        try:
            if self._deadline is None:
                result = await self._operate(run)
            else:
                result = await self._operate_within(self._deadline, run)
        except InnoCallsError as error:
            self._failed(run, error)
            raise
        except BaseException as error:
            self._abandoned(run, error)
            raise
        if run.is_watched:
            self._emit(events.OperationEnded, run, self._elapsed(run), "done", None)
        return result

    async def _operate_within(self, seconds: float, run: Run) -> Any:
        with anyio.move_on_after(seconds):
            run.deadline = self._clock() + seconds
            return await self._operate(run)
        raise self._out_of_time(run)

    async def _operate(self, run: Run) -> Any:
        ending = await self._attempt(run)
        if ending.error is not None and self._is_retried(run, ending):
            ending = await self._retry(run, ending)
        if ending.error is None:
            self._budget.earn()
        else:
            self._conclude(run, ending, ending.error)
        return ending.result

    async def _retry(self, run: Run, first: Ending) -> Ending:
        """How the last attempt ended. tenacity costs more than all the rest, so it comes in once
        something went wrong, and is shown the first attempt as if it had made it."""
        made: Ending | None = first

        async def attempt() -> Ending:
            nonlocal made
            ending, made = made, None
            return ending or await self._attempt(run)

        return await self._policy.retrying(
            is_retried=lambda ending: self._is_retried(run, ending),
            gives_up=lambda ending, pause: self._gives_up(run, ending, pause),
            announce=lambda ending, pause: self._announce(run, ending, pause),
        )(attempt)

    async def _attempt(self, run: Run) -> Ending:
        if self._is_past_deadline(run, self._admission.pause_left):
            raise self._out_of_time(run)
        asked = self._clock()
        grant = await self._admission.enter(run.rank)
        began = self._clock()
        run.attempts += 1
        attempt = Attempt(self._timeout, grant.sending)
        answered = succeeded = False
        try:
            message = self._begun(run, began - asked) if run.is_watched else run.message
            run.attempt = attempt
            ending = await self._exchange(message, attempt)
            answered, succeeded = ending.status is not None, ending.error is None
            self._heed(run, ending, began)
        except BaseException as error:
            self._ended(run, began, None, error)
            raise
        finally:
            kind = run.message.operation.name
            self._admission.leave(run.rank, grant, kind, answered=answered, succeeded=succeeded)
        run.note(ending)
        self._ended(run, began, ending.status, ending.error)
        return ending

    def _begun(self, run: Run, waited: float) -> Message:
        """Tell the listeners; the message, with the headers that they want to have in it."""
        self._emit(events.LimiterWaited, run, waited)
        headers: dict[str, str] = {}
        self._emit(events.AttemptStarted, run, 0.0, headers)
        return run.message.with_headers(headers) if headers else run.message

    def _ended(self, run: Run, began: float, status: int | None, error: object) -> None:
        if run.is_watched:
            said = None if error is None else type(error).__name__
            self._emit(events.AttemptEnded, run, self._clock() - began, status, said)

    async def _exchange(self, message: Message, attempt: Attempt) -> Ending:
        try:
            reply = await self._exchanger.exchange(self._origin, message, attempt)
        except ExchangeTimeoutError as error:
            return _timed_out(message, attempt, error, self._origin)
        except ExchangeError as error:
            return _broken_off(message, attempt, error, self._origin)
        return self._read(message, reply)

    def _read(self, message: Message, reply: Reply) -> Ending:
        try:
            result = self._reader.read(message, reply)
        except APIError as error:
            # Its frames would keep the reply, and show it to whoever prints their variables.
            error.__traceback__ = None
            evidence = evidence_of(reply, error)
            wait = getattr(error, "retry_after", None)
            by_the_document = wait is not None and is_json(reply)
            ending = Ending(evidence, None, error, reply.status, wait, by_the_document)
        else:
            ending = Ending(Evidence.SUCCESS, result, None, reply.status)
        ending.quota_pause = quota_pause(reply.headers, self._policy.initial)
        return ending

    def _heed(self, run: Run, ending: Ending, began: float) -> None:
        """Slow everyone down where the service asks for it."""
        if ending.evidence is Evidence.LIMITED:
            pause = self._admission.limited(run.rank, began, ending.retry_after)
            self._emit(events.Paused, run, pause)
        elif ending.quota_pause is not None:
            pause = min(ending.quota_pause, self._policy.max_retry_after)
            self._admission.hold(pause)
            if pause > 0:
                self._emit(events.Paused, run, pause)

    def _is_retried(self, run: Run, ending: Ending) -> bool:
        if ending.error is None or run.is_last:
            return False
        if (ending.retry_after or 0.0) > self._policy.max_retry_after:
            return False
        word = verdict(run.message.operation.name, ending, self._policy.creates)
        return word is Verdict.RETRY or (word is Verdict.RETRY_ONCE and run.unreadable == 1)

    def _gives_up(self, run: Run, ending: Ending, pause: float) -> bool:
        if ending.evidence is Evidence.LIMITED:
            # The shared pause governs it, and it costs nothing of the budget.
            return self._is_past_deadline(run, self._admission.pause_left)
        return self._is_past_deadline(run, pause) or not self._budget.spend()

    def _is_past_deadline(self, run: Run, pause: float) -> bool:
        if run.deadline is not None and self._clock() + pause >= run.deadline:
            run.is_late = True
        return run.is_late

    def _announce(self, run: Run, ending: Ending, pause: float) -> None:
        # After a 429, tenacity's pause is none: all wait for the shared one.
        seconds = max(pause, self._admission.pause_left)
        self._emit(events.RetryPlanned, run, seconds, ending.evidence.name.lower())

    def _conclude(self, run: Run, ending: Ending, error: InnoCallsError) -> None:
        """Of an operation whose last attempt was no success: return if it is done all the same."""
        word = verdict(run.message.operation.name, ending, self._policy.creates)
        if word is Verdict.DONE or (word is Verdict.DONE_IF_SENT_BEFORE and run.lost):
            return
        if run.is_create and (word is Verdict.IN_DOUBT or run.is_doubtful):
            raise _in_doubt(run, error) from error
        if run.is_late:
            raise self._out_of_time(run) from error
        # That nothing was sent is true only if nothing of any attempt was.
        raise self._explained(run.left or ending)

    def _explained(self, ending: Ending) -> InnoCallsError:
        error, wait = ending.error, ending.retry_after
        assert error is not None  # noqa: S101 - see _conclude
        if wait is not None and wait > self._policy.max_retry_after:
            assert isinstance(error, APIError)  # noqa: S101 - it is the service that asks
            error.message = f"{error}; it asks to wait {wait:g} s, more than max_retry_after allows"
            error.args = (error.message,)
        return error

    def _out_of_time(self, run: Run) -> InnoCallsError:
        text = f"{run.message.operation.name}: the deadline of {self._deadline:g} s is over"
        if run.last is not None and run.last.error is not None:
            text += f"; the last attempt ended so: {run.last.error}"
        error = DeadlineExceededError(text)
        return _in_doubt(run, error) if run.is_in_doubt else error

    def _failed(self, run: Run, error: InnoCallsError) -> None:
        error.attempts, error.elapsed = run.attempts, self._elapsed(run)
        in_doubt = isinstance(error, OutcomeUnknownError)
        if in_doubt or run.is_watched:
            outcome = "in_doubt" if in_doubt else "refused"
            self._emit(events.OperationEnded, run, error.elapsed, outcome, type(error).__name__)

    def _abandoned(self, run: Run, error: BaseException) -> None:
        """Cancelled, or broken by a bug: say so even if nobody waits for the answer any more."""
        if run.is_in_doubt or run.is_watched:
            outcome = "in_doubt" if run.is_in_doubt else "cancelled"
            self._emit(
                events.OperationEnded, run, self._elapsed(run), outcome, type(error).__name__
            )

    def _elapsed(self, run: Run) -> float:
        return self._clock() - run.started

    def _emit(self, kind: Any, run: Run, seconds: float, *details: object) -> None:
        operation = run.message.operation.name
        self._emitter.emit(kind(operation, run.number, run.attempts, seconds, *details))


def _broken_off(message: Message, attempt: Attempt, error: ExchangeError, origin: str) -> Ending:
    name = message.operation.name
    if attempt.sent:
        lost = ResponseError(f"{name}: the answer was lost: {error}")
        return Ending(Evidence.LOST, None, lost)
    unsent = NotSentError(f"{name}: nothing was sent to {origin}: {error}")
    return Ending(Evidence.NOT_SENT, None, unsent)


def _timed_out(
    message: Message, attempt: Attempt, error: ExchangeTimeoutError, origin: str
) -> Ending:
    name = message.operation.name
    # A caller's transport may have had a time limit of its own.
    limit = str(error) or f"within {attempt.timeout:g} s"
    if attempt.sent:
        late = DeadlineExceededError(f"{name}: no whole answer in time ({limit})")
        return Ending(Evidence.LOST, None, late)
    unsent = NotSentError(f"{name}: nothing was sent to {origin}: no connection in time ({limit})")
    return Ending(Evidence.NOT_SENT, None, unsent)


def _in_doubt(run: Run, cause: InnoCallsError) -> OutcomeUnknownError:
    text = (
        f"{run.message.operation.name}: the call may or may not be on the service's books "
        f"({cause}); look before it is sent again"
    )
    return OutcomeUnknownError(text, request=run.message.request, cause=cause)
