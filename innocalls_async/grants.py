"""What a limiter is asked for and told: a grant for each attempt, and since when it counts.

A service counts a request when it comes, which can be later than its grant: a connection had to
be made, or the request queued in front of the service. The limiter is told of both, so that its
windows are the service's.
"""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from attrs import define

from innocalls_async.events import LOGGER
from innocalls_async.limiter import RateLimiter, TokenBucket

__all__ = ["Grant", "Grants"]

# Seconds between a grant and its use that are not worth telling the limiter of.
UNNOTICED: Final = 0.001
# The most seconds that a request is believed to have queued in front of the service, and those
# that even the fastest answer may have been slower than it could be.
LONGEST_QUEUE: Final = 0.2
SLACK: Final = 0.005
# Seconds after the first success in which the fastest one is not known yet.
LEARNING: Final = 1.0

_ACQUIRE: Final = TokenBucket.acquire


@define(eq=False)
class Grant:
    """Leave to make one attempt."""

    _giver: Grants
    at: float  # when it was given, or used if that was noticeably later
    _name: Any  # what the limiter knows it by

    def sending(self) -> None:
        """The attempt leaves only now, for example because a connection had to be made: its grant
        counts from now."""
        now = self._giver.clock()
        age = now - self.at
        if age >= UNNOTICED and self._giver.postpone is not None:
            self.at = now
            name = self._giver.postpone(self._name, 0.0)
            self._name = self._name if name is None else name

    def over(self, kind: str, *, succeeded: bool) -> None:
        """The attempt is over. A success shows how fast the service can do what is of that
        `kind`.

        The service counted it at the latest when it would have had to, to answer as fast as it
        ever did; so much of its delay is held against the limit, up to a part of a second, lest a
        slow service slow us down for nothing. In the first second, when all may queue behind a
        burst, nobody knows how fast it can be.
        """
        if self._giver.postpone is None:
            return
        now = self._giver.clock()
        took, pace = now - self.at, self._giver.paces[kind]
        if succeeded:
            pace.fastest = min(pace.fastest, took)
            pace.known_at = min(pace.known_at, now + LEARNING)
        least = max(0.0, pace.fastest - SLACK) if now >= pace.known_at else 0.0
        queued = min(took - least, LONGEST_QUEUE)
        # What breaks off sooner than any success came has queued for nothing.
        self._giver.postpone(self._name, took - max(0.0, queued))


@define(eq=False)
class _Pace:
    """How fast one kind of operation is carried out."""

    fastest: float = math.inf  # seconds from the first byte out to the whole answer
    known_at: float = math.inf  # from then on that is believed to be as fast as it can be


class Grants:
    """The grants of one client, by `limiter`. With None everyone has one."""

    def __init__(self, limiter: RateLimiter | None, clock: Callable[[], float]) -> None:
        self._limiter = limiter
        self.clock = clock
        self.try_acquire = _without_waiting(limiter)
        self.slow_down = _hook(limiter, "slow_down")
        self.postpone = _hook(limiter, "postpone")
        self._name = _guarded(lambda: getattr(limiter, "last_grant", None), "last_grant")
        self.paces: defaultdict[str, _Pace] = defaultdict(_Pace)

    async def acquire(self) -> None:
        """Return once one more attempt may go."""
        if self._limiter is not None:
            await self._limiter.acquire()

    def last(self) -> Grant:
        """The one just acquired. In the same step: a step later it can be another's."""
        return Grant(self, self.clock(), self._name())


def _without_waiting(limiter: RateLimiter | None) -> Callable[[], bool]:
    """Takes a grant if there is one at once. A limiter with an `acquire` of its own is asked by
    that alone."""
    if limiter is None:
        return lambda: True
    if isinstance(limiter, TokenBucket) and getattr(limiter.acquire, "__func__", None) is _ACQUIRE:
        return limiter.try_acquire
    return lambda: False


def _hook(limiter: RateLimiter | None, name: str) -> Callable[..., Any] | None:
    hook = getattr(limiter, name, None)
    if hook is None or inspect.iscoroutinefunction(hook):
        return None
    return _guarded(hook, name)


def _guarded(hook: Callable[..., Any], name: str) -> Callable[..., Any]:
    """What a limiter may have beside `acquire`. An error of its own must not cost us a place, or
    an answer that is there already."""

    def guarded(*arguments: Any) -> Any:
        try:
            return hook(*arguments)
        except Exception:
            LOGGER.exception("the limiter's %s failed", name)

    return guarded
