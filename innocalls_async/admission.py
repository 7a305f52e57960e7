"""Who may send next: one queue in front of the connections, the service's pauses and the limiter.

Thousands of tasks can call at once. Each attempt is admitted here and holds one of
`max_connections` places until it ends, so that the connection pool behind never has a queue of
its own. A limiter's grant is asked for only while a place is free, and by one task at a time, the
leader; so a grant is used at once, and it goes to whoever is first in line: by priority, then by
the age of the operation (a retry keeps its operation's place).

The line has a leader whenever somebody waits. The first to come leads until it is admitted or
cancelled, and then names the next. The others sleep, each on an event of its own.

After a 429 nobody is admitted until the pause is over. Then one probe goes, and the line follows
once that came back without another 429.
"""

from __future__ import annotations

import heapq
import inspect
import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import anyio
from attrs import define

from innocalls_async.clock import current_time
from innocalls_async.events import LOGGER
from innocalls_async.limiter import RateLimiter

__all__ = ["Admission", "Rank"]

Rank: TypeAlias = tuple[int, int]  # priority (the lower goes first), then the operation's number

# The least seconds for a 429 that says how long to wait, unless the policy's pauses are shorter.
LEAST_PAUSE: Final = 0.05
# Seconds between a grant and its use that are not worth telling the limiter of, and the most
# that a request is believed to have queued in front of the service.
UNNOTICED: Final = 0.001
LONGEST_QUEUE: Final = 0.05
LONGEST_FIRST_QUEUE: Final = 0.25
# Seconds after the first answer in which the fastest one is not known yet.
LEARNING: Final = 1.0


def _hook(limiter: RateLimiter | None, name: str) -> Callable[..., None] | None:
    """What a limiter may have beside `acquire`. An error of its own must not cost us an answer
    that is there already."""
    hook = getattr(limiter, name, None)
    if hook is None or inspect.iscoroutinefunction(hook):
        return None

    def guarded(*ages: float) -> None:
        try:
            hook(*ages)
        except Exception:
            LOGGER.exception("the limiter's %s failed", name)

    return guarded


@define(eq=False)
class _Waiter:
    rank: Rank
    woken: anyio.Event | None = None
    admitted: bool = False
    gone: bool = False

    def wake(self) -> None:
        assert self.woken is not None  # noqa: S101 - only who leads from the start has none
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
        self._limiter = limiter
        self._slow_down = _hook(limiter, "slow_down")
        self._postpone = _hook(limiter, "postpone")
        self._fastest = math.inf  # seconds from a first byte to its whole answer
        self._learnt_at = math.inf
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._clock = clock
        self._sleep = sleep
        self._line: list[tuple[Rank, _Waiter]] = []
        self._leader: _Waiter | None = None
        self._place_freed: anyio.Event | None = None  # while the leader waits for it
        self._paused_at = -math.inf
        self._paused_until = -math.inf
        self._probe_due = False
        self._probe: Rank | None = None
        self._refused_probes = 0
        self._is_closed = False

    def close(self) -> None:
        """Let nobody in any more, who is in line neither."""
        self._is_closed = True

    async def enter(self, rank: Rank) -> None:
        """Return with a place and a grant. When it is cancelled, or closed by then, nothing is
        held."""
        me = _Waiter(rank)
        heapq.heappush(self._line, (rank, me))
        try:
            if self._leader is None:
                self._leader = me
            else:
                me.woken = anyio.Event()
                await me.woken.wait()
            if not me.admitted:
                await self._lead(me)
            self._check_open()
        except BaseException:
            self._withdraw(me)
            raise

    def sending(self, granted_at: float) -> float:
        """The attempt granted at `granted_at` leaves only now, for example because a connection
        had to be made. Returns the moment from which its grant counts."""
        now = self._clock()
        age = now - granted_at
        if age < UNNOTICED or self._postpone is None:
            return granted_at
        self._postpone(age, 0.0)
        return now

    def leave(self, rank: Rank, granted_at: float, *, answered: bool = True) -> None:
        """Give the place back: the attempt whose grant counts from `granted_at` is over, with an
        answer, which also shows how fast the service can be, or without.

        The service counted it at the latest when it would have had to, to answer as fast as it
        ever did; so much of its delay is held against the limit, up to a small part of a second,
        lest a slow service slow us down for nothing. In the first second, when all may queue
        behind a burst, nobody knows how fast it can be.
        """
        if self._postpone is not None:
            now = self._clock()
            took = now - granted_at
            if answered:
                self._fastest = min(self._fastest, took)
                self._learnt_at = min(self._learnt_at, now + LEARNING)
            if now < self._learnt_at:
                queued = min(took, LONGEST_FIRST_QUEUE)
            else:
                # What breaks off sooner than any answer came has queued for nothing.
                queued = min(max(0.0, took - self._fastest), LONGEST_QUEUE)
            # A bit more for what even the fastest took: else a window in a few runs is exceeded.
            self._postpone(took, took - queued - UNNOTICED)
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
        if self._place_freed is not None:
            self._place_freed.set()

    def limited(self, rank: Rank, began: float, seconds: float | None) -> float:
        """The attempt of `rank`, begun at `began`, was answered 429: pause everyone for
        `seconds` (`first_pause` where it does not say), and slow the limiter down. Each refused
        probe doubles the least pause. Returns how long it is."""
        if rank == self._probe:
            self._refused_probes += 1
        elif began > self._paused_at:
            # Attempts that were under way when the pause began prove nothing new.
            self._refused_probes = 0
            if self._slow_down is not None:
                self._slow_down()
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

    async def _lead(self, me: _Waiter) -> None:
        while True:
            await self._until_open()
            if self._limiter is not None:
                await self._limiter.acquire()
                if not self._is_open:
                    continue  # a pause began meanwhile: what was granted before it is void
            first = self._admit_first()
            if first is me:
                return self._name_leader()
            first.wake()

    def _admit_first(self) -> _Waiter:
        first = self._first_in_line()
        assert first is not None  # noqa: S101 - the leader itself is in line
        heapq.heappop(self._line)
        first.admitted = True
        self._free -= 1
        if self._probe_due:
            self._probe_due, self._probe = False, first.rank
        return first

    def _name_leader(self) -> None:
        self._leader = self._first_in_line()
        if self._leader is not None:
            self._leader.wake()

    def _first_in_line(self) -> _Waiter | None:
        while self._line and self._line[0][1].gone:
            heapq.heappop(self._line)
        return self._line[0][1] if self._line else None

    def _withdraw(self, me: _Waiter) -> None:
        me.gone = True
        if me.admitted:
            self._free_place(me.rank, answered=False)
        if self._leader is me:
            self._name_leader()

    @property
    def _is_open(self) -> bool:
        return self._free > 0 and self._probe is None and self.pause_left == 0

    async def _until_open(self) -> None:
        while not self._is_open:
            if (left := self.pause_left) > 0:
                await self._sleep(left)
            else:
                self._place_freed = anyio.Event()
                await self._place_freed.wait()
                self._place_freed = None
