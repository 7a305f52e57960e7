"""Who may send next: one queue in front of the connections, the service's pauses and the limiter.

Thousands of tasks can call at once. Each attempt is admitted here and holds one of
`max_connections` places until it ends, so that the connection pool behind never has a queue of
its own. A limiter's grant is asked for only while a place is free, and waited for by one task at
a time; so a grant is used at once, and it goes to whoever is first in line: by priority, then by
the age of the operation (a retry keeps its operation's place).

Whoever leaves calls the first in line, which takes its grant as it comes to run. Where time has to
pass before that, because of a pause or the limiter, it leads: it waits for the grant, and gives
it to who is first in line by then. The others sleep, each on an event of its own.

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
    is_called: bool = False  # out of the line, to look whether it can go
    grant: Grant | None = None
    gone: bool = False

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
        self._gone = 0  # of the line
        self._called = 0
        self._leader: _Waiter | None = None
        self._waiting: anyio.CancelScope | None = None  # of the leader, for time to pass
        self._paused_at = -math.inf
        self._paused_until = -math.inf
        self._probe_due = False
        self._probe: Rank | None = None
        self._refused_probes: int | None = None  # one after the other; None once one went well
        self._is_closed = False

    def close(self) -> None:
        """Let nobody in any more. Who is in line hears of it at once."""
        self._is_closed = True
        if self._waiting is not None:
            self._waiting.cancel()
        for _, waiter in self._line:
            waiter.wake()

    async def enter(self, rank: Rank) -> Grant:
        """Return with a place and a grant. When it is cancelled, or closed by then, nothing is
        held."""
        self._check_open()
        await checkpoint_if_cancelled()
        if not self._called and self._first_in_line() is None and self._can_go():
            return self._admit(rank)
        me = _Waiter(rank)
        self._line_up(me)
        try:
            if not self._called:  # else it would pass them
                self._call()
            while me.grant is None:
                if me.is_called:
                    self._look(me)
                elif self._leader is me:
                    await self._lead()
                else:
                    # No coroutine of its own: with thousands in line, what each holds is what
                    # the garbage collector goes through.
                    me.woken = anyio.Event()
                    await me.woken.wait()
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
            self._probe = None
            if answered:
                self._refused_probes = None
            else:
                self._probe_due = True  # it has shown nothing: another goes
        self._call()

    def limited(self, rank: Rank, began: float, seconds: float | None) -> float:
        """The attempt of `rank`, begun at `began`, was answered 429: pause everyone for
        `seconds` (`first_pause` where it does not say), and slow the limiter down. Each refused
        probe doubles the least pause. Returns how long it is."""
        is_probe = rank == self._probe
        if is_probe:
            self._probe = None
        if is_probe and self._refused_probes is not None:
            self._refused_probes += 1
        elif began > self._paused_at:
            # Attempts that were under way when the pause began prove nothing new.
            self._refused_probes = 0
            if self._grants.slow_down is not None:
                self._grants.slow_down()
        growth = 2.0 ** min(self._refused_probes or 0, 10)
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

    def _line_up(self, waiter: _Waiter) -> None:
        heapq.heappush(self._line, (waiter.rank, waiter))

    def _call(self) -> None:
        """Let the first in line look, where a place is free for it and nobody leads."""
        if self._leader is None and self._called < self._free and self._probe is None:
            first = self._first_in_line()
            if first is not None:
                heapq.heappop(self._line)
                first.is_called = True
                self._called += 1
                first.wake()

    def _look(self, me: _Waiter) -> None:
        """Go, or lead where time has to pass first; a probe may have gone meanwhile."""
        me.is_called = False
        self._called -= 1
        if self._leader is None and self._can_go():
            me.grant = self._admit(me.rank)
            self._call()
            return
        self._line_up(me)
        if self._leader is None and self._probe is None:
            self._leader = me

    async def _lead(self) -> None:
        """Wait for the end of the pause, or for the grant of who is first in line then, which can
        be another than the leader."""
        with anyio.CancelScope() as self._waiting:
            if (left := self.pause_left) > 0:
                await self._sleep(left)
                return
            await self._grants.acquire()
        if self._is_closed or not self._is_open:
            return  # what was granted before a pause is void
        first = self._first_in_line()
        assert first is not None  # noqa: S101 - the leader itself is in line
        heapq.heappop(self._line)
        first.grant = self._admit(first.rank)
        first.wake()
        self._leader = None
        self._call()

    def _can_go(self) -> bool:
        return self._is_open and self._grants.try_acquire()

    def _admit(self, rank: Rank) -> Grant:
        grant = self._grants.last()
        self._free -= 1
        if self._probe_due:
            self._probe_due, self._probe = False, rank
        return grant

    def _first_in_line(self) -> _Waiter | None:
        while self._line and self._line[0][1].gone:
            heapq.heappop(self._line)
            self._gone -= 1
        return self._line[0][1] if self._line else None

    def _withdraw(self, me: _Waiter) -> None:
        if self._leader is me:
            self._leader = None
        if me.grant is not None:
            return self._free_place(me.rank, answered=False)
        if me.is_called:
            self._called -= 1
        else:
            me.gone = True
            self._gone += 1
            if self._gone > len(self._line) // 2:  # else under load they would pile up
                self._line = [entry for entry in self._line if not entry[1].gone]
                heapq.heapify(self._line)
                self._gone = 0
        return self._call()

    @property
    def _is_open(self) -> bool:
        return self._free > 0 and self._probe is None and self.pause_left == 0
