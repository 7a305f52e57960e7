"""The sandbox's books: every call that is really on them, and every request that came."""

from __future__ import annotations

from collections import Counter

import attrs

from innocalls_async.masking import mask_number
from innocalls_async.sandbox.forms import CallForm


@attrs.define
class CallRecord:
    """One call on the books."""

    call_id: str
    form: CallForm
    created_at: float
    """Unix seconds of the sandbox's clock, as are `starts_at` and `deleted_at`."""
    starts_at: float
    visible_from: float
    """Monotonic seconds before which its status is not found."""
    deleted_at: float | None = None

    @property
    def is_deleted(self) -> bool:
        """Whether a delete has taken it off; it stays listed."""
        return self.deleted_at is not None

    @property
    def never_rings(self) -> bool:
        """Whether a delete took it off before the first phone rang."""
        return self.deleted_at is not None and self.deleted_at < self.starts_at

    @property
    def pair(self) -> tuple[str, str]:
        """Who is called: the first number and the second."""
        return self.form.pair


@attrs.define
class Account:
    """What really happened; read it at any time, also while a server thread writes it."""

    calls: dict[str, CallRecord] = attrs.field(factory=dict, repr=False)
    operations: Counter[str] = attrs.field(factory=Counter)
    """Requests by operation, refused and failed ones too; `other` is none of the five."""
    statuses: Counter[int] = attrs.field(factory=Counter)
    """Replies by HTTP status; a dropped connection gave none."""
    faults: Counter[str] = attrs.field(factory=Counter)
    """Faults met, by name."""
    accepted: int = 0
    rejected: int = 0
    """Requests that the rate limit answered with a 429."""
    highest_window: int = 0
    """The most requests that came in any window of the limit, rejected ones too."""

    # Readers copy the calls in one step, which the GIL makes atomic, then count at leisure.

    @property
    def created(self) -> int:
        """How many calls were ever created, deleted ones too."""
        return len(self.calls)

    @property
    def by_pair(self) -> Counter[tuple[str, str]]:
        """How many calls each pair of numbers got, deleted ones too."""
        return Counter(record.pair for record in tuple(self.calls.values()))

    @property
    def dialled_twice(self) -> list[tuple[str, str]]:
        """The pairs with more than one call that rings or rang, whatever was deleted since."""
        rung = (record for record in tuple(self.calls.values()) if not record.never_rings)
        return [pair for pair, count in Counter(r.pair for r in rung).items() if count > 1]

    def summary(self) -> dict[str, object]:
        """The account as JSON values; of each number only the last three digits show."""
        records = tuple(self.calls.values())
        return {
            "created": len(records),
            "deleted": sum(record.is_deleted for record in records),
            "pairs": len({record.pair for record in records}),
            "dialled_twice": [[*map(mask_number, pair)] for pair in self.dialled_twice],
            "operations": dict(self.operations),
            "statuses": {str(status): count for status, count in dict(self.statuses).items()},
            "faults": dict(self.faults),
            "accepted": self.accepted,
            "rejected": self.rejected,
            "highest_window": self.highest_window,
        }
