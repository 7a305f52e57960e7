"""Where on the time line calls fit into their calling hours.

All sums are done in whole seconds since 1970 in UTC, where an hour is always an hour. A zone is
cut where its clocks change: on each side of a change the wall clock is UTC plus a constant, so a
window of the day becomes a plain span of seconds, and neither the hour that is skipped nor the
one that comes twice needs a rule of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from functools import lru_cache, reduce
from typing import TypeAlias
from zoneinfo import ZoneInfo

from innocalls_async.campaign.hours import DAY_SECONDS, Hours

__all__ = ["HORIZON_DAYS", "Span", "Timetable", "end_of_fold"]

Span: TypeAlias = tuple[int, int]
"""From the first second to the one after the last."""

HORIZON_DAYS = 366
"""How far ahead an opening is looked for: whatever comes every year is in it."""

_EPOCH = date(1970, 1, 1).toordinal()
_LAST_DAY = date.max.toordinal() - _EPOCH - 2


class Timetable:
    """The spans in which `hours` hold on the wall clocks of all `zones` at once."""

    def __init__(self, hours: Hours, zones: Iterable[ZoneInfo]) -> None:
        self._hours = hours
        self._zones = sorted(zones, key=str)
        self._days: dict[int, tuple[Span, ...]] = {}
        self._hopeless: dict[tuple[int, int], int] = {}

    def fit(self, earliest: int, length: int) -> int | None:
        """The first second, not before `earliest`, from which `length` seconds are all open.

        None if there is none in the next year.
        """
        today = earliest // DAY_SECONDS
        if self._hopeless.get((today, length), earliest + 1) <= earliest:
            return None
        start, reach = earliest, None
        for opening, closing in self._spans(earliest, today + HORIZON_DAYS):
            if opening != reach:
                start = max(opening, earliest)
            if closing - start >= length:
                return start
            reach = closing
        # Searching a year costs milliseconds, and whole countries can be hopeless.
        self._hopeless[today, length] = earliest
        return None

    def spans(self, earliest: int, latest: int) -> list[Span]:
        """What is open from `earliest` on, until the end of the day in which `latest` is (UTC)."""
        spans: list[Span] = []
        for opening, closing in self._spans(earliest, latest // DAY_SECONDS):
            if spans and spans[-1][1] == opening:
                spans[-1] = (spans[-1][0], closing)
            else:
                spans.append((max(opening, earliest), closing))
        return spans

    def starts(self, earliest: int, latest: int, length: int) -> list[Span]:
        """The spans between `earliest` and `latest` from any second of which `length` fits."""
        spans = self.spans(earliest, latest + length)
        ends = ((opening, min(closing - length, latest) + 1) for opening, closing in spans)
        return [(opening, end) for opening, end in ends if opening < end]

    def _spans(self, earliest: int, last_day: int) -> Iterator[Span]:
        """In order; those of two days may touch."""
        for day in range(earliest // DAY_SECONDS, min(last_day, _LAST_DAY) + 1):
            for span in self._open_on(day):
                if span[1] > earliest:
                    yield span

    def _open_on(self, day: int) -> tuple[Span, ...]:
        if day not in self._days:
            if len(self._days) > HORIZON_DAYS:
                self._days.clear()
            daily = (_open_spans(self._hours, zone, day) for zone in self._zones)
            self._days[day] = reduce(_overlap, daily)
        return self._days[day]


def _overlap(left: tuple[Span, ...], right: tuple[Span, ...]) -> tuple[Span, ...]:
    # A day has a handful of spans, so that all pairs are few, and come in order.
    pairs = ((max(a[0], b[0]), min(a[1], b[1])) for a in left for b in right)
    return tuple(span for span in pairs if span[0] < span[1])


@lru_cache(maxsize=131_072)
def _open_spans(hours: Hours, zone: ZoneInfo, day: int) -> tuple[Span, ...]:
    """What is open in `zone` on that day of UTC; days are counted from 1970."""
    spans: list[Span] = []
    for start, end, offset in _regimes(zone, day):
        first, last = (start + offset) // DAY_SECONDS, (end - 1 + offset) // DAY_SECONDS
        for local_day in range(first, last + 1):
            midnight = local_day * DAY_SECONDS - offset
            for opening, closing in hours.windows_on(date.fromordinal(local_day + _EPOCH)):
                span = max(midnight + opening, start), min(midnight + closing, end)
                if span[0] < span[1]:
                    spans.append(span)
    return tuple(spans)


def _regimes(zone: ZoneInfo, day: int) -> list[tuple[int, int, int]]:
    """The day as (start, end, offset from UTC), in one part or two."""
    start, end = day * DAY_SECONDS, (day + 1) * DAY_SECONDS
    if (change := _change(zone, day)) is None:
        return [(start, end, _offset(zone, start))]
    return [(start, change, _offset(zone, change - 1)), (change, end, _offset(zone, change))]


def _change(zone: ZoneInfo, day: int) -> int | None:
    """The second at which the clocks change on that day. No zone changes twice in a day."""
    start, end = day * DAY_SECONDS, (day + 1) * DAY_SECONDS
    before = _offset(zone, start - 1)
    if before == _offset(zone, end - 1):
        return None
    seconds = range(start, end)
    return seconds[bisect_left(seconds, True, key=lambda second: _offset(zone, second) != before)]


def _offset(zone: ZoneInfo, moment: int) -> int:
    offset = datetime.fromtimestamp(moment, UTC).astimezone(zone).utcoffset()
    assert offset is not None  # noqa: S101 - ZoneInfo knows the offset of every aware datetime
    return int(offset.total_seconds())


def end_of_fold(zone: ZoneInfo, moment: int) -> int:
    """`moment`, or the first later one whose wall time in `zone` comes only once.

    The service reads wall times, and could not know which of two is meant.
    """
    folds = _folds(zone, moment // DAY_SECONDS)
    return next((end for start, end in folds if start <= moment < end), moment)


@lru_cache(maxsize=4096)
def _folds(zone: ZoneInfo, day: int) -> tuple[Span, ...]:
    """The spans, on that day or next to it, whose wall times come twice."""
    changes = [change for near in (day - 1, day, day + 1) if (change := _change(zone, near))]
    back = [(change, _offset(zone, change - 1) - _offset(zone, change)) for change in changes]
    return tuple((change - seconds, change + seconds) for change, seconds in back if seconds > 0)
