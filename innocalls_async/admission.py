"""Who may send next: one queue in front of the connections, the service's pauses and the limiter.

Thousands of tasks can call at once. Each attempt is admitted here and holds one of
`max_connections` places until it ends, so that the connection pool behind never has a queue of
its own. A limiter's grant is asked for only while a place is free, and by one task at a time, the
leader; so a grant is used at once, and it goes to whoever is first in line: by priority, then by
the age of the operation (a retry keeps its operation's place).

Whoever leaves lets in who is first in line. Where time has to pass first, because of a pause or
the limiter, one of the line leads: it waits for that. The others sleep, each on an event of its
own, and so does the whole line where only a place is wanted.

After a 429 nobody is admitted until the pause is over. Then one probe goes, and the line follows
once that came back without another 429.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import anyio
from anyio.lowlevel import checkpoint_if_cancelled
from attrs import define

from innocalls_async.clock import current_time
from innocalls_async.grants import Grant, Grants
from innocalls_async.limiter import RateLimiter

__all__ = ["Admission", "Rank"]

Rank: TypeAlias = tuple[int, int]  # priority (the lower goes first), then the operation's number

# The least seconds for a 429 that says how long to wait, unless the policy's pauses are shorter.
LEAST_PAUSE: Final = 0.05


@define(eq=False)
class _Waiter:
    rank: Rank
    woken: anyio.Event | None = None
    grant: Grant | None = None
    gone: bool = False

    async def sleep(self) -> None:
        """Return when there is a grant, or when it is to lead."""
        self.woken = anyio.Event()
        await self.woken.wait()

    def wake(self) -> None:
        if self.woken is not None:  # else it has yet to look
            self.woken.set()


class Admission:
    """The places, the line and the pause of one client."""

    def __init__(
        self,
        places: int,
        limiter: RateLimiter | None,
        *,
        first_pause: float = 1.0,
        longest_pause: float = math.inf,
        clock: Callable[[], float] = current_time,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        self._free = places
        self._grants = Grants(limiter, clock)
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._clock = clock
        self._sleep = sleep
        self._line: list[tuple[Rank, _Waiter]] = []
        self._leader: _Waiter | None = None
        self._paused_at = -math.inf
        self._paused_until = -math.inf
        self._probe_due = False
        self._probe: Rank | None = None
        self._refused_probes = 0
        self._is_closed = False

    def close(self) -> None:
        """Let nobody in any more, who is in line neither."""
        self._is_closed = True

    async def enter(self, rank: Rank) -> Grant:
        """Return with a place and a grant. When it is cancelled, or closed by then, nothing is
        held."""
        self._check_open()
        await checkpoint_if_cancelled()
        if self._first_in_line() is None and self._is_open and self._grants.try_acquire():
            return self._admit(rank)
        me = _Waiter(rank)
        heapq.heappush(self._line, (rank, me))
        try:
            self._let_in()
            while me.grant is None:
                if self._leader is me:
                    await self._lead()
                else:
                    await me.sleep()
            self._check_open()
            # A cancellation that crosses the admission would be delivered at the next await, which
            # can come behind the first bytes: who stopped us would never hear of them.
            await checkpoint_if_cancelled()
        except BaseException:
            self._withdraw(me)
            raise
        return me.grant

    def leave(
        self,
        rank: Rank,
        grant: Grant,
        kind: str = "",
        *,
        answered: bool = True,
        succeeded: bool = True,
    ) -> None:
        """Give the place back: the attempt, of that `kind` of operation, is over."""
        grant.over(kind, succeeded=succeeded)
        self._free_place(rank, answered=answered)

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("this AsyncBridgeClient is closed")

    def _free_place(self, rank: Rank, *, answered: bool) -> None:
        self._free += 1
        if rank == self._probe:
            # A probe that was not answered has shown nothing: another goes.
            self._probe = None
            self._probe_due = self._probe_due or not answered
        self._let_in()

    def limited(self, rank: Rank, began: float, seconds: float | None) -> float:
        """The attempt of `rank`, begun at `began`, was answered 429: pause everyone for
        `seconds` (`first_pause` where it does not say), and slow the limiter down. Each refused
        probe doubles the least pause. Returns how long it is."""
        if rank == self._probe:
            self._refused_probes += 1
        elif began > self._paused_at:
            # Attempts that were under way when the pause began prove nothing new.
            self._refused_probes = 0
            if self._grants.slow_down is not None:
                self._grants.slow_down()
        growth = 2.0 ** min(self._refused_probes, 10)
        if seconds is None:
            pause = self._first_pause * growth
        else:
            pause = max(seconds, min(LEAST_PAUSE, self._first_pause) * growth)
        pause = min(pause, self._longest_pause)
        self._paused_at = self._clock()
        self.hold(pause)
        return pause

    def hold(self, seconds: float) -> None:
        """Admit nobody for `seconds`, and then one probe before the rest."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)
        self._probe_due = True

    @property
    def pause_left(self) -> float:
        """Seconds until the pause is over; 0.0 where there is none."""
        return max(0.0, self._paused_until - self._clock()) if self._probe_due else 0.0

    def _let_in(self) -> None:
        """Admit as many as may go at once, and have time waited for where that is what the next
        one needs."""
        while self._leader is None and (first := self._first_in_line()) is not None:
            if self._is_open and self._grants.try_acquire():
                self._admit_first()
            elif self._free > 0 and self._probe is None:
                self._leader = first
                first.wake()
            else:
                return  # whoever leaves next comes by here

    async def _lead(self) -> None:
        """Wait until the first in line may go. By then that can be another than the leader."""
        if (left := self.pause_left) > 0:
            await self._sleep(left)
        else:
            await self._grants.acquire()
            if not self._is_open:
                return  # a pause began meanwhile: what was granted before it is void
            self._admit_first()
            self._leader = None
            self._let_in()

    def _admit_first(self) -> None:
        first = self._first_in_line()
        assert first is not None  # noqa: S101 - it is asked for where somebody is in line
        heapq.heappop(self._line)
        first.grant = self._admit(first.rank)
        first.wake()

    def _admit(self, rank: Rank) -> Grant:
        grant = self._grants.last()
        self._free -= 1
        if self._probe_due:
            self._probe_due, self._probe = False, rank
        return grant

    def _first_in_line(self) -> _Waiter | None:
        while self._line and self._line[0][1].gone:
            heapq.heappop(self._line)
        return self._line[0][1] if self._line else None

    def _withdraw(self, me: _Waiter) -> None:
        me.gone = True
        if self._leader is me:
            self._leader = None
        if me.grant is not None:
            me.grant.unused()
            self._free_place(me.rank, answered=False)
        else:
            self._let_in()

    @property
    def _is_open(self) -> bool:
        return self._free > 0 and self._probe is None and self.pause_left == 0
