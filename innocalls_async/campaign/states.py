"""The states of a row, and the moves between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

__all__ = ["MOVES", "State"]


class State(StrEnum):
    """What became of a row so far. The values are those of the ledger's column `state`."""

    PENDING = "pending"
    """It has not been sent."""
    SENDING = "sending"
    """It is on its way, or about to be."""
    SCHEDULED = "scheduled"
    """The service has the call on its books."""
    REFUSED = "refused"
    """It is not on the books, and sending it again would not help."""
    IN_DOUBT = "in_doubt"
    """It may be on the books; nothing sends it again by itself."""
    EXPIRED = "expired"
    """Its time was over before it could be sent."""
    CANCELLED = "cancelled"
    """It was taken off, here or at the service, because somebody said so."""


# The ledger itself refuses every other move, whoever asks for it. Out of `in_doubt` leads only a
# person's word, and out of `refused`, unless it was the service as a whole that refused; out of
# `scheduled` only a cancellation.
MOVES: Final[Mapping[State, frozenset[State]]] = {
    State.PENDING: frozenset({State.SENDING, State.REFUSED, State.EXPIRED, State.CANCELLED}),
    State.SENDING: frozenset({State.SCHEDULED, State.REFUSED, State.IN_DOUBT, State.PENDING}),
    State.IN_DOUBT: frozenset({State.PENDING, State.SCHEDULED}),
    State.SCHEDULED: frozenset({State.CANCELLED}),
    State.REFUSED: frozenset({State.PENDING}),
    State.EXPIRED: frozenset(),
    State.CANCELLED: frozenset(),
}
