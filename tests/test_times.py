"""Naive wall times on the wire, aware times on our side, and no time that could be another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innocalls_async.times import load_zone, parse_duration, parse_wall_time, wall_time

CAIRO = ZoneInfo("Africa/Cairo")
ZONES = st.sampled_from(
    [
        ZoneInfo(name)
        for name in (
            "Africa/Cairo",
            "Africa/Casablanca",  # its clocks go back for Ramadan
            "America/New_York",
            "America/St_Johns",
            "Asia/Kathmandu",
            "Asia/Riyadh",
            "Australia/Lord_Howe",  # by half an hour
            "Europe/London",
            "Pacific/Apia",
            "UTC",
        )
    ]
)
MOMENTS = st.datetimes(
    datetime(1995, 1, 1),  # noqa: DTZ001 - the zone comes with it
    datetime(2037, 12, 31),  # noqa: DTZ001
    timezones=st.just(UTC),
).map(lambda moment: moment.replace(microsecond=0))


def comes_twice(moment: datetime, zone: ZoneInfo) -> bool:
    """Whether another moment has the same wall time, found by looking at the moments around."""
    wall = moment.astimezone(zone).replace(tzinfo=None)
    steps = (timedelta(minutes=30 * step) for step in range(-50, 51) if step)
    return any((moment + step).astimezone(zone).replace(tzinfo=None) == wall for step in steps)


@settings(deadline=None, max_examples=120)
@given(MOMENTS, ZONES, ZONES)
def test_a_moment_comes_back_from_the_wire(moment: datetime, zone: ZoneInfo, own: ZoneInfo) -> None:
    """Whatever zone the caller thinks in, the wall time sent means the same moment."""
    given_time = moment.astimezone(own)
    if comes_twice(moment, zone):
        with pytest.raises(ValueError, match=r"^call_time: .* comes twice"):
            wall_time(given_time, zone)
    else:
        text = wall_time(given_time, zone)
        assert datetime.strptime(text, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - the wire's form
        assert parse_wall_time(text, zone) == moment


@pytest.mark.parametrize(
    ("zone", "turned", "back_minutes"),
    [
        # The first moment after the clocks were put back, in UTC.
        ("Africa/Cairo", "2026-10-29T21:00", 60),
        ("Europe/London", "2026-10-25T01:00", 60),
        ("America/New_York", "2026-11-01T06:00", 60),
        ("Australia/Lord_Howe", "2026-04-04T15:00", 30),
    ],
)
@settings(deadline=None, max_examples=20)
@given(seconds=st.integers(0, 1799))
def test_both_moments_of_a_wall_time_that_comes_twice_are_refused(
    zone: str, turned: str, back_minutes: int, seconds: int
) -> None:
    """Where clocks are put back, the repeated hour is refused, and nothing beside it."""
    turn = datetime.fromisoformat(turned).replace(tzinfo=UTC)
    back, offset = timedelta(minutes=back_minutes), timedelta(seconds=seconds)
    for moment in (turn + offset, turn - back + offset):
        with pytest.raises(ValueError, match="comes twice"):
            wall_time(moment, ZoneInfo(zone))
    assert wall_time(turn + back, ZoneInfo(zone))
    assert wall_time(turn - back - timedelta(seconds=1), ZoneInfo(zone))


def test_a_time_is_written_as_in_the_document() -> None:
    """The sample's form, in the account's zone, without parts of a second."""
    moment = datetime(2020, 4, 22, 22, 57, 0, 999_999, tzinfo=UTC)
    assert wall_time(moment, CAIRO) == "2020-04-23 00:57:00"


def test_a_time_beyond_the_calendar_is_a_value_error() -> None:
    """The last hours of the year 9999 cannot be written in a zone east of the caller's."""
    with pytest.raises(ValueError, match=r"^call_time: .* is out of range"):
        wall_time(datetime.max.replace(tzinfo=UTC), CAIRO)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2020-04-23 10:31:47", "2020-04-23 08:31:47"),
        (" 2020-04-23T10:31:47 ", "2020-04-23 08:31:47"),
        ("2020-04-23T10:31:47Z", "2020-04-23 10:31:47"),
        ("2020-04-23T10:31:47+03:00", "2020-04-23 07:31:47"),
        ("2020-07-23 10:31", "2020-07-23 08:31:00"),
    ],
)
def test_a_reply_gives_aware_times_in_the_zone(text: str, utc: str) -> None:
    """Naive times are the account's; those with an offset are brought there."""
    moment = parse_wall_time(text, CAIRO)
    assert moment is not None
    assert moment.tzinfo is CAIRO
    assert moment == datetime.fromisoformat(utc).replace(tzinfo=UTC)


@settings(deadline=None, max_examples=120)
@given(
    st.text()
    | st.from_regex(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?", fullmatch=True)
    | st.none()
    | st.integers()
    | st.floats(),
    ZONES,
)
def test_a_time_that_cannot_be_read_is_none(value: object, zone: ZoneInfo) -> None:
    """Whatever a reply holds, its time is an aware datetime or None."""
    moment = parse_wall_time(value, zone)
    assert moment is None or moment.utcoffset() is not None


@pytest.mark.parametrize(
    "value", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2020-04-23", "", None, 5]
)
def test_times_out_of_range_and_bare_dates_are_none(value: object) -> None:
    """A date alone says no time, and a moment outside the calendar cannot be told."""
    assert parse_wall_time(value, CAIRO) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5 Minutes", 300),
        ("1 minute", 60),
        ("90 sec.", 90),
        ("2 hours", 7200),
        ("1.5 hr", 5400),
        ("7", 420),
        (7, 420),
        (0.5, 30),
        ("0 Seconds", 0),
    ],
)
def test_durations_are_read(value: object, seconds: float) -> None:
    """The document's `5 Minutes`, its kin, and bare minutes."""
    assert parse_duration(value) == timedelta(seconds=seconds)


@settings(deadline=None, max_examples=120)
@given(
    st.text()
    | st.from_regex(r"(?i)[0-9]{1,12} ?(second|minute|hour)s?")
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.none()
    | st.lists(st.integers())
)
def test_a_duration_that_cannot_be_read_is_none(value: object) -> None:
    """Whatever a reply holds, its duration is a timedelta that is not negative, or None."""
    duration = parse_duration(value)
    assert duration is None or duration >= timedelta(0)


@pytest.mark.parametrize(
    "value", [True, None, -5, "-5", "soon", "5 \u017feconds", "5 m\u0130nutes", "1e9"]
)
def test_odd_durations_are_none(value: object) -> None:
    """Truth values, signs, words, and letters that only look like ours."""
    assert parse_duration(value) is None


def test_zones_are_loaded_by_name() -> None:
    """A name or a ZoneInfo is taken."""
    assert load_zone("Africa/Cairo") is CAIRO
    assert load_zone(CAIRO) is CAIRO


@pytest.mark.parametrize("name", ["Cairo", "", "../etc/passwd", "Africa", "a\0b", "x" * 300])
def test_a_zone_that_is_none_is_a_value_error(name: str) -> None:
    """The error names the option and shows what a zone looks like."""
    with pytest.raises(ValueError, match=r"^timezone: .*Africa/Cairo"):
        load_zone(name)
