"""An exact rate limit: never more than `rate` grants in any window of `per` seconds.

A plain token bucket refills while it is emptied, so that close to 2 x rate grants fit into one
window: a full bucket at its start, the refill until its end. Here two conditions hold for each
grant: the bucket has a token (which paces grants and bounds how many go back to back), and the
grant `rate` places before it is at least `per` seconds old (which bounds every window). A log of
the last `rate` grants is all that the second one needs.

There is one queue, the lock's: first come, first granted. Whoever holds the lock waits until its
grant is due and records it in the same step in which `acquire` returns. So what is recorded is
when the caller goes on, not when it was decided that it may; and a waiter that is cancelled has
recorded nothing.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, runtime_checkable

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from innocalls_async.clock import current_time

__all__ = ["RateLimiter", "TokenBucket"]

# What a refused rate is cut to, and the share of the configured rate that comes back a second.
SLOWER: Final = 0.7
RECOVERY_PER_SECOND: Final = 0.02
_SLOWEST: Final = 0.01


@runtime_checkable
class RateLimiter(Protocol):
    """What the client asks before each attempt; implement it to share a limit, for example
    between processes. A limiter may also have, as `TokenBucket` does, `slow_down()`, which is
    called when the service says that it was too fast; and `last_grant` with
    `postpone(grant, used_ago)`, which is called when an attempt reached the service later than
    it was granted, with what `last_grant` was as `acquire` returned; it may return another name
    for the grant, to be called with the next time."""

    async def acquire(self) -> None:
        """Return once one more attempt may go. A cancelled call must spend nothing."""


class TokenBucket:
    """At most `rate` grants in any window of `per` seconds, at most `burst` of them back to back
    (by default `rate`).

    It may be shared by clients of one event loop. `clock` gives monotonic seconds and `sleep`
    waits for some; by default they are the event loop's.
    """

    def __init__(
        self,
        rate: float,
        per: float = 1.0,
        burst: int | None = None,
        *,
        clock: Callable[[], float] = current_time,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        _check_positive("rate", rate)
        _check_positive("per", per)
        if burst is not None and (not isinstance(burst, int) or burst < 1):
            raise ValueError(f"burst: a whole number of at least 1 is needed, not {burst!r}")
        self.rate = rate
        self.per = per
        self.burst = max(1, int(rate)) if burst is None else burst
        self._clock = clock
        self._sleep = sleep
        self._queue = anyio.Lock(fast_acquire=True)
        self._log: deque[float] = deque()  # when the last `rate` grants count from, in order
        self._log_length = max(1, int(rate))
        self._last_grant = -math.inf
        self._tokens = float(self.burst)
        self._filled_at = -math.inf
        self._factor = 1.0
        self._slowed_at = 0.0

    def __repr__(self) -> str:
        return f"TokenBucket(rate={self.rate}, per={self.per}, burst={self.burst})"

    async def acquire(self) -> None:
        """Return once one more may go. First come, first granted; cancelled, it spends nothing."""
        await checkpoint_if_cancelled()
        if self.try_acquire():
            return
        async with self._queue:
            while (delay := self._take()) > 0:
                await self._sleep(delay)

    def try_acquire(self) -> bool:
        """Take a grant if that needs no waiting; False if others wait or none is due. It reads
        the clock, which is the running event loop's: call it in an `async def`."""
        return not self._queue.locked() and self._take() <= 0

    def slow_down(self) -> None:
        """The service said that it was too fast: go on at 0.7 of the present rate, and recover
        toward the configured one by a fiftieth of it a second."""
        now = self._clock()
        self._factor = max(_SLOWEST, self._current_factor(now) * SLOWER)
        self._slowed_at = now
        # No burst is left over, nor what would have been gained since the last grant.
        self._tokens, self._filled_at = min(self._tokens, 1.0), now

    def postpone(self, grant: float, used_ago: float) -> float:
        """The grant that `last_grant` named counts from `used_ago` seconds ago on, because that
        is when its request can have reached the service, whose windows are the ones that matter.
        Returns what names it from now on. An age and not a moment: the caller's clock may be
        another than this bucket's."""
        index = bisect.bisect_left(self._log, grant)
        if index < len(self._log) and self._log[index] == grant:
            del self._log[index]  # else as many newer ones have pushed it out
        return self._record(max(grant, self._clock() - used_ago))

    @property
    def last_grant(self) -> float:
        """When the latest grant was given, on this bucket's clock; it names it for `postpone`."""
        return self._last_grant

    @property
    def current_rate(self) -> float:
        """Grants a `per` at present: `rate`, or less while it recovers from `slow_down`."""
        return self.rate * (self._current_factor(self._clock()) if self._factor < 1 else 1.0)

    def _current_factor(self, now: float) -> float:
        return min(1.0, self._factor + (now - self._slowed_at) * RECOVERY_PER_SECOND)

    def _take(self) -> float:
        """Record a grant and return 0.0, or return the seconds until one is due."""
        now = self._clock()
        rate = self.rate
        if self._factor < 1:
            self._factor, self._slowed_at = self._current_factor(now), now
            rate *= self._factor
        due = max(self._token_due(now, rate), self._window_due(rate))
        if due > now:
            return due - now
        self._tokens -= 1
        self._last_grant = self._record(now)
        return 0.0

    def _record(self, moment: float) -> float:
        log = self._log
        if log and moment < log[-1]:
            bisect.insort(log, moment)
        else:
            log.append(moment)
        if len(log) > self._log_length:
            log.popleft()
        return moment

    def _token_due(self, now: float, rate: float) -> float:
        pace = self.per / rate
        if now > self._filled_at:
            gained = (now - self._filled_at) / pace
            self._tokens = min(float(self.burst), self._tokens + gained)
            self._filled_at = now
        # A billionth of a token is what adding up floats may lose.
        return now if self._tokens >= 1 - 1e-9 else now + (1 - self._tokens) * pace

    def _window_due(self, rate: float) -> float:
        # Under one grant a window, the window grows instead.
        count, window = (int(rate), self.per) if rate >= 1 else (1, self.per / rate)
        if len(self._log) < count:
            return -math.inf
        return _at_least(self._log[-count], window)


def _at_least(moment: float, seconds: float) -> float:
    """`moment + seconds`, rounded so that their difference is never less than `seconds`."""
    due = moment + seconds
    while due - moment < seconds:
        due = math.nextafter(due, math.inf)
    return due


def _check_positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: a number is needed, not {type(value).__name__}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: must be above 0 and finite, not {value}")
