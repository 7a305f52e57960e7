"""Which call goes when, held against the wall clock of everybody who is called."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import phonenumbers
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from phonenumbers.timezone import time_zones_for_number

from innocalls_async.campaign.hours import DAY_SECONDS, Hours
from innocalls_async.campaign.plan import Planned, Planner, PlanRow, Refusal
from innocalls_async.times import wall_time

CAIRO = ZoneInfo("Africa/Cairo")
NOW = datetime(2026, 4, 19, 12, 0, tzinfo=CAIRO)  # a Sunday
EGYPT, NEW_YORK, AUSTRALIA = "201123456789", "12125551234", "61412345678"
ZONES = sorted(available_timezones() - {"localtime", "Factory"})


def row(
    call_time: datetime | None = None, duration: int = 2, *, first: str = EGYPT, second: str = EGYPT
) -> PlanRow:
    return PlanRow(1, first, second, call_time, duration)


def planner(**options: object) -> Planner:
    return Planner.from_options(**{"zone": "Africa/Cairo", "now": NOW, **options})  # type: ignore[arg-type]


def plan_one(plan_row: PlanRow, **options: object) -> Planned:
    return next(planner(**options).plan([plan_row]))


def cairo(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 4, day, hour, minute, tzinfo=CAIRO)


def is_open(hours: Hours, zone: ZoneInfo, moment: int) -> bool:
    """Whether the wall clock of `zone` says so: an oracle that shares nothing with the planner."""
    local = datetime.fromtimestamp(moment, UTC).astimezone(zone)
    second = local.hour * 3600 + local.minute * 60 + local.second
    if local.weekday() not in hours.days or local.date() in hours.holidays:
        return False
    return any(opening <= second < closing for opening, closing in hours.windows)


def is_open_throughout(hours: Hours, zone: ZoneInfo, start: int, length: int) -> bool:
    moments = [*range(start, start + length, 60), start + length - 1]
    return all(is_open(hours, zone, moment) for moment in moments)


def comes_twice(moment: datetime, zone: ZoneInfo) -> bool:
    try:
        wall_time(moment, zone)
    except ValueError:
        return True
    return False


@st.composite
def some_hours(draw: st.DrawFn) -> Hours:
    quarters = st.lists(st.integers(0, 96), min_size=2, max_size=4, unique=True)
    marks = sorted(mark * 900 for mark in draw(quarters))
    windows = tuple(zip(marks[::2], marks[1::2], strict=False))
    days = draw(st.frozensets(st.integers(0, 6), min_size=1))
    return Hours(windows, days, draw(st.frozensets(st.dates(date(2026, 1, 1), date(2026, 3, 1)))))


@st.composite
def moments_near_changes(draw: st.DrawFn, zone: ZoneInfo) -> datetime:
    """A moment in 2024 to 2028, mostly within two days of a change of that zone's clocks."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    if draw(st.integers(0, 3)):
        days = [start + timedelta(days=day) for day in range(1461)]
        changes = [
            day
            for day, next_day in pairwise(days)
            if day.astimezone(zone).utcoffset() != next_day.astimezone(zone).utcoffset()
        ]
        if changes:
            start = draw(st.sampled_from(changes)) - timedelta(days=2)
            return start + timedelta(seconds=draw(st.integers(0, 4 * DAY_SECONDS)))
    return start + timedelta(seconds=draw(st.integers(0, 1460 * DAY_SECONDS)))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_no_call_is_planned_outside_its_windows_in_any_zone(data: st.DataObject) -> None:
    """In every zone and across its clock changes, all of a planned call is within the windows."""
    zone = ZoneInfo(data.draw(st.sampled_from(ZONES)))
    hours = data.draw(some_hours())
    asked = data.draw(moments_near_changes(zone))
    duration = data.draw(st.integers(1, 300))
    plan = Planner(zone, asked - timedelta(hours=1), hours).plan([row(asked, duration)])
    planned = next(plan)
    if planned.refusal is not None:
        assert planned.refusal is Refusal.NO_OPENING
        assert duration * 60 + 60 > max(closing - opening for opening, closing in hours.windows) / 2
        return
    assert planned.call_time is not None
    start, length = int(planned.call_time.timestamp()), 60 + duration * 60
    assert is_open_throughout(hours, zone, start, length)
    assert not comes_twice(planned.call_time, zone)
    assert planned.call_time >= asked
    assert planned.moved is (planned.call_time != asked)
    if planned.moved:
        earlier = data.draw(st.integers(int(asked.timestamp()), start - 1))
        assert not is_open_throughout(hours, zone, earlier, length) or comes_twice(
            datetime.fromtimestamp(earlier, UTC), zone
        )


def _numbers() -> list[str]:
    examples = (phonenumbers.example_number(region) for region in phonenumbers.SUPPORTED_REGIONS)
    written = (phonenumbers.format_number(it, 0)[1:] for it in examples if it is not None)
    return sorted({EGYPT, NEW_YORK, AUSTRALIA, *written})


NUMBERS = _numbers()


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_both_legs_are_inside_their_own_hours(data: st.DataObject) -> None:
    """With the callees' own hours, a call is within the windows in every zone of both legs."""
    account = ZoneInfo(data.draw(st.sampled_from(ZONES)))
    hours = Hours(((8 * 3600, 20 * 3600),), data.draw(st.frozensets(st.integers(0, 6), min_size=2)))
    first, second = data.draw(st.sampled_from(NUMBERS)), data.draw(st.sampled_from(NUMBERS))
    now = data.draw(moments_near_changes(account))
    plan_row = row(now if data.draw(st.booleans()) else None, first=first, second=second)
    plan = Planner(account, now, hours, hours_in="callee").plan([plan_row])
    planned = next(plan)
    assume(planned.refusal is None)
    start = int((planned.call_time or now).timestamp())
    for number in (first, second):
        for name in time_zones_for_number(phonenumbers.parse(f"+{number}")):
            assert is_open_throughout(hours, ZoneInfo(name), start, 180)
    if planned.call_time is not None:
        assert not comes_twice(planned.call_time, account)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(st.integers(1, 90), st.none() | st.integers(0, 3 * DAY_SECONDS)), max_size=60
    ),
    st.integers(1, 8),
    st.none() | st.integers(1, 6),
    st.sampled_from(["09:00-17:00", "09:00-11:00,16:00-20:00", None]),
)
def test_no_more_calls_go_on_than_the_cap(
    rows: list[tuple[int, int | None]], cap: int, end_days: int | None, window: str | None
) -> None:
    """However rows, lengths and asked times are mixed, a sweep over the plan finds no excess."""
    plan_rows = [
        row(None if wait is None else NOW + timedelta(seconds=wait), duration)
        for duration, wait in rows
    ]
    not_after = None if end_days is None else NOW + timedelta(days=end_days)
    spread = planner(window=window, spread=cap, not_after=not_after, calls=len(rows))
    changes: list[tuple[float, int]] = []
    for plan_row, planned in zip(plan_rows, spread.plan(plan_rows), strict=True):
        if planned.refusal is None:
            assert planned.call_time is not None
            assert planned.call_time >= (plan_row.call_time or NOW)
            start = planned.call_time.timestamp()
            changes += [(start, 1), (start + 60 + plan_row.duration * 60, -1)]
    assert _most_at_once(changes) <= cap


def _most_at_once(changes: list[tuple[float, int]]) -> int:
    most = going_on = 0
    for _, change in sorted(changes):
        going_on += change
        most = max(most, going_on)
    return most


def _starts(plan: Iterator[Planned]) -> list[datetime]:
    return [planned.call_time for planned in plan if planned.call_time is not None]


def test_calls_follow_each_other_as_tightly_as_the_cap_allows() -> None:
    """Without an end, calls of one length are evenly apart and use the cap but for a slice."""
    starts = _starts(planner(spread=10, window="09:00-17:00").plan([row(None, 4)] * 500))
    gaps = [(b - a).total_seconds() for a, b in pairwise(starts) if b.date() == a.date()]
    assert 300 / 10 <= sum(gaps) / len(gaps) <= 310 / 10 + 1
    assert max(gaps) <= 41
    assert starts[0] == NOW


def test_calls_are_spread_over_all_the_time_until_the_end() -> None:
    """With an end and the number of calls, each day of five gets a fifth of them."""
    starts = _starts(
        planner(
            now=cairo(19, 9), spread=10, window="09:00-17:00", not_after="2026-04-23", calls=1000
        ).plan([row(None, 4)] * 1000)
    )
    assert len(starts) == 1000
    days = [start.astimezone(CAIRO).day for start in starts]
    assert [days.count(day) for day in range(19, 24)] == [200] * 5
    assert starts[-1] >= cairo(23, 16, 52)


def test_a_call_too_long_for_most_windows_holds_up_nobody() -> None:
    """One call that fits in the evening only does not take the rest along to the evening."""
    rows = [row(None, 300), *[row(None, 2)] * 20]
    starts = _starts(
        planner(now=cairo(19, 9), spread=5, window="09:00-13:00,16:00-22:00").plan(rows)
    )
    assert starts[0] == cairo(19, 16)
    assert max(starts[1:]) < cairo(19, 10)


def test_spread_calls_are_not_moved_ones() -> None:
    """A row that asked for no time is given one; that is no move."""
    planned = plan_one(row(), spread=1, window="13:00-17:00")
    assert planned == Planned(1, cairo(19, 13), moved=False)


def test_a_time_asked_for_waits_for_a_free_line() -> None:
    """Two calls at the same time with one line: the second is moved to when the first is over."""
    plan = planner(spread=1).plan([row(cairo(20, 10)), row(cairo(20, 10))])
    assert [it.call_time for it in plan] == [cairo(20, 10), cairo(20, 10, 3)]


@pytest.mark.parametrize("cap", [0, -1])
def test_a_cap_of_no_calls_is_refused(cap: int) -> None:
    """At least one call must be able to go on."""
    with pytest.raises(ValueError, match="at least 1 call"):
        planner(spread=cap)


def test_without_options_rows_stay_as_they_are() -> None:
    """Without hours, end and spread, a row keeps its time and one without a time goes at once."""
    asked = cairo(21, 3, 33)
    assert plan_one(row(asked)) == Planned(1, asked, moved=False)
    assert plan_one(row()) == Planned(1, None, moved=False)


def test_the_whole_call_must_be_inside() -> None:
    """A call may end when the window closes, and not a minute later."""
    assert plan_one(row(cairo(19, 16, 57)), window="09:00-17:00").moved is False
    moved = plan_one(row(cairo(19, 16, 58)), window="09:00-17:00")
    assert moved == Planned(1, cairo(20, 9), moved=True)


def test_what_is_outside_is_refused_on_demand() -> None:
    """With `refuse` nothing moves: not a time asked for, and not an at-once."""
    refused = plan_one(row(cairo(19, 18)), window="09:00-17:00", outside="refuse")
    assert refused.refusal is Refusal.OUTSIDE_HOURS
    at_once = plan_one(row(), window="13:00-17:00", outside="refuse")
    assert at_once.refusal is Refusal.OUTSIDE_HOURS


def test_an_at_once_outside_the_hours_waits_for_the_opening() -> None:
    """A row without a time is sent at once in the hours, and moved to the opening else."""
    assert plan_one(row(), window="09:00-17:00") == Planned(1, None, moved=False)
    assert plan_one(row(), window="13:00-17:00") == Planned(1, cairo(19, 13), moved=True)


def test_weekends_and_holidays_are_skipped() -> None:
    """The next opening is on the next working day that is no holiday."""
    hours = Hours(
        ((9 * 3600, 17 * 3600),), frozenset({6, 0, 1, 2, 3}), frozenset({date(2026, 4, 26)})
    )
    plan = Planner(CAIRO, NOW, hours).plan([row(cairo(23, 17))])
    assert next(plan).call_time == cairo(27, 9)


def test_windows_that_meet_at_midnight_are_one() -> None:
    """A call may go on over midnight if both sides of it are open."""
    asked = cairo(19, 23, 58)
    assert plan_one(row(asked, 10), window="20:00-24:00,00:00-02:00").moved is False
    assert plan_one(row(asked, 10), window="20:00-24:00,00:00-02:00", days="sun").moved is True


def test_a_time_that_comes_twice_is_never_planned() -> None:
    """On the night when Cairo's clocks go back, the doubled hour is left out."""
    doubled = datetime(2026, 10, 29, 20, 30, tzinfo=UTC)  # 23:30 on the wall, for the first time
    moved = plan_one(row(doubled), window="23:00-24:00,00:00-06:00")
    assert moved == Planned(1, datetime(2026, 10, 30, 0, 0, tzinfo=CAIRO), moved=True)
    assert plan_one(row(doubled), outside="refuse").refusal is Refusal.TIME_COMES_TWICE


def test_a_window_in_the_skipped_hour_opens_when_the_clocks_have_changed() -> None:
    """On the night when Cairo's clocks go forward, 00:30 is 01:00."""
    asked = datetime(2026, 4, 23, 22, 0, tzinfo=CAIRO)
    planned = plan_one(row(asked), window="00:30-06:00")
    assert planned.call_time == datetime(2026, 4, 24, 1, 0, tzinfo=CAIRO)


def test_the_callees_own_hours_hold_for_both() -> None:
    """Cairo and New York are both at work from 16:00 to 17:00 Cairo time."""
    call = row(cairo(20, 9), 10, second=NEW_YORK)
    planned = plan_one(call, window="09:00-17:00", hours_in="callee")
    assert planned.call_time == datetime(2026, 4, 20, 9, 0, tzinfo=ZoneInfo("America/New_York"))


def test_callees_who_are_never_at_work_together_are_refused() -> None:
    """Where no opening of the next year fits, the row is refused, and says why."""
    planned = plan_one(
        row(first=NEW_YORK, second=AUSTRALIA), window="09:00-17:00", hours_in="callee"
    )
    assert planned.refusal is Refusal.NO_OPENING
    assert "every zone that both callees may be in" in planned.refusal.explanation


def test_a_number_without_a_zone_is_refused_rather_than_guessed() -> None:
    """A satellite phone is planned by the account's hours, or not at all."""
    satellite = row(second="881612345678")
    assert plan_one(satellite, window="9-17", hours_in="callee").refusal is Refusal.UNKNOWN_ZONE
    assert plan_one(satellite, window="9-17").refusal is None


def test_past_times_are_refused_unless_allowed() -> None:
    """A past time is refused, or means at once, within the hours."""
    past = row(cairo(19, 11))
    assert plan_one(past).refusal is Refusal.PAST
    assert plan_one(past, allow_past=True) == Planned(1, None, moved=True)
    moved = plan_one(past, allow_past=True, window="13:00-17:00")
    assert moved == Planned(1, cairo(19, 13), moved=True)


@pytest.mark.parametrize(
    ("not_after", "asked", "expired"),
    [
        ("2026-04-20", cairo(20, 23, 59), False),
        ("2026-04-20", cairo(21, 0), True),
        ("2026-04-20T17:00", cairo(20, 17), False),
        ("2026-04-20T17:00", cairo(20, 17, 1), True),
        ("2026-04-20T16:00+00:00", cairo(20, 17, 1), False),
        (cairo(20, 17), cairo(20, 17, 1), True),
        ("2026-04-18", None, True),
    ],
)
def test_what_comes_too_late_expires(
    not_after: str | datetime, asked: datetime | None, expired: bool
) -> None:
    """A call that would begin after the last moment is not sent; a bare date is all of that day."""
    planned = plan_one(row(asked), not_after=not_after)
    assert (planned.refusal is Refusal.EXPIRED) is expired


def test_a_move_past_the_last_moment_expires() -> None:
    """The time that counts is the one it would be moved to."""
    planned = plan_one(row(cairo(19, 18)), window="09:00-17:00", not_after="2026-04-19")
    assert planned.refusal is Refusal.EXPIRED
    spread = planner(spread=1, not_after=cairo(19, 12, 4)).plan([row()] * 3)
    assert [it.refusal for it in spread] == [None, None, Refusal.EXPIRED]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"zone": "Mars/Olympus"}, "timezone"),
        ({"hours_in": "moon"}, "hours_in: 'moon' is none of account, callee"),
        ({"outside": "ignore"}, "outside: 'ignore' is none of move, refuse"),
        ({"not_after": "tomorrow"}, "not_after: 'tomorrow' is no time"),
        ({"not_after": "25:00"}, "not_after: '25:00' is no time"),
    ],
)
def test_an_option_that_cannot_be_read_is_named(options: dict[str, str], message: str) -> None:
    """A mistake in an option says which one, and what it may be."""
    with pytest.raises(ValueError, match=message):
        planner(**options)


def test_a_last_look_before_sending() -> None:
    """An at-once goes while the window has room for all of it, moves after, and then expires."""
    looking = planner(window="09:00-17:00", not_after="2026-04-20")
    assert looking.plan_anew(row(), cairo(19, 16, 57)).call_time is None
    assert looking.plan_anew(row(), cairo(19, 16, 58)).call_time == cairo(20, 9)
    assert looking.plan_anew(row(), cairo(21, 10)).refusal is Refusal.EXPIRED


def test_a_time_at_the_end_of_the_calendar_is_refused() -> None:
    """The year 9999 is no crash."""
    last = datetime(9999, 12, 31, 12, tzinfo=UTC)
    assert plan_one(row(last), window="09:00-17:00").refusal is Refusal.NO_OPENING


def test_the_same_rows_give_the_same_plan() -> None:
    """Two planners with the same options agree on every row."""
    rows = [row(None, 1 + number % 7, second=NUMBERS[number % 40]) for number in range(300)]
    options = {"window": "08:00-20:00", "hours_in": "callee", "spread": 3, "calls": 300}
    first, second = (list(planner(**options).plan(rows)) for _ in range(2))
    assert first == second
    assert [planned.row for planned in first] == [plan_row.row for plan_row in rows]
