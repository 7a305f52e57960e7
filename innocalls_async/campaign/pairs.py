"""Keeps calls that were moved from ringing two people who are on the phone with each other.

Calls of one pair at 02:00 and at 03:00 both move to the opening at 09:00. The second can only find
the first one's callees busy.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby

import attrs

from innocalls_async.campaign.plan import Planned, Planner, PlanRow

__all__ = ["space_pairs"]

_CALLS = """
SELECT row, first_callee_number, second_callee_number, call_time, duration,
    call_time IS NOT asked_time,
    min(first_callee_number, second_callee_number) || ' ' ||
    max(first_callee_number, second_callee_number) AS pair
FROM calls WHERE state = 'pending' AND call_time IS NOT NULL ORDER BY pair, call_time, row
"""


def space_pairs(connection: sqlite3.Connection, planner: Planner) -> Iterator[tuple[int, Planned]]:
    """Plan each call again that begins while another one of the same two callees goes on, if one
    of both was moved: the time that it had, in unix seconds, and its place behind that one."""
    for _, calls in groupby(connection.execute(_CALLS), key=lambda call: call[-1]):
        end, was_moved = 0, False
        for row, first, second, start, duration, is_moved, _ in calls:
            begins, was_moved = start, is_moved or (was_moved and start < end)
            if start < end and was_moved:
                behind = datetime.fromtimestamp(end, UTC)
                (planned,) = planner.plan([PlanRow(row, first, second, behind, duration)])
                yield start, attrs.evolve(planned, moved=True)
                if planned.refusal is not None or planned.call_time is None:
                    continue
                begins = int(planned.call_time.timestamp())
            end = max(end, begins + planner.setup_seconds + duration * 60)
