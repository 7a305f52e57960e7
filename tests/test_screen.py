"""The last look at a row, held against the wall clock of everybody who is called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import parse
from phonenumbers.timezone import time_zones_for_number
from test_plan import AUSTRALIA, EGYPT, NEW_YORK, ZONES, is_open_throughout, moments_near_changes

from innocalls_async.campaign.calls import Block, Call
from innocalls_async.campaign.hours import Hours, parse_windows
from innocalls_async.campaign.intake import InputOptions, PlanOptions
from innocalls_async.campaign.screen import LATE_SECONDS, SOON_SECONDS, Screening

WINDOWS = ("09:00-17:00", "08:00-12:00,16:00-21:00", "00:00-24:00")
CAIRO = ZoneInfo("Africa/Cairo")


def call_at(call_time: int | None, second: str = "201123456780") -> Call:
    return Call(1, "r", "flow", EGYPT, "a", second, "b", 5, call_time, call_time, None, 0, None)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_nobody_is_rung_outside_the_windows(data: st.DataObject) -> None:
    """At whatever moments rows are looked at, in any zone and across its clock changes, one that
    goes at once or is moved is within the windows, of both legs."""
    zone = data.draw(st.sampled_from(ZONES))
    window = data.draw(st.sampled_from(WINDOWS))
    hours_in = data.draw(st.sampled_from(["account", "callee"]))
    plan = PlanOptions(window=window, hours_in=hours_in)
    screen = Screening.of(InputOptions(timezone=zone, plan=plan))
    moment = data.draw(moments_near_changes(ZoneInfo(zone))).timestamp()
    for _ in range(4):
        moment += data.draw(st.floats(0, 7200))
        wait = data.draw(st.none() | st.integers(-LATE_SECONDS, 0))
        second = data.draw(st.sampled_from(["201123456780", NEW_YORK, AUSTRALIA]))
        call = call_at(None if wait is None else int(moment) + wait, second)
        found = screen(call, moment)
        if isinstance(found, Block):
            continue
        start = int(moment) if found.at_once or found.call_time is None else found.call_time
        assert start >= int(moment)
        zones = {zone} if hours_in == "account" else _zones(EGYPT) | _zones(second)
        hours = Hours(parse_windows(window))
        for name in zones:
            assert is_open_throughout(hours, ZoneInfo(name), start, 360)


def _zones(number: str) -> set[str]:
    return set(time_zones_for_number(parse(f"+{number}")))


def test_a_window_that_closes_between_two_looks() -> None:
    """Seconds after a window has closed nothing goes any more, however short ago a row did."""
    screen = Screening.of(InputOptions(plan=PlanOptions(window="09:00-17:00")))
    last = datetime(2026, 4, 19, 16, 54, 0, tzinfo=CAIRO)
    found = screen(call_at(None), last.timestamp())
    assert isinstance(found, Call)
    assert found.at_once
    moved = screen(call_at(None), (last + timedelta(seconds=1)).timestamp())
    assert isinstance(moved, Call)
    assert not moved.at_once
    assert moved.call_time == datetime(2026, 4, 20, 9, tzinfo=CAIRO).timestamp()


def test_a_time_at_the_opening_is_not_rung_before_it() -> None:
    """A call for the moment at which the window opens goes with its time, also just before."""
    for outside in ("move", "refuse"):
        plan = PlanOptions(window="09:00-17:00", outside=outside)
        opening = int(datetime(2026, 4, 19, 9, tzinfo=CAIRO).timestamp())
        call = call_at(opening)
        assert Screening.of(InputOptions(plan=plan))(call, opening - SOON_SECONDS + 1) == call


def test_the_time_stays_with_the_row() -> None:
    """A late row goes at once under the time it was asked for, and much later expires."""
    screen = Screening.of(InputOptions())
    asked = int(datetime(2026, 4, 19, 9, tzinfo=UTC).timestamp())
    found = screen(call_at(asked), asked + LATE_SECONDS)
    assert isinstance(found, Call)
    assert (found.at_once, found.call_time) == (True, asked)
    assert found.request().call_time is None
    assert isinstance(screen(call_at(asked), asked + LATE_SECONDS + 1), Block)


def test_the_holidays_are_read_once(tmp_path: Path) -> None:
    """A holidays file that goes away while a campaign runs for hours is no trouble."""
    holidays = tmp_path / "holidays.txt"
    holidays.write_text("2026-04-19\n", encoding="utf-8")
    screen = Screening.of(InputOptions(plan=PlanOptions(holidays=str(holidays))))
    holidays.unlink()
    for hour in (0, 12, 23):
        moment = datetime(2026, 4, 19, hour, tzinfo=CAIRO).timestamp()
        found = screen(call_at(None), moment)
        assert isinstance(found, Call)
        assert found.call_time == datetime(2026, 4, 20, tzinfo=CAIRO).timestamp()
