"""What is done with rows once they were sent: settle doubts, cancel, move."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import anyio.to_thread
import attrs
from attrs import frozen

from innocalls_async.campaign.errors import CampaignError
from innocalls_async.campaign.intake import InputOptions
from innocalls_async.campaign.ledger import Call, Ledger, Selection
from innocalls_async.campaign.plan import Planner, PlanRow
from innocalls_async.campaign.sweep import Statement, Sweep
from innocalls_async.client import AsyncBridgeClient
from innocalls_async.errors import (
    APIError,
    GoneError,
    NotFoundError,
    RateLimitedError,
    ResponseError,
    ServerError,
)
from innocalls_async.masking import mask_text
from innocalls_async.outcomes import Done, Refused

__all__ = ["Swept", "Verdict", "cancel", "reschedule", "resolve"]

Verdict = Literal["send_again", "sent"]

_PAGE = 1000


@frozen
class Swept:
    """How many rows a sweep changed in the ledger alone and at the service, how many the service
    did not change, and how many it was too late (or not possible) for."""

    here: int
    at_service: int
    failed: int
    left: int


def resolve(
    ledger: Ledger, verdict: Verdict, selection: Selection, *, call_id: str | None = None
) -> int:
    """Settle rows in doubt, as somebody who looked says: `send_again` makes them pending, `sent`
    takes them as scheduled (under `call_id`, if it is one row and that is known). How many."""
    where, parameters = selection.condition()
    if verdict == "send_again":
        return ledger.write(
            "UPDATE calls SET state = 'pending', error = NULL, ended_at = NULL "  # noqa: S608 - ours
            f"WHERE state = 'in_doubt' AND {where}",
            *parameters,
        )
    if call_id is not None and len(ledger.calls(f"state = 'in_doubt' AND {where}", parameters)) > 1:
        raise CampaignError("a call id is one row's; choose that row")
    return ledger.write(
        "UPDATE calls SET state = 'scheduled', call_id = ?, error = NULL, "  # noqa: S608 - ours
        "next_check = iif(? IS NULL, NULL, coalesce(call_time, ended_at)) "
        f"WHERE state = 'in_doubt' AND {where}",
        call_id,
        call_id,
        *parameters,
    )


async def cancel(
    ledger: Ledger,
    client: AsyncBridgeClient,
    selection: Selection,
    *,
    concurrency: int = 100,
    clock: Callable[[], float] = time.time,
) -> Swept:
    """Cancel rows: those not sent yet here, and at the service those whose call time is still to
    come. A call that the service does not know any more is gone, which is what was wanted."""
    where, parameters = selection.condition()
    here = await anyio.to_thread.run_sync(
        ledger.write,
        "UPDATE calls SET state = 'cancelled', error = 'cancelled before it was sent' "  # noqa: S608 - ours
        f"WHERE state = 'pending' AND {where}",
        *parameters,
    )
    counts: Counter[str] = Counter()

    def settle(call: Call, outcome: Done[Any] | Refused) -> Statement:
        if isinstance(outcome, Refused) and not isinstance(
            outcome.error, NotFoundError | GoneError
        ):
            counts["failed"] += 1
            return _complaint(call, outcome)
        counts["done"] += 1
        return (
            (
                "UPDATE calls SET state = 'cancelled', next_check = NULL, new_time = NULL "
                "WHERE row = ?"
            ),
            (call.row,),
        )

    upcoming = f"state = 'scheduled' AND call_id IS NOT NULL AND call_time > ? AND {where}"
    sweep = Sweep(ledger, upcoming, [clock(), *parameters], lambda call: call.call_id, settle)
    await sweep.carry_out(lambda items: client.delete_many(items, concurrency=concurrency))
    left = f"SELECT count(*) FROM calls WHERE state = 'scheduled' AND {where}"  # noqa: S608 - ours
    ((scheduled,),) = ledger.select(left, parameters)
    return Swept(here, counts["done"], counts["failed"], scheduled - counts["failed"])


async def reschedule(
    ledger: Ledger,
    client: AsyncBridgeClient,
    shift: timedelta,
    selection: Selection,
    *,
    concurrency: int = 100,
    clock: Callable[[], float] = time.time,
) -> Swept:
    """Move the calls that are still to come by `shift`, within the hours of the campaign.

    The new times are written down before the first edit, so that one that broke off is finished
    by the next one, whatever its shift: then nothing is moved twice.
    """
    ((unfinished,),) = ledger.select("SELECT count(*) FROM calls WHERE new_time IS NOT NULL")
    left = 0
    here = 0
    if not unfinished:
        here, left = await anyio.to_thread.run_sync(
            _write_new_times, ledger, shift, selection, clock()
        )
    counts: Counter[str] = Counter()

    def settle(call: Call, outcome: Done[Any] | Refused) -> Statement:
        if isinstance(outcome, Done):
            counts["done"] += 1
            return (
                (
                    "UPDATE calls SET call_time = new_time, next_check = new_time, "
                    "new_time = NULL, call_status = NULL, checks = 0 WHERE row = ?"
                ),
                (call.row,),
            )
        counts["failed"] += 1
        return _complaint(call, outcome)

    sweep = Sweep(
        ledger,
        "new_time IS NOT NULL AND state = 'scheduled'",
        [],
        lambda call: (call.call_id, call.request(call.new_time)),
        settle,
    )
    await sweep.carry_out(lambda items: client.edit_many(items, concurrency=concurrency))
    return Swept(here, counts["done"], counts["failed"], left)


def _write_new_times(
    ledger: Ledger, shift: timedelta, selection: Selection, moment: float
) -> tuple[int, int]:
    options = InputOptions.from_json(ledger.setting("options") or InputOptions().to_json())
    planner = attrs.evolve(options.plan, spread=None).planner(
        options.timezone, datetime.fromtimestamp(moment, UTC), allow_past=False
    )
    where, parameters = selection.condition()
    upcoming = f"state IN ('pending', 'scheduled') AND call_time > ? AND {where}"
    left = 0

    def new_times() -> Iterator[tuple[int, int]]:
        nonlocal left
        last = 0
        while page := ledger.calls(
            f"{upcoming} AND row > ? ORDER BY row", (moment, *parameters, last), limit=_PAGE
        ):
            for call in page:
                new_time = _new_time(planner, call, shift)
                if new_time is None:
                    left += 1
                else:
                    yield new_time, call.row
            last = page[-1].row

    here = ledger.move(new_times())
    return here, left


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


def _complaint(call: Call, outcome: Refused) -> Statement:
    """Notes why. What the service will not have is given up; what may have been its bad moment
    is left for the next time."""
    error = outcome.error
    is_final = isinstance(error, APIError) and not isinstance(
        error, RateLimitedError | ServerError | ResponseError
    )
    forget = ", new_time = NULL" if is_final or isinstance(error, ValueError) else ""
    return (
        f"UPDATE calls SET error = ?{forget} WHERE row = ?",  # noqa: S608 - ours
        (mask_text(str(error))[:500], call.row),
    )
