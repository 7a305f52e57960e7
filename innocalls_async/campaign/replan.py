"""Spreads calls anew whose time went by while nobody was sending."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from innocalls_async.campaign.intake import InputOptions
from innocalls_async.campaign.ledger import Call, Ledger
from innocalls_async.campaign.plan import PlanRow

__all__ = ["spread_late_calls"]

_PAGE: Final = 1000

# Only what the plan itself chose the time for: what the file wants at a time that is over expires.
_LATE: Final = "state = 'pending' AND asked_time IS NULL AND call_time < :now"
_KEPT: Final = (
    "call_time >= :now AND state IN ('pending', 'sending', 'scheduled', 'in_doubt') "
    "OR call_time < :now AND call_time + duration * 60 + 60 > :now AND state IN ('scheduled', "
    "'in_doubt')"
)


def spread_late_calls(ledger: Ledger, options: InputOptions, now: float) -> int:
    """Give the calls that are late new times under the cap on lines; how many there were.

    Sent at once, as they would be otherwise, they would all ring together. Rows that no time is
    left for keep theirs, and expire or are refused when it is their turn.
    """
    if options.plan.spread is None:
        return 0
    ((late,),) = ledger.select(f"SELECT count(*) FROM calls WHERE {_LATE}", {"now": now})  # noqa: S608
    if not late:
        return 0
    ((kept,),) = ledger.select(f"SELECT count(*) FROM calls WHERE {_KEPT}", {"now": now})  # noqa: S608
    moment = datetime.fromtimestamp(int(now) + 1, UTC)
    planner = options.plan.planner(options.timezone, moment, allow_past=False, calls=kept + late)
    for _ in planner.plan(_row(call, moment) for call in _calls(ledger, _KEPT, now)):
        pass  # it remembers the lines that these take

    def new_times() -> Iterator[tuple[int, int]]:
        rows = (_row(call, None) for call in _calls(ledger, _LATE, now))
        for planned in planner.plan(rows):
            if planned.call_time is not None:
                yield int(planned.call_time.timestamp()), planned.row

    return ledger.move(new_times())


def _calls(ledger: Ledger, where: str, now: float) -> Iterator[Call]:
    query = f"({where}) AND row > :last ORDER BY row"
    last = 0
    while page := ledger.calls(query, {"now": now, "last": last}, limit=_PAGE):
        yield from page
        last = page[-1].row


def _row(call: Call, earliest: datetime | None) -> PlanRow:
    moment = None
    if earliest is not None and call.call_time is not None:
        moment = max(datetime.fromtimestamp(call.call_time, UTC), earliest)
    return PlanRow(
        call.row, call.first_callee_number, call.second_callee_number, moment, call.duration
    )
