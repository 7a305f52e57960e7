"""Calls of the same two people, once their times were moved."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from campaign_drill import row, write_calls
from hypothesis import given, settings
from hypothesis import strategies as st

from innocalls_async.campaign import InputOptions, PlanOptions, State, intake
from innocalls_async.campaign.ledger import Ledger

NOW = datetime(2026, 4, 18, 12, tzinfo=UTC)
CAIRO = ZoneInfo("Africa/Cairo")


def load(folder: Path, rows: list[dict[str, str]], plan: PlanOptions) -> dict[int, str | None]:
    """The call times that rows got, on the wall clock of Cairo; None for one that is not sent."""
    ledger = folder / "run.db"
    options = InputOptions(plan=plan, allow_duplicates=True)
    intake.load(write_calls(folder / "calls.csv", rows), ledger, options, now=NOW)
    with Ledger(ledger, owner=False) as opened:
        found = list(opened.select("SELECT row, state, call_time FROM calls"))
    return {
        number: f"{datetime.fromtimestamp(at, CAIRO):%d %H:%M}" if state == State.PENDING else None
        for number, state, at in found
    }


def pair(*times: str) -> list[dict[str, str]]:
    """Rows of the same two people at these times, each second one the other way round."""
    numbers = ("201000000001", "201000000002")
    return [
        row(
            place,
            first_callee_number=numbers[place % 2],
            second_callee_number=numbers[1 - place % 2],
            call_time=f"2026-04-{time}",
        )
        for place, time in enumerate(times)
    ]


def test_moved_calls_of_a_pair_follow_each_other(tmp_path: Path) -> None:
    """Calls of two people at 2 and at 3 in the night ring one after the other in the morning."""
    rows = pair("20 02:00", "20 03:00", "20 09:08")
    times = load(tmp_path, rows, PlanOptions(window="09:00-17:00"))
    assert list(times.values()) == ["20 09:00", "20 09:06", "20 09:12"]


def test_there_may_be_no_time_left(tmp_path: Path) -> None:
    """One that finds no room behind the other before the last moment expires."""
    plan = PlanOptions(window="09:00-17:00", not_after="2026-04-20T09:03")
    assert list(load(tmp_path, pair("20 02:00", "20 03:00"), plan).values()) == ["20 09:00", None]


def test_times_that_were_asked_for_stay(tmp_path: Path) -> None:
    """Calls that nothing moved keep their times, however close: somebody wanted them so."""
    times = load(tmp_path, pair("20 10:00", "20 10:01"), PlanOptions(window="09:00-17:00"))
    assert list(times.values()) == ["20 10:00", "20 10:01"]


def _moment(text: str) -> datetime:
    return datetime.strptime(f"2026-01-{text}", "%Y-%m-%d %H:%M")  # noqa: DTZ007 - compared only


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 23 * 60), min_size=2, max_size=8, unique=True))
def test_no_moved_call_finds_its_callees_busy(
    tmp_path_factory: pytest.TempPathFactory, minutes: list[int]
) -> None:
    """Whatever times are asked for, a call that was moved never overlaps another of its pair."""
    asked = [f"20 {minute // 60:02}:{minute % 60:02}" for minute in minutes]
    plan = PlanOptions(window="09:00-10:00,16:00-17:00")
    times = load(tmp_path_factory.mktemp("pairs"), pair(*asked), plan)
    ordered = sorted((time or "", number) for number, time in times.items())
    for (first, one), (second, other) in pairwise(ordered):
        was_moved = asked[one - 1] != first or asked[other - 1] != second
        gap = _moment(second) - _moment(first)
        assert not was_moved or gap.total_seconds() >= 360
