"""Moves calls that are still to come, within the hours and lines of the campaign."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import anyio.to_thread
from attrs import define, field

from innocalls_async.campaign.acquaintance import check_acquainted
from innocalls_async.campaign.after import Swept, beyond_reach, complaint
from innocalls_async.campaign.intake import InputOptions
from innocalls_async.campaign.ledger import Call, Ledger, Selection
from innocalls_async.campaign.plan import Planner, PlanRow
from innocalls_async.campaign.replan import calls_where, planner_around
from innocalls_async.campaign.sweep import Statement, Sweep
from innocalls_async.client import AsyncBridgeClient
from innocalls_async.outcomes import Done, Refused

__all__ = ["reschedule"]

_UNFINISHED: Final = "new_time IS NOT NULL AND state = 'scheduled'"
_UPCOMING: Final = (
    "(state = 'pending' OR (state = 'scheduled' AND call_id IS NOT NULL)) "
    "AND call_time > ? AND new_time IS NULL"
)
# Rows that are named; there may be thousands.
_NAMED: Final = 20


async def reschedule(
    ledger: Ledger,
    client: AsyncBridgeClient,
    shift: timedelta,
    selection: Selection,
    *,
    concurrency: int = 100,
    clock: Callable[[], float] = time.time,
) -> Swept:
    """Move the calls that are still to come by `shift`, within the hours and lines of the
    campaign.

    The new times are written down before the first edit. What an earlier one could not finish is
    finished first; and if that one was the same, that is all: so the same again moves nothing
    twice. Another one then moves the rows that no earlier one is stuck on.

    Raises `CampaignError`, and changes nothing, if the service seems to know none of the calls.
    """
    move = _Move(ledger, client, shift, selection, concurrency, clock())
    return await move.carry_out()


@define
class _Move:
    ledger: Ledger
    client: AsyncBridgeClient
    shift: timedelta
    selection: Selection
    concurrency: int
    moment: float
    done: int = 0
    given_up: int = 0
    here: int = 0
    left: int = 0
    _which: str = field(init=False)
    _parameters: list[object] = field(init=False)

    def __attrs_post_init__(self) -> None:
        where, parameters = self.selection.condition()
        self._which, self._parameters = f"{_UPCOMING} AND {where}", [self.moment, *parameters]

    async def carry_out(self) -> Swept:
        await check_acquainted(
            self.ledger, self.client, f"({self._which}) OR new_time IS NOT NULL", self._parameters
        )
        unfinished = await self._unfinished()
        went_on = bool(unfinished) and self.ledger.setting("reschedule") == self._wanted
        if unfinished:
            await self._edit()
        if not went_on:
            await anyio.to_thread.run_sync(self._write_new_times)
            await self._edit()
        stuck = await self._unfinished()
        failed = self.given_up + len(stuck)
        in_doubt, without_id = beyond_reach(self.ledger, self.selection, self.moment)
        return Swept(
            self.here,
            self.done,
            failed,
            self.left,
            stuck[:_NAMED],
            went_on,
            in_doubt=in_doubt,
            without_id=without_id,
        )

    @property
    def _wanted(self) -> str:
        rows, refs = list(self.selection.rows), list(self.selection.refs)
        return json.dumps([self.shift.total_seconds(), rows, refs])

    async def _unfinished(self) -> list[int]:
        query = f"SELECT row FROM calls WHERE {_UNFINISHED} ORDER BY row"  # noqa: S608 - ours
        return await anyio.to_thread.run_sync(lambda: [row for (row,) in self.ledger.select(query)])

    async def _edit(self) -> None:
        sweep = Sweep(
            self.ledger,
            _UNFINISHED,
            [],
            lambda call: (call.call_id, call.request(call.new_time)),
            self._settle,
        )
        await sweep.carry_out(
            lambda items: self.client.edit_many(items, concurrency=self.concurrency)
        )

    def _settle(self, call: Call, outcome: Done[Any] | Refused) -> Statement:
        if isinstance(outcome, Done):
            self.done += 1
            return (
                (
                    "UPDATE calls SET call_time = new_time, next_check = new_time, "
                    "new_time = NULL, call_status = NULL, checks = 0, error = NULL WHERE row = ?"
                ),
                (call.row,),
            )
        statement, parameters = complaint(call, outcome)
        self.given_up += "new_time = NULL" in statement
        return statement, parameters

    def _write_new_times(self) -> None:
        # Before them, so that a crash between the two forgets this one, and repeats none.
        self.ledger.write(
            "INSERT INTO settings VALUES ('reschedule', ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            self._wanted,
        )
        options = InputOptions.from_json(self.ledger.setting("options") or InputOptions().to_json())
        planner = planner_around(self.ledger, options, self.moment, self._which, self._parameters)
        self.left += self._count_untouched()
        self.here = self.ledger.move(self._new_times(planner))

    def _count_untouched(self) -> int:
        """Rows that go at once, and calls whose time is over."""
        where, parameters = self.selection.condition()
        query = (
            "SELECT count(*) FROM calls WHERE state IN ('pending', 'scheduled') "  # noqa: S608 - ours
            f"AND coalesce(call_time, 0) <= ? AND new_time IS NULL AND {where}"
        )
        ((count,),) = self.ledger.select(query, [self.moment, *parameters])
        return int(count)

    def _new_times(self, planner: Planner) -> Iterator[tuple[int, int]]:
        for call in calls_where(self.ledger, self._which, self._parameters):
            new_time = _new_time(planner, call, self.shift)
            if new_time is None:
                self.left += 1
            else:
                yield new_time, call.row


def _new_time(planner: Planner, call: Call, shift: timedelta) -> int | None:
    assert call.call_time is not None  # noqa: S101 - as selected
    moment = datetime.fromtimestamp(call.call_time, UTC) + shift
    row = PlanRow(
        call.row, call.first_callee_number, call.second_callee_number, moment, call.duration
    )
    (planned,) = planner.plan([row])
    if planned.refusal is not None or planned.call_time is None:
        return None
    return int(planned.call_time.timestamp())
