"""How fast the rows went out, run by run, against the limit that was asked for."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections import Counter
from itertools import accumulate

from attrs import define, field, frozen

__all__ = ["Pace", "PacePoint", "Run", "read_pace"]

_POINTS = 90


@frozen
class Run:
    """One run of the campaign: rows sent last by it, over how many seconds from the first to the
    last of them; `peak` is its busiest second, `limit` rows a second (None: not known)."""

    run: int
    limit: float | None
    rows: int
    seconds: int
    peak: int
    result: str | None

    @property
    def rate(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0


@frozen
class PacePoint:
    """Rows a second over one stretch; `elapsed` seconds of sending lie before it, the time
    between runs left out."""

    elapsed: int
    seconds: int
    rate: float
    limit: float | None


@frozen
class Pace:
    """Every run, and the sending of all of them in some ninety stretches."""

    runs: tuple[Run, ...] = ()
    points: tuple[PacePoint, ...] = ()


@define
class _Tally:
    run: int
    start: float
    limit: float | None
    result: str | None
    by_second: Counter[int] = field(factory=Counter)

    @property
    def seconds(self) -> int:
        return max(self.by_second) - min(self.by_second) + 1 if self.by_second else 0

    def summed(self) -> Run:
        peak = max(self.by_second.values(), default=0)
        rows = self.by_second.total()
        return Run(self.run, self.limit, rows, self.seconds, peak, self.result)

    def points(self, elapsed: int, width: int) -> list[PacePoint]:
        if not self.by_second:
            return []
        first, last = min(self.by_second), max(self.by_second)
        stretches: Counter[int] = Counter()
        for second, rows in self.by_second.items():
            stretches[(second - first) // width] += rows
        points = []
        for start in range(first, last + 1, width):
            seconds = min(width, last + 1 - start)
            rate = stretches[(start - first) // width] / seconds
            points.append(PacePoint(elapsed + start - first, seconds, rate, self.limit))
        return points


def read_pace(connection: sqlite3.Connection) -> Pace:
    """The pace that a ledger tells of."""
    runs = connection.execute("SELECT run, started_at, rate, result FROM runs ORDER BY started_at")
    tallies = [_Tally(run, start or 0.0, limit, result) for run, start, limit, result in runs]
    # A ledger may know of no run, and rows may be a moment older than the first one.
    starts = [tally.start for tally in tallies] or [0.0]
    tallies = tallies or [_Tally(1, 0.0, None, None)]
    sent = connection.execute(
        "SELECT cast(sent_at AS INTEGER), count(*) FROM calls WHERE sent_at IS NOT NULL GROUP BY 1"
    )
    for second, rows in sent:
        tallies[max(0, bisect_right(starts, second + 1) - 1)].by_second[second] += rows
    width = max(1, -(-sum(tally.seconds for tally in tallies) // _POINTS))
    elapsed = accumulate((tally.seconds for tally in tallies), initial=0)
    points = [
        point
        for tally, before in zip(tallies, elapsed, strict=False)
        for point in tally.points(before, width)
    ]
    return Pace(tuple(tally.summed() for tally in tallies), tuple(points))
