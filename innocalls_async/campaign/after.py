"""What is done with rows once they were sent: settle doubts, take back, cancel."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import anyio.to_thread
from attrs import frozen

from innocalls_async.campaign.acquaintance import check_acquainted
from innocalls_async.campaign.errors import CampaignError
from innocalls_async.campaign.ledger import Call, Ledger, Selection
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

__all__ = [
    "REFUSED_THERE",
    "Swept",
    "Verdict",
    "beyond_reach",
    "cancel",
    "complaint",
    "resolve",
]

Verdict = Literal["send_again", "send_refused_again", "sent"]


@frozen
class Swept:
    """How many rows a sweep changed in the ledger alone and at the service, how many the service
    did not change, and how many it was too late (or not possible) for. `stuck` are the first rows
    that the next sweep tries again; `went_on` says that it was to finish an earlier one. Of those
    still to come, nobody can change from here what is `in_doubt`, nor what is on the books
    `without_id`: they may ring as they were."""

    here: int
    at_service: int
    failed: int
    left: int
    stuck: Sequence[int] = ()
    went_on: bool = False
    in_doubt: int = 0
    without_id: int = 0


# What was refused here, for its hour or somebody's wish, stays so: nothing looks again.
REFUSED_THERE: Final = "state = 'refused' AND attempts > 0"


def resolve(
    ledger: Ledger, verdict: Verdict, selection: Selection, *, call_id: str | None = None
) -> int:
    """Settle rows in doubt, as somebody who looked says: `send_again` makes them pending, `sent`
    takes them as scheduled (under `call_id`, if it is one row and that is known).
    `send_refused_again` makes those pending that the service refused. How many."""
    where, parameters = selection.condition()
    if verdict != "sent":
        those = {"send_again": "state = 'in_doubt'", "send_refused_again": REFUSED_THERE}
        return ledger.write(
            "UPDATE calls SET state = 'pending', error = NULL, ended_at = NULL "  # noqa: S608 - ours
            f"WHERE {those[verdict]} AND {where}",
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
    come. A call that the service does not know any more is gone, which is what was wanted; but
    `CampaignError` if it seems to know none of them, and then nothing is changed."""
    where, parameters = selection.condition()
    upcoming = f"state = 'scheduled' AND call_id IS NOT NULL AND call_time > ? AND {where}"
    chosen = [clock(), *parameters]
    await check_acquainted(ledger, client, upcoming, chosen)
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
            return complaint(call, outcome)
        counts["done"] += 1
        return (
            (
                "UPDATE calls SET state = 'cancelled', next_check = NULL, new_time = NULL "
                "WHERE row = ?"
            ),
            (call.row,),
        )

    sweep = Sweep(ledger, upcoming, chosen, lambda call: call.call_id, settle)
    await sweep.carry_out(lambda items: client.delete_many(items, concurrency=concurrency))
    left = f"SELECT count(*) FROM calls WHERE state = 'scheduled' AND {where}"  # noqa: S608 - ours
    ((scheduled,),) = ledger.select(left, parameters)
    in_doubt, without_id = beyond_reach(ledger, selection, clock())
    left_alone = scheduled - counts["failed"] - without_id
    return Swept(
        here,
        counts["done"],
        counts["failed"],
        left_alone,
        in_doubt=in_doubt,
        without_id=without_id,
    )


def beyond_reach(ledger: Ledger, selection: Selection, moment: float) -> tuple[int, int]:
    """How many rows still to come are in doubt, and how many are on the books without an id."""
    where, parameters = selection.condition()
    ((in_doubt, without_id),) = ledger.select(
        "SELECT count(*) FILTER (WHERE state = 'in_doubt'), "  # noqa: S608 - ours
        "count(*) FILTER (WHERE state = 'scheduled' AND call_id IS NULL) "
        f"FROM calls WHERE call_time > ? AND {where}",
        [moment, *parameters],
    )
    return in_doubt, without_id


def complaint(call: Call, outcome: Refused) -> Statement:
    """Notes why the service did not change a row. What it will not have is given up; what may have
    been its bad moment is left for the next time."""
    error = outcome.error
    is_final = isinstance(error, APIError) and not isinstance(
        error, RateLimitedError | ServerError | ResponseError
    )
    forget = ", new_time = NULL" if is_final or isinstance(error, ValueError) else ""
    return (
        f"UPDATE calls SET error = ?{forget} WHERE row = ?",  # noqa: S608 - ours
        (mask_text(str(error))[:500], call.row),
    )
