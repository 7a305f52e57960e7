"""Follows calls to their end: each is asked for after its time, ever more patiently.

When a call is due is in the ledger, so that watching goes on where it was ended.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import anyio
import anyio.to_thread
from attrs import define, field, frozen

from innocalls_async.campaign.acquaintance import check_acquainted
from innocalls_async.campaign.ledger import Call, Ledger
from innocalls_async.campaign.sweep import Statement, Sweep
from innocalls_async.client import AsyncBridgeClient
from innocalls_async.errors import NotFoundError
from innocalls_async.masking import mask_text
from innocalls_async.models import CallStatus
from innocalls_async.outcomes import Done, Refused
from innocalls_async.times import load_zone

__all__ = ["Watch", "Watched"]

# A call that the service has not heard of at so many polls in a row is not a new one that is not
# listed yet.
_UNKNOWN_AFTER: Final = 7
# A pause is doubled no further: before, it is longer than anybody's patience.
_DOUBLED: Final = 30


@frozen
class Watched:
    """How many calls were found at their end, how many the service does not know, and how many
    are not at their end yet; when one of those is asked for next, in the campaign's zone."""

    final: int
    unknown: int
    left: int
    next_due: datetime | None = None


@define(eq=False)
class Watch:
    """Polls every scheduled call of `ledger` until it completed, failed or was deleted.

    The first poll of a call is at its call time; each next one twice as long after, from
    `interval` seconds on up to `patience`. `clock` gives unix seconds.
    """

    ledger: Ledger
    client: AsyncBridgeClient
    concurrency: int = 100
    interval: float = 2.0
    patience: float = 300.0
    clock: Callable[[], float] = time.time
    final: int = 0
    unknown: int = 0
    total: int = 0
    _not_found: Counter[int] = field(init=False, factory=Counter)  # in a row, by row
    _is_acquainted: bool = field(init=False, default=False)  # the service knows some call
    _is_doubted: bool = field(init=False, default=False)
    _due: float | None = field(init=False, default=None)
    _zone: ZoneInfo = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._zone = load_zone(self.ledger.setting("timezone") or "UTC")

    async def run(self, timeout: float | None = None) -> Watched:
        """Return when all calls are at their end, or after `timeout` seconds; at once where no
        call is due by then.

        Raises `AuthenticationError` and `PermissionDeniedError`, `LedgerError`, and
        `CampaignError` if the service seems to know none of the calls.
        """
        self.total = await self._left()
        with anyio.move_on_after(timeout) as within:
            while (due_in := await self._due_in()) is not None:
                if due_in <= 0:
                    self._due = None
                    await self._poll()
                elif self.clock is time.time and anyio.current_time() + due_in > within.deadline:
                    break  # another clock may run faster, and bring it in time
                else:
                    # Not all of it at once, for the same reason.
                    await anyio.sleep(min(due_in, self.interval))
        await self._due_in()
        return self._watched(await self._left())

    @property
    def so_far(self) -> Watched:
        """How far it is, without asking the ledger."""
        return self._watched(self.total - self.final - self.unknown)

    def _watched(self, left: int) -> Watched:
        due = None if self._due is None else datetime.fromtimestamp(self._due, self._zone)
        return Watched(self.final, self.unknown, left, due)

    async def _poll(self) -> None:
        sweep = Sweep(
            self.ledger,
            "next_check <= ? AND state = 'scheduled'",
            [self.clock()],
            lambda call: (call.call_id, call.call_flow_id),
            self._settle,
        )
        await sweep.carry_out(
            lambda calls: self.client.status_many(calls, concurrency=self.concurrency)
        )
        if self._is_doubted and not self._is_acquainted:
            await check_acquainted(self.ledger, self.client, "1", ())
            self._is_acquainted = True

    def _settle(self, call: Call, outcome: Done[CallStatus] | Refused) -> Statement:
        moment = self.clock()
        doubled = 2.0 ** min(call.checks, _DOUBLED)
        next_check: float | None = moment + min(self.patience, self.interval * doubled)
        if isinstance(outcome, Refused):
            error: str | None = mask_text(str(outcome.error))[:500]
            if self._is_unknown(call, outcome.error):
                self.unknown += 1
                next_check = None
            return (
                (
                    "UPDATE calls SET error = ?, next_check = ?, checks = checks + 1, "
                    "checked_at = ? WHERE row = ?"
                ),
                (error, next_check, moment, call.row),
            )
        self._is_acquainted = True
        self._not_found.pop(call.row, None)
        status = outcome.result
        if status.is_final:
            self.final += 1
            next_check = None
        actual = status.actual_date_time
        return (
            (
                "UPDATE calls SET call_status = ?, first_status = ?, second_status = ?, "
                "actual_time = ?, error = NULL, next_check = ?, checks = checks + 1, "
                "checked_at = ? WHERE row = ?"
            ),
            (
                _word(status.call_status),
                _word(status.first_recipient_status),
                _word(status.second_recipient_status),
                None if actual is None else int(actual.timestamp()),
                next_check,
                moment,
                call.row,
            ),
        )

    def _is_unknown(self, call: Call, error: Exception) -> bool:
        """Whether the call is given up. Only a service that knows another one may say so."""
        if not isinstance(error, NotFoundError):
            return False
        self._not_found[call.row] += 1
        is_over = self._not_found[call.row] >= _UNKNOWN_AFTER
        self._is_doubted = self._is_doubted or is_over
        return is_over and self._is_acquainted

    async def _due_in(self) -> float | None:
        (due,) = await self._ask("SELECT min(next_check) FROM calls WHERE next_check IS NOT NULL")
        self._due = None if due is None else float(due)
        return None if self._due is None else self._due - self.clock()

    async def _left(self) -> int:
        (left,) = await self._ask("SELECT count(*) FROM calls WHERE next_check IS NOT NULL")
        return int(left)

    async def _ask(self, query: str) -> tuple[Any, ...]:
        return await anyio.to_thread.run_sync(lambda: next(self.ledger.select(query)))


def _word(state: object) -> str | None:
    return None if state is None else str(state)
