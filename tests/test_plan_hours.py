"""Calling hours as people write them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from innocalls_async.campaign.hours import Hours, parse_days, parse_windows, read_holidays
from innocalls_async.campaign.zones import callee_zones

HOUR = 3600


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("09:00-17:00", ((9 * HOUR, 17 * HOUR),)),
        ("9-17", ((9 * HOUR, 17 * HOUR),)),
        ("16:00-20:00, 09:00-13:00", ((9 * HOUR, 13 * HOUR), (16 * HOUR, 20 * HOUR))),
        ("09:00-13:00,12:30-14:00,14:00-15:00", ((9 * HOUR, 15 * HOUR),)),
        ("00:00-24:00", ((0, 24 * HOUR),)),
    ],
)
def test_windows_are_read(text: str, windows: tuple[tuple[int, int], ...]) -> None:
    """Windows come out in order, and those that overlap or touch as one."""
    assert parse_windows(text) == windows


@pytest.mark.parametrize("text", ["", "9", "09:00", "09:00-25:00", "09:60-10:00", "nine-five", "-"])
def test_a_window_that_cannot_be_read_is_named(text: str) -> None:
    """What is no window is refused with an example of one."""
    with pytest.raises(ValueError, match=r"window: .* such as 09:00-17:00"):
        parse_windows(text)


def test_a_window_over_midnight_is_refused_with_the_way_to_write_it() -> None:
    """Over midnight takes two windows, and the message spells them."""
    with pytest.raises(ValueError, match=r"20:00-24:00,00:00-02:00"):
        parse_windows("20:00-02:00")


def test_an_empty_window_is_refused() -> None:
    """A window that opens when it closes is no window."""
    with pytest.raises(ValueError, match="empty"):
        parse_windows("09:00-09:00")


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("sun-thu", {6, 0, 1, 2, 3}),
        ("mon,wed,fri", {0, 2, 4}),
        ("Monday - Friday", {0, 1, 2, 3, 4}),
        ("sat", {5}),
        ("fri-mon,wed", {4, 5, 6, 0, 2}),
    ],
)
def test_days_are_read(text: str, days: set[int]) -> None:
    """Days are names, short or long, and ranges that may run over the weekend."""
    assert parse_days(text) == days


@pytest.mark.parametrize("text", ["", "su", "sun-", "funday", "1-5"])
def test_a_day_that_cannot_be_read_is_named(text: str) -> None:
    """What is no day is refused with an example of some."""
    with pytest.raises(ValueError, match=r"days: .* write sun-thu"):
        parse_days(text)


def test_holidays_are_read(tmp_path: Path) -> None:
    """Dates, ranges, names, comments, empty lines and a byte order mark are all understood."""
    file = tmp_path / "holidays.txt"
    text = "\ufeff# Egypt\n2026-04-13  Sham el-Nessim\n\n2026-05-26..2026-05-28, عيد # three days\n"
    file.write_text(text, encoding="utf-8")
    days = {date(2026, 4, 13), date(2026, 5, 26), date(2026, 5, 27), date(2026, 5, 28)}
    assert read_holidays(file) == days


@pytest.mark.parametrize("line", ["13/04/2026", "2026-05-28..2026-05-26", "2026-05-01..x", "x"])
def test_a_bad_line_of_holidays_is_named(tmp_path: Path, line: str) -> None:
    """The file and the line are in the message."""
    file = tmp_path / "holidays.txt"
    file.write_text(f"2026-01-07\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"holidays\.txt, line 2"):
        read_holidays(file)


def test_a_binary_holidays_file_is_refused(tmp_path: Path) -> None:
    """A file that is no text is refused by its name."""
    file = tmp_path / "holidays.xlsx"
    file.write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(ValueError, match=r"holidays\.xlsx: not a text file"):
        read_holidays(file)


def test_nothing_said_is_no_hours() -> None:
    """Without any option there are no hours, with one the others are open."""
    assert Hours.read(None, None, None) is None
    assert Hours.read(None, "sun-thu", None) == Hours(days=frozenset({6, 0, 1, 2, 3}))


@pytest.mark.parametrize(
    ("number", "zones"),
    [
        ("201123456789", {"Africa/Cairo"}),
        ("2099", {"Africa/Cairo"}),
        ("12125551234", {"America/New_York"}),
        ("966501234567", {"Asia/Riyadh"}),
        ("881612345678", set()),
        ("999123456789", set()),
    ],
)
def test_a_number_tells_its_zones(number: str, zones: set[str]) -> None:
    """A number is in the zones of its area or country, and nowhere if neither is known."""
    assert {zone.key for zone in callee_zones(number)} == zones


def test_a_mobile_of_a_wide_country_may_be_anywhere_in_it() -> None:
    """An Australian mobile tells no area, so all of Australia's zones count."""
    zones = {zone.key for zone in callee_zones("61412345678")}
    assert {"Australia/Sydney", "Australia/Perth", "Indian/Christmas"} <= zones
    assert {zone.key for zone in callee_zones("61282345678")} == {"Australia/Sydney"}
