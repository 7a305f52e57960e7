"""What a plan comes to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from innocalls_async.campaign.plan import Planned, Planner, PlanRow, Refusal
from innocalls_async.campaign.plan_summary import PlanSummary

KATHMANDU = ZoneInfo("Asia/Kathmandu")  # a quarter to six hours ahead of UTC
NOW = datetime(2026, 4, 19, 12, 10, tzinfo=KATHMANDU)


def test_a_summary_counts_what_goes_by() -> None:
    """Rows, moves, refusals, first and last call and the busiest hour are those of the plan."""
    times = [None, NOW + timedelta(minutes=10), NOW + timedelta(hours=9), NOW - timedelta(days=1)]
    rows = [PlanRow(number, "97714410000", "97714420000", at, 2) for number, at in enumerate(times)]
    planner = Planner.from_options(zone=KATHMANDU, now=NOW, window="09:00-17:00")
    summary = PlanSummary(KATHMANDU, NOW)
    planned = list(summary.counting(planner.plan(rows)))
    assert len(planned) == summary.rows == 4
    assert (summary.moved, summary.to_send) == (1, 3)
    assert summary.refused == {Refusal.PAST: 1}
    assert summary.first_call == NOW
    assert summary.last_call == datetime(2026, 4, 20, 9, 0, tzinfo=KATHMANDU)
    assert summary.busiest_hour == (datetime(2026, 4, 19, 12, 0, tzinfo=KATHMANDU), 2)
    assert summary.sending_seconds(rate=1.5) == 2


def test_an_empty_plan_has_no_calls() -> None:
    """Without a row to send there is no first, no last and no busiest one."""
    summary = PlanSummary(KATHMANDU, NOW)
    summary.add(Planned(1, None, moved=False, refusal=Refusal.EXPIRED))
    assert summary.first_call is None
    assert summary.last_call is None
    assert summary.busiest_hour is None
    assert summary.sending_seconds(20) == 0


def test_the_first_of_two_busy_hours_is_named() -> None:
    """Where two hours have as many calls, the earlier one is the busiest."""
    summary = PlanSummary(KATHMANDU, NOW)
    for hour in (15, 14):
        summary.add(Planned(1, datetime(2026, 4, 19, hour, 59, tzinfo=KATHMANDU), moved=False))
    assert summary.busiest_hour == (datetime(2026, 4, 19, 14, 0, tzinfo=KATHMANDU), 1)
    assert summary.first_call is not None
    assert summary.first_call.astimezone(UTC).hour == 9
