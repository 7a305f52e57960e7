"""Which call goes when: legal hours for both callees, a last moment, and a cap on what goes on.

Rows go through one by one, so that a million of them need no memory. Nothing here writes, sends
or asks for the time: the same rows and options always give the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, get_args
from zoneinfo import ZoneInfo

from attrs import define, field, frozen

from innocalls_async.campaign.hours import Hours
from innocalls_async.campaign.spread import Pace, Places
from innocalls_async.campaign.timetable import HORIZON_DAYS, Timetable, end_of_fold
from innocalls_async.campaign.zones import callee_zones
from innocalls_async.times import load_zone

__all__ = ["HoursIn", "Outside", "PlanRow", "Planned", "Planner", "Refusal"]

HoursIn: TypeAlias = Literal["account", "callee"]
Outside: TypeAlias = Literal["move", "refuse"]

SETUP_SECONDS = 60
"""What ringing both callees takes at most, unless told otherwise: thirty seconds for each."""


class Refusal(StrEnum):
    """Why a row is not planned. `explanation` is for people."""

    OUTSIDE_HOURS = "outside_hours"
    NO_OPENING = "no_opening"
    UNKNOWN_ZONE = "unknown_zone"
    TIME_COMES_TWICE = "time_comes_twice"
    PAST = "past"
    EXPIRED = "expired"

    @property
    def explanation(self) -> str:
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Refusal.OUTSIDE_HOURS: "call_time: outside the calling hours, for a part of the call at least",
    Refusal.NO_OPENING: (
        f"call_time: nothing within {HORIZON_DAYS} days is open and free long enough for the "
        "call, in every zone that both callees may be in"
    ),
    Refusal.UNKNOWN_ZONE: (
        "a callee's number does not tell its time zone; plan it by the account's hours"
    ),
    Refusal.TIME_COMES_TWICE: (
        "call_time: comes twice in the account's zone, where the clocks are put back over it; "
        "choose a time outside that hour"
    ),
    Refusal.PAST: "call_time: is past",
    Refusal.EXPIRED: "call_time: later than the last moment asked for (not after)",
}


@frozen
class PlanRow:
    """A row to plan. Numbers are digits, `call_time` is aware or None (at once), `duration` is
    whole minutes."""

    row: int
    first_number: str
    second_number: str
    call_time: datetime | None
    duration: int


@frozen
class Planned:
    """When a row's call goes: `call_time` is aware, or None for at once.

    `moved` says that this is not the time asked for. With a `refusal` the row is not to be sent;
    `Refusal.EXPIRED` is one whose time had run out.
    """

    row: int
    call_time: datetime | None
    moved: bool
    refusal: Refusal | None = None


@define
class Planner:
    """Gives each row its call time.

    `hours` hold in the account's zone, or (`hours_in="callee"`) in every zone in which either
    callee may be. A call is inside if all of it is: from its call time, for `setup_seconds` and
    its whole duration. One that is not is moved to the next opening, or refused. A time that the
    account's wall clock shows twice cannot be sent to the service, and counts as outside. A
    number whose zone nothing tells is refused, never rung at an hour that was guessed.

    `not_after` is the last moment for a call to begin. A call time before `now` is refused, or
    (`allow_past`) means at once.

    `spread` is the most calls that go on at once, each on two lines. Rows without a call time
    then get one, in the order of the file; those with one keep it where a line is free, and are
    moved to the next free one where not. With `calls` (how many rows there are) and `not_after`
    they are spread over all the time until then, and without as tightly as the cap allows; see
    `innocalls_async.campaign.spread` for the model. A planner counts what it has planned, so it
    takes one for each plan.
    """

    zone: ZoneInfo
    now: datetime
    hours: Hours | None = None
    hours_in: HoursIn = "account"
    outside: Outside = "move"
    not_after: datetime | None = None
    allow_past: bool = False
    setup_seconds: int = SETUP_SECONDS
    spread: int | None = None
    calls: int | None = None
    _now: int = field(init=False)
    _end: int | None = field(init=False)
    _places: Places = field(init=False)
    _timetables: dict[frozenset[ZoneInfo], Timetable] = field(init=False, factory=dict)
    _paces: dict[Timetable, Pace] = field(init=False, factory=dict)
    _count: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._now = int(self.now.timestamp())
        self._end = None if self.not_after is None else int(self.not_after.timestamp())
        self._places = Places(self.zone, self.spread)

    @classmethod
    def from_options(
        cls,
        *,
        zone: str | ZoneInfo,
        now: datetime,
        window: str | None = None,
        days: str | None = None,
        holidays: str | Path | None = None,
        hours_in: str = "account",
        outside: str = "move",
        not_after: str | datetime | None = None,
        allow_past: bool = False,
        setup_seconds: int = SETUP_SECONDS,
        spread: int | None = None,
        calls: int | None = None,
    ) -> Self:
        """A planner from what a person writes: `window="09:00-17:00"`, `days="sun-thu"`, a
        holidays file, `not_after="2026-11-30"` (all of that day) or `"2026-11-30T17:00"`, in the
        account's zone unless it says another. ValueError, naming the option, for what cannot be
        read; OSError from the holidays file.
        """
        account = load_zone(zone)
        return cls(
            zone=account,
            now=now,
            hours=Hours.read(window, days, holidays),
            hours_in=_one_of("hours_in", hours_in, get_args(HoursIn)),
            outside=_one_of("outside", outside, get_args(Outside)),
            not_after=_read_not_after(not_after, account),
            allow_past=allow_past,
            setup_seconds=setup_seconds,
            spread=spread,
            calls=calls,
        )

    def plan(self, rows: Iterable[PlanRow]) -> Iterator[Planned]:
        """One `Planned` a row, in the same order, as the rows come."""
        for row in rows:
            yield self._plan_row(row)
            self._count += 1

    def plan_anew(self, row: PlanRow, now: datetime) -> Planned:
        """The row at a later `now`: for a last look just before it goes out, because sending a
        long list takes hours."""
        self._now = int(now.timestamp())
        return self._plan_row(row)

    def _plan_row(self, row: PlanRow) -> Planned:
        asked = None if row.call_time is None else int(row.call_time.timestamp())
        if asked is not None and asked < self._now:
            if not self.allow_past:
                return _refused(row, Refusal.PAST)
            asked = None
        timetable = self._timetable(row)
        if timetable is None:
            return _refused(row, Refusal.UNKNOWN_ZONE)
        if asked is not None:
            return self._plan_time(row, timetable, asked)
        return self._plan_at_once(row, timetable)

    def _plan_time(self, row: PlanRow, timetable: Timetable, asked: int) -> Planned:
        if self.outside == "refuse":
            if timetable.fit(asked, self._length(row)) != asked:
                return _refused(row, Refusal.OUTSIDE_HOURS)
            if end_of_fold(self.zone, asked) != asked:
                return _refused(row, Refusal.TIME_COMES_TWICE)
        start = self._search(row, timetable, asked)
        return self._put(row, start, moved=start != asked)

    def _plan_at_once(self, row: PlanRow, timetable: Timetable) -> Planned:
        moved = row.call_time is not None
        if self.spread is not None:
            due = self._due(row, timetable, self.spread)
            start = None if due is None else self._search(row, timetable, due)
            return self._put(row, start, moved=moved)
        if timetable.fit(self._now, self._length(row)) == self._now:
            if self._is_late(self._now):
                return _refused(row, Refusal.EXPIRED)
            return Planned(row.row, None, moved=moved)
        if self.outside == "refuse":
            return _refused(row, Refusal.OUTSIDE_HOURS)
        return self._put(row, self._search(row, timetable, self._now), moved=True)

    def _put(self, row: PlanRow, start: int | None, *, moved: bool) -> Planned:
        if start is None:
            return _refused(row, Refusal.NO_OPENING)
        if self._is_late(start):
            return _refused(row, Refusal.EXPIRED)
        self._places.take(start, self._length(row))
        return Planned(row.row, datetime.fromtimestamp(start, UTC), moved)

    def _search(self, row: PlanRow, timetable: Timetable, earliest: int) -> int | None:
        return self._places.find(timetable, earliest, self._length(row), self._end)

    def _due(self, row: PlanRow, timetable: Timetable, cap: int) -> int | None:
        if timetable not in self._paces:
            self._paces[timetable] = Pace(timetable, cap, self._now, self._end, self.calls)
        return self._paces[timetable].due(self._count, self._length(row))

    def _timetable(self, row: PlanRow) -> Timetable | None:
        zones = frozenset({self.zone})
        if self.hours is not None and self.hours_in == "callee":
            first, second = callee_zones(row.first_number), callee_zones(row.second_number)
            if not (first and second):
                return None
            zones = first | second
        if zones not in self._timetables:
            self._timetables[zones] = Timetable(self.hours or Hours(), zones)
        return self._timetables[zones]

    def _length(self, row: PlanRow) -> int:
        return self.setup_seconds + row.duration * 60

    def _is_late(self, start: int) -> bool:
        return self._end is not None and start > self._end


def _refused(row: PlanRow, refusal: Refusal) -> Planned:
    return Planned(row.row, row.call_time, moved=False, refusal=refusal)


def _one_of(option: str, word: str, words: tuple[Any, ...]) -> Any:
    if word not in words:
        raise ValueError(f"{option}: {word!r} is none of {', '.join(words)}")
    return word


def _read_not_after(value: str | datetime | None, zone: ZoneInfo) -> datetime | None:
    if isinstance(value, str):
        value = _parse_moment(value.strip(), zone)
    if value is None or value.utcoffset() is not None:
        return value
    # Of a time that comes twice the first is meant: nothing goes later than anybody asked for.
    return value.replace(tzinfo=zone, fold=0)


def _parse_moment(text: str, zone: ZoneInfo) -> datetime:
    try:
        if "T" in text or ":" in text:
            return datetime.fromisoformat(text)
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"not_after: {text!r} is no time; write 2026-11-30 or 2026-11-30T17:00"
        ) from None
    return datetime.combine(day, time(23, 59, 59), zone)
