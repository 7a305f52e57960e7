"""Call times spread over the calling hours, with a cap on the calls that go on at once.

The model: a call goes on from its call time for its set-up and its `duration`, and takes two
lines all that while; it never takes longer. Where no end is given, calls follow each other as
fast as the cap allows: a call of `length` seconds is followed by the next after `length` divided
by the cap. Where the end and the number of calls are known, and there is more room than that,
call i of n begins where i/n of the time in which it may begin is over.

Who is going on is counted in slices of ten seconds, and a call counts in each slice that it
touches. So the cap holds for certain, and costs up to ten seconds a call. Calls of several
timetables (callees in several zones) are each paced by their own, and share one cap.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from zoneinfo import ZoneInfo

from attrs import frozen

from innocalls_async.campaign.hours import DAY_SECONDS
from innocalls_async.campaign.timetable import HORIZON_DAYS, Span, Timetable, end_of_fold

__all__ = ["Lines", "Pace", "Places"]

_SLICE = 10


class Lines:
    """Who is going on when: at most `cap` calls at once."""

    def __init__(self, cap: int) -> None:
        if cap < 1:
            raise ValueError(f"spread: at least 1 call at once is needed, not {cap}")
        self._cap = cap
        self._going_on: dict[int, int] = {}
        self._full: dict[int, int] = {}  # each leads to a later slice that may have room

    def next_chance(self, start: int, length: int) -> int:
        """`start` if a call of `length` seconds fits there, or a later second worth a try."""
        for place in range((start + length - 1) // _SLICE, start // _SLICE - 1, -1):
            if place in self._full:
                return self._after_full(place) * _SLICE
        return start

    def take(self, start: int, length: int) -> None:
        """Count the call. Only where `next_chance` gave `start` itself."""
        for place in range(start // _SLICE, (start + length - 1) // _SLICE + 1):
            going_on = self._going_on.pop(place, 0) + 1
            if going_on == self._cap:
                self._full[place] = place + 1
            else:
                self._going_on[place] = going_on

    def _after_full(self, place: int) -> int:
        free = place
        while free in self._full:
            free = self._full[free]
        # The next search takes in one step what this one walked.
        while place != free:
            self._full[place], place = free, self._full[place]
        return free


class Places:
    """Finds where a call can begin: open, sayable on the wall clock of `zone`, and a line free.

    Without a `cap` there are lines for everybody.
    """

    def __init__(self, zone: ZoneInfo, cap: int | None) -> None:
        self._zone = zone
        self._lines = None if cap is None else Lines(cap)
        # Where nothing was found before. Lines never become free again, so nothing ever will be.
        self._vain: dict[tuple[Timetable, int], Span] = {}

    def find(
        self, timetable: Timetable, earliest: int, length: int, latest: int | None
    ) -> int | None:
        """The first such second, or any after `latest`; None if there is none in the next year."""
        low, high = self._vain.get((timetable, length), (earliest, earliest))
        start = timetable.fit(earliest, length)
        while start is not None and (latest is None or start <= latest):
            chance = high if low <= start < high else self._next_chance(start, length)
            if chance == start:
                break
            start = timetable.fit(chance, length)
        if start is not None and self._lines is not None:
            if earliest <= high and start >= low:
                self._vain[timetable, length] = min(earliest, low), max(start, high)
            elif start - earliest > high - low:
                self._vain[timetable, length] = earliest, start
        return start

    def take(self, start: int, length: int) -> None:
        """Count the call that was found its place at `start`."""
        if self._lines is not None:
            self._lines.take(start, length)

    def _next_chance(self, start: int, length: int) -> int:
        chance = end_of_fold(self._zone, start)
        if chance != start or self._lines is None:
            return chance
        return self._lines.next_chance(start, length)


class Pace:
    """Where in one timetable the next call should begin, before anybody asks for a free line.

    Each opening has a pace of its own, so that a call too long for what is left of one goes to
    the next, where it queues with the others, and holds up nobody whose call still fits.
    """

    def __init__(
        self, timetable: Timetable, cap: int, start: int, end: int | None, calls: int | None
    ) -> None:
        """`calls` are to begin between `start` and `end`; without both, as soon as they can."""
        self._timetable = timetable
        self._cap = cap
        self._between = None if end is None else (start, end)
        self._calls = calls
        self._spans = timetable.spans(start, start + HORIZON_DAYS * DAY_SECONDS)
        self._due: list[float] = [opening for opening, _ in self._spans]
        self._first: dict[int, int] = {}
        self._courses: dict[int, _Course] = {}

    def due(self, index: int, length: int) -> int | None:
        """When call `index` (from 0) of `length` seconds is due; None if nothing has room."""
        share = self._share(index, length)
        for which in range(self._first.get(length, 0), len(self._spans)):
            moment = max(self._due[which], share)
            if moment + length <= self._spans[which][1]:
                self._first[length] = which
                self._due[which] = moment + (length + _SLICE) / self._cap
                return int(moment)
        return None

    def _share(self, index: int, length: int) -> int:
        if self._between is None or self._calls is None:
            return 0
        if length not in self._courses:
            self._courses[length] = _Course.of(self._timetable.starts(*self._between, length))
        return self._courses[length].moment(index / self._calls)


@frozen
class _Course:
    """Spans laid end to end, so that a share of them is a moment."""

    spans: list[Span]
    reached: list[int]

    @classmethod
    def of(cls, spans: list[Span]) -> _Course:
        return cls(spans, list(accumulate((end - start for start, end in spans), initial=0)))

    def moment(self, share: float) -> int:
        """0 where there is nothing to share."""
        gone = int(share * self.reached[-1])
        which = bisect_right(self.reached, gone) - 1
        if which >= len(self.spans):
            return 0
        return self.spans[which][0] + gone - self.reached[which]
