"""How far the finished calls got: answers by leg, by hour and by flow."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import reduce
from operator import add
from zoneinfo import ZoneInfo

from attrs import astuple, frozen

from innocalls_async.models import LegState

__all__ = ["Leg", "Rates", "read_by_flow", "read_by_hour", "read_leg"]

_QUARTER = 900
_NOT_RUNG = (LegState.NOT_SENT, LegState.UNKNOWN)
_RUNG = ", ".join(f"'{state}'" for state in LegState if state not in _NOT_RUNG)
# The plus keeps SQLite from its index: most rows are scheduled, and a scan is quicker.
_FINISHED = "+state = 'scheduled' AND call_status IN ('completed', 'failed')"
_RATES = f"""
    count(*),
    count(*) FILTER (WHERE first_status IN ({_RUNG})),
    count(*) FILTER (WHERE first_status = 'answered'),
    count(*) FILTER (WHERE second_status IN ({_RUNG})),
    count(*) FILTER (WHERE second_status = 'answered'),
    count(*) FILTER (WHERE first_status = 'answered' AND second_status = 'answered')
"""


@frozen
class Rates:
    """Finished calls, and how far they got."""

    finished: int = 0
    first_rung: int = 0
    first_answered: int = 0
    second_rung: int = 0
    second_answered: int = 0
    connected: int = 0

    def __add__(self, other: Rates) -> Rates:
        return Rates(*map(add, astuple(self), astuple(other)))

    @property
    def first_rate(self) -> float | None:
        return self.first_answered / self.first_rung if self.first_rung else None

    @property
    def second_rate(self) -> float | None:
        return self.second_answered / self.second_rung if self.second_rung else None

    @property
    def connect_rate(self) -> float | None:
        return self.connected / self.finished if self.finished else None


@frozen
class Leg:
    """What became of one callee of the finished calls: calls by the leg's state."""

    name: str
    states: Mapping[str, int]


def read_leg(connection: sqlite3.Connection, leg: str) -> Leg:
    # A leg's state comes from our own enumeration or is NULL: nobody asked for it yet.
    found = connection.execute(
        f"SELECT coalesce({leg}_status, 'unknown'), count(*) AS calls "  # noqa: S608 - ours
        f"FROM calls WHERE {_FINISHED} GROUP BY 1 ORDER BY calls DESC, 1"
    )
    return Leg(leg, dict(found))


def read_by_hour(connection: sqlite3.Connection, zone: ZoneInfo) -> dict[int, Rates]:
    # Wall clocks differ from UTC by whole quarters of an hour.
    found = connection.execute(
        f"SELECT cast(coalesce(actual_time, call_time, sent_at) AS INTEGER) / {_QUARTER}, "  # noqa: S608 - ours
        f"{_RATES} FROM calls WHERE {_FINISHED} GROUP BY 1"
    )
    hours: dict[int, list[Rates]] = {}
    for quarter, *rates in found:
        if quarter is not None:
            hour = datetime.fromtimestamp(quarter * _QUARTER, UTC).astimezone(zone).hour
            hours.setdefault(hour, []).append(Rates(*rates))
    return {hour: reduce(add, hours[hour]) for hour in sorted(hours)}


def read_by_flow(connection: sqlite3.Connection) -> dict[str, Rates]:
    found = connection.execute(
        f"SELECT coalesce(call_flow_id, ''), {_RATES} FROM calls WHERE {_FINISHED} "  # noqa: S608 - ours
        "GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    return {flow: Rates(*rates) for flow, *rates in found}
