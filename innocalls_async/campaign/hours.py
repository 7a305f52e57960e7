"""Calling hours as people write them: windows of the day, days of the week, holidays."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Self

from attrs import frozen

__all__ = ["DAY_SECONDS", "Hours", "parse_days", "parse_windows", "read_holidays"]

DAY_SECONDS = 86_400

_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SHORTEST_DAY_NAME = 3
# A longer range is a slip of the pen in a year, and would fill the memory.
_LONGEST_HOLIDAY = timedelta(days=366)


@frozen(cache_hash=True)
class Hours:
    """When a phone may ring, on the wall clock of whoever is called.

    `windows` are (opening, closing) in seconds of the day, in order and apart; a closing of
    86,400 is midnight. `days` are 0 (Monday) to 6 (Sunday). No phone rings on `holidays`.
    Without arguments: always.
    """

    windows: tuple[tuple[int, int], ...] = ((0, DAY_SECONDS),)
    days: frozenset[int] = frozenset(range(7))
    holidays: frozenset[date] = frozenset()

    @classmethod
    def read(cls, window: str | None, days: str | None, holidays: str | Path | None) -> Self | None:
        """From what a person writes; None where nothing is said. ValueError names the option."""
        if window is None and days is None and holidays is None:
            return None
        return cls(
            windows=((0, DAY_SECONDS),) if window is None else parse_windows(window),
            days=frozenset(range(7)) if days is None else parse_days(days),
            holidays=frozenset() if holidays is None else read_holidays(holidays),
        )

    def windows_on(self, day: date) -> tuple[tuple[int, int], ...]:
        """The windows of that day: none where it is a day off or a holiday."""
        if day.weekday() not in self.days or day in self.holidays:
            return ()
        return self.windows


def parse_windows(text: str) -> tuple[tuple[int, int], ...]:
    """`09:00-13:00,16:00-20:00` in seconds of the day; windows that overlap or touch are joined.

    `24:00` closes at midnight. ValueError for anything else, and for a window over midnight:
    whose holiday the hours after midnight are would be a guess.
    """
    joined: list[tuple[int, int]] = []
    for opening, closing in sorted(_parse_window(part.strip()) for part in text.split(",")):
        if joined and opening <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(closing, joined[-1][1]))
        else:
            joined.append((opening, closing))
    return tuple(joined)


def _parse_window(text: str) -> tuple[int, int]:
    opening_text, dash, closing_text = text.partition("-")
    opening, closing = _parse_clock(opening_text.strip()), _parse_clock(closing_text.strip())
    if not dash or opening is None or closing is None:
        raise ValueError(f"window: {text!r} is no window of the day such as 09:00-17:00")
    if opening == closing:
        raise ValueError(f"window: {text!r} is empty; write 00:00-24:00 for the whole day")
    if opening > closing:
        raise ValueError(
            f"window: {text!r} runs over midnight; write it as two windows, "
            f"{opening_text.strip()}-24:00,00:00-{closing_text.strip()}"
        )
    return opening, closing


def _parse_clock(text: str) -> int | None:
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    hour, minute = int(found[1]), int(found[2] or 0)
    seconds = hour * 3600 + minute * 60
    return seconds if minute < 60 and seconds <= DAY_SECONDS else None


def parse_days(text: str) -> frozenset[int]:
    """`sun-thu` or `mon,wed,fri` as 0 (Monday) to 6 (Sunday); a range may run over the weekend."""
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        start = _parse_day(first, text)
        end = _parse_day(last, text) if "-" in part else start
        days.update((start + step) % 7 for step in range((end - start) % 7 + 1))
    return frozenset(days)


def _parse_day(name: str, text: str) -> int:
    word = name.strip().casefold()
    for number, day in enumerate(_DAYS):
        if len(word) >= _SHORTEST_DAY_NAME and day.startswith(word):
            return number
    raise ValueError(f"days: {word!r} in {text!r} is no day; write sun-thu or mon,wed,fri")


def read_holidays(path: str | Path) -> frozenset[date]:
    """The days of a holidays file: a date or a range on each line, then a name if you like.

        2026-04-13  Sham el-Nessim
        2026-05-26..2026-05-30  Eid al-Adha   # both days are in it

    ValueError, with the file and the line, for a line that cannot be read; OSError as it comes.
    """
    holidays: set[date] = set()
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file in UTF-8") from None
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split(maxsplit=1)
        if words:
            holidays.update(_parse_holiday(words[0], f"{path}, line {number}"))
    return frozenset(holidays)


def _parse_holiday(text: str, place: str) -> list[date]:
    first_text, dots, last_text = text.rstrip(",;:").partition("..")
    try:
        first = date.fromisoformat(first_text)
        last = date.fromisoformat(last_text) if dots else first
    except ValueError:
        raise ValueError(
            f"{place}: {text!r} is no date; write 2026-04-20 or 2026-04-20..2026-04-23"
        ) from None
    if not timedelta(0) <= last - first <= _LONGEST_HOLIDAY:
        raise ValueError(f"{place}: {text!r} ends before it begins, or is longer than a year")
    return [first + timedelta(days=step) for step in range((last - first).days + 1)]
