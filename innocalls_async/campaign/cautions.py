"""What somebody should know of a plan before phones ring by it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from innocalls_async.campaign.intake import PlanOptions

__all__ = ["cautions"]

# What laws and decency agree on nearly everywhere as the hours to call strangers in.
_MORNING, _EVENING = 8, 21
# So many calls that begin in one minute are more lines than most accounts have.
_CROWD = 100
_QUARTER = 15


def cautions(
    minutes: Mapping[int | None, int],
    zone: ZoneInfo,
    now: datetime,
    plan: PlanOptions,
) -> list[str]:
    """One sentence for each thing. `minutes` are how many calls begin in each minute since 1970,
    and, under None, how many at once; `zone` is the account's."""
    found = []
    night = 0 if plan.window is not None else _at_night(minutes, zone, now)
    if night:
        calls = "1 call is" if night == 1 else f"{night} calls are"
        found.append(
            f"{calls} to ring between {_EVENING}:00 and {_MORNING:02}:00 in {zone}; "
            "--window 09:00-17:00 keeps calls to the day"
        )
    timed = ((count, minute) for minute, count in minutes.items() if minute is not None)
    most, minute = max(timed, default=(0, 0))
    if most > _CROWD and plan.spread is None:
        when = datetime.fromtimestamp(minute * 60, zone)
        found.append(
            f"{most} calls are to begin in the minute of {when:%Y-%m-%d %H:%M}; "
            "--spread --lines N gives each one a time when a line is free"
        )
    return found


def _at_night(minutes: Mapping[int | None, int], zone: ZoneInfo, now: datetime) -> int:
    quarters: dict[int, int] = {}
    for minute, count in minutes.items():
        # Wall clocks differ from UTC by whole quarters of an hour.
        quarter = (int(now.timestamp()) // 60 if minute is None else minute) // _QUARTER
        quarters[quarter] = quarters.get(quarter, 0) + count
    return sum(count for quarter, count in quarters.items() if _is_night(quarter, zone))


def _is_night(quarter: int, zone: ZoneInfo) -> bool:
    hour = datetime.fromtimestamp(quarter * _QUARTER * 60, zone).hour
    return not _MORNING <= hour < _EVENING
