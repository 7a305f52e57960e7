"""Times on the wire are naive wall times in the account's zone; ours are always aware."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = ["load_zone", "parse_duration", "parse_wall_time", "wall_time"]

_DURATION = re.compile(
    r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(second|sec|minute|min|hour|hr)?s?\.?\s*",
    re.IGNORECASE | re.ASCII,  # else U+017F counts as an "s", U+0130 as an "i"
)
_UNIT_SECONDS = {"second": 1, "sec": 1, "minute": 60, "min": 60, "hour": 3600, "hr": 3600}


def load_zone(timezone: str | ZoneInfo) -> ZoneInfo:
    """The zone of that IANA name; ValueError if there is none."""
    if isinstance(timezone, ZoneInfo):
        return timezone
    if not isinstance(timezone, str):
        raise TypeError(f"timezone: a str or ZoneInfo is needed, not {type(timezone).__name__}")
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"timezone: {timezone!r} is no IANA time zone such as 'Africa/Cairo'"
        ) from None


def wall_time(moment: datetime, zone: ZoneInfo) -> str:
    """`moment` as the service reads it: `2026-04-23 00:57:00` in `zone`, to the second.

    ValueError where the clocks of `zone` are put back over it: that wall time comes twice, and
    the service could not know which of the two is meant. Also where it is beyond the year 9999.
    """
    try:
        local = moment.astimezone(zone)
    except OverflowError:
        raise ValueError(f"call_time: {moment.isoformat()} is out of range") from None
    if local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset():
        raise ValueError(
            f"call_time: {local:%Y-%m-%d %H:%M:%S} comes twice in {zone.key}, where the clocks "
            "are put back over it; choose a time outside that hour"
        )
    return local.replace(tzinfo=None).isoformat(" ", "seconds")


def parse_wall_time(text: object, zone: ZoneInfo) -> datetime | None:
    """The aware time that a reply gives, or None if it cannot be read."""
    if not isinstance(text, str) or ":" not in text:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment.astimezone(zone)
    except (ValueError, OverflowError):
        return None


def parse_duration(value: object) -> timedelta | None:
    """`5 Minutes` as a timedelta; a bare number is minutes, as in a request. None if neither."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    found = _DURATION.fullmatch(str(value))
    if found is None:
        return None
    amount, unit = found.groups()
    return timedelta(seconds=float(amount) * _UNIT_SECONDS[(unit or "minute").lower()])
