"""Plans rows anew while others keep their lines: calls whose time went by while nobody was
sending, and calls that somebody moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from innocalls_async.campaign.intake import InputOptions
from innocalls_async.campaign.ledger import Call, Ledger
from innocalls_async.campaign.plan import Planner, PlanRow

__all__ = ["calls_where", "planner_around", "spread_late_calls"]

_PAGE: Final = 1000

# Only what the plan itself chose the time for: what the file wants at a time that is over expires.
_LATE: Final = "state = 'pending' AND asked_time IS NULL AND call_time < ?"
_ON_A_LINE: Final = (
    "(call_time >= ? AND state IN ('pending', 'sending', 'scheduled', 'in_doubt') "
    "OR call_time < ? AND call_time + duration * 60 + 60 > ? AND state IN ('scheduled', "
    "'in_doubt'))"
)


def spread_late_calls(ledger: Ledger, options: InputOptions, now: float) -> int:
    """Give the calls that are late new times under the cap on lines; how many there were.

    Sent at once, as they would be otherwise, they would all ring together. Rows that no time is
    left for keep theirs, and expire or are refused when it is their turn.
    """
    if options.plan.spread is None or not _count(ledger, _LATE, [now]):
        return 0
    planner = planner_around(ledger, options, now, _LATE, [now])

    def new_times() -> Iterator[tuple[int, int]]:
        rows = (_row(call, None) for call in calls_where(ledger, _LATE, [now]))
        for planned in planner.plan(rows):
            if planned.call_time is not None:
                yield int(planned.call_time.timestamp()), planned.row

    return ledger.move(new_times())


def planner_around(
    ledger: Ledger, options: InputOptions, now: float, where: str, parameters: Sequence[object]
) -> Planner:
    """A planner for the rows for which `where` holds, which knows the lines that all the others
    take from `now` on."""
    moment = datetime.fromtimestamp(int(now) + 1, UTC)
    others, theirs = f"{_ON_A_LINE} AND NOT ({where})", [now, now, now, *parameters]
    calls = _count(ledger, others, theirs) + _count(ledger, where, parameters)
    planner = options.plan.planner(options.timezone, moment, allow_past=False, calls=calls)
    if options.plan.spread is not None:
        kept = calls_where(ledger, others, theirs)
        for _ in planner.plan(_row(call, moment) for call in kept):
            pass  # it remembers the lines that these take
    return planner


def calls_where(ledger: Ledger, where: str, parameters: Sequence[object]) -> Iterator[Call]:
    """The rows for which the SQL condition `where` holds, in order, a page at a time."""
    last = 0
    while page := ledger.calls(
        f"({where}) AND row > ? ORDER BY row", [*parameters, last], limit=_PAGE
    ):
        yield from page
        last = page[-1].row


def _count(ledger: Ledger, where: str, parameters: Sequence[object]) -> int:
    ((count,),) = ledger.select(f"SELECT count(*) FROM calls WHERE {where}", parameters)  # noqa: S608
    return int(count)


def _row(call: Call, earliest: datetime | None) -> PlanRow:
    moment = None
    if earliest is not None and call.call_time is not None:
        moment = max(datetime.fromtimestamp(call.call_time, UTC), earliest)
    return PlanRow(
        call.row, call.first_callee_number, call.second_callee_number, moment, call.duration
    )
