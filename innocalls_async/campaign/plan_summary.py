"""What a plan comes to, counted while its rows go by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from attrs import define, field

from innocalls_async.campaign.plan import Planned, Refusal

__all__ = ["PlanSummary"]

_QUARTER = 15


@define
class PlanSummary:
    """The figures of `--dry-run`. A call that goes at once counts as one at `now`.

    summary = PlanSummary(zone, now)
    for planned in summary.counting(planner.plan(rows)):
        ...
    """

    zone: ZoneInfo
    now: datetime
    rows: int = 0
    moved: int = 0
    refused: Counter[Refusal] = field(factory=Counter)
    _first: float = field(init=False, default=math.inf)
    _last: float = field(init=False, default=-math.inf)
    _at_once: int = field(init=False, default=0)
    _minutes: Counter[int] = field(init=False, factory=Counter)

    def counting(self, planned_rows: Iterable[Planned]) -> Iterator[Planned]:
        """The same rows, counted as they go by."""
        for planned in planned_rows:
            self.add(planned)
            yield planned

    def add(self, planned: Planned) -> None:
        self.rows += 1
        if planned.refusal is not None:
            self.refused[planned.refusal] += 1
            return
        self.moved += planned.moved
        moment = (planned.call_time or self.now).timestamp()
        self._first = min(self._first, moment)
        self._last = max(self._last, moment)
        if planned.call_time is None:
            self._at_once += 1
        else:
            self._minutes[int(moment) // 60] += 1

    def replace(self, before: int, planned: Planned) -> None:
        """Count a row anew that had a call time, in unix seconds."""
        self._minutes[before // 60] -= 1
        self.rows -= 1
        self.add(planned)

    @property
    def minutes(self) -> Mapping[int | None, int]:
        """How many calls begin in each minute since 1970; under None, how many at once."""
        return dict([*self._minutes.items(), (None, self._at_once)])

    @property
    def first_call(self) -> datetime | None:
        """When the first call begins, on the account's wall clock; None without calls."""
        return datetime.fromtimestamp(self._first, self.zone) if self.to_send else None

    @property
    def last_call(self) -> datetime | None:
        """When the last call begins, on the account's wall clock; None without calls."""
        return datetime.fromtimestamp(self._last, self.zone) if self.to_send else None

    @property
    def to_send(self) -> int:
        """Rows that are not refused."""
        return self.rows - self.refused.total()

    @property
    def calls_by_hour(self) -> dict[datetime, int]:
        """How many calls begin in each hour of the account's wall clock, in order."""
        hours: Counter[datetime] = Counter()
        for quarter, calls in sorted(self._quarters().items()):
            moment = datetime.fromtimestamp(quarter * _QUARTER * 60, self.zone)
            hours[moment.replace(minute=0)] += calls
        return dict(hours)

    def _quarters(self) -> Counter[int]:
        # Wall clocks differ from UTC by whole quarters of an hour.
        quarters: Counter[int] = Counter()
        for minute, calls in self._minutes.items():
            quarters[minute // _QUARTER] += calls
        quarters[int(self.now.timestamp()) // 60 // _QUARTER] += self._at_once
        return +quarters

    @property
    def busiest_hour(self) -> tuple[datetime, int] | None:
        """The hour in which most calls begin, the first of several, and how many those are."""
        return max(self.calls_by_hour.items(), key=lambda item: item[1], default=None)

    def sending_seconds(self, rate: float) -> float:
        """How long sending takes at `rate` requests a second, if the service keeps up with it."""
        return self.to_send / rate
