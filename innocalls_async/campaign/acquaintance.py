"""Whether a service is the one that has the calls of a campaign.

To the wrong service, or with the token of another account, every call is unknown; and of a call
that is gone, the right one says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio.to_thread

from innocalls_async.campaign.errors import CampaignError
from innocalls_async.campaign.ledger import Ledger
from innocalls_async.client import AsyncBridgeClient
from innocalls_async.errors import (
    GoneError,
    MethodNotAllowedError,
    NotFoundError,
    RedirectError,
    ResponseError,
)

__all__ = ["check_acquainted"]

_ASKED: Final = 10
_STRANGE: Final = (NotFoundError, MethodNotAllowedError, RedirectError, ResponseError)


async def check_acquainted(
    ledger: Ledger, client: AsyncBridgeClient, where: str, parameters: Sequence[object]
) -> None:
    """Ask for calls for which the SQL condition `where` holds until the service knows one; those
    that were known before come first.

    Raises `CampaignError` if it knows none of ten, and what the service is not well of.
    """
    calls = await anyio.to_thread.run_sync(
        lambda: ledger.calls(
            f"state = 'scheduled' AND call_id IS NOT NULL AND ({where}) "
            "ORDER BY call_status IS NULL, row",
            parameters,
            limit=_ASKED,
        )
    )
    last: Exception | None = None
    for call in calls:
        try:
            await client.status(call.call_id or "", call.call_flow_id)
        except GoneError:
            return
        except _STRANGE as error:
            last = error
        else:
            return
    if last is not None:
        raise CampaignError(
            f"the service knows none of the {len(calls)} calls that it was asked for ({last}); is "
            "it the one, and the account, that they were scheduled with? Nothing was changed there"
        )
