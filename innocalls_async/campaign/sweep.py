"""One operation over many rows of a ledger that are at the service already.

What these do may be done twice without harm, so nothing is noted before it; what came of it is
written in groups, also when the sweep is cancelled.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, TypeAlias

import anyio
import anyio.to_thread
from attrs import define, field

from innocalls_async.campaign.ledger import Call, Ledger
from innocalls_async.errors import AuthenticationError, PermissionDeniedError
from innocalls_async.fanout import FanOut
from innocalls_async.outcomes import Done, Refused

__all__ = ["Statement", "Sweep"]

Statement: TypeAlias = tuple[str, Sequence[object]]
"""What is to be written of one row: SQL and its parameters."""

_PAGE: Final = 500
_GROUP: Final = 100


@define(eq=False)
class Sweep(AsyncIterator[Any]):
    """Gives the rows for which the SQL condition `where` holds to a fan-out, each as `item` has
    it, and `settle` says what to write of an outcome."""

    ledger: Ledger
    where: str
    parameters: Sequence[object]
    item: Callable[[Call], Any]
    settle: Callable[[Call, Done[Any] | Refused], Statement]
    _thread: anyio.CapacityLimiter = field(init=False, factory=lambda: anyio.CapacityLimiter(1))
    _page: list[Call] = field(init=False, factory=list)
    _last: int = field(init=False, default=0)
    _given: dict[int, Call] = field(init=False, factory=dict)
    _given_count: int = field(init=False, default=0)
    _statements: list[Statement] = field(init=False, factory=list)
    _fatal: Exception | None = field(init=False, default=None)

    async def carry_out(self, operate: Callable[[Sweep], FanOut[Any, Done[Any] | Refused]]) -> None:
        """Do it. `AuthenticationError` and `PermissionDeniedError` end it, and so does a
        cancellation; either way what is on the wire is waited for and written down."""
        outcomes = operate(self)
        try:
            async for outcome in outcomes:
                self._note(outcome)
                if self._fatal is not None:
                    break
                if len(self._statements) >= _GROUP:
                    await self._flush()
        finally:
            with anyio.CancelScope(shield=True):
                await outcomes.aclose()
                for outcome in outcomes.untaken:
                    self._note(outcome)
                await self._flush()
        if self._fatal is not None:
            raise self._fatal

    def _note(self, outcome: Done[Any] | Refused) -> None:
        if isinstance(outcome, Refused) and isinstance(
            outcome.error, AuthenticationError | PermissionDeniedError
        ):
            self._fatal = outcome.error
            return
        self._statements.append(self.settle(self._given.pop(outcome.index), outcome))

    async def _flush(self) -> None:
        statements, self._statements = self._statements, []
        if statements:
            await anyio.to_thread.run_sync(self.ledger.write_all, statements, limiter=self._thread)

    async def __anext__(self) -> Any:
        if not self._page:
            self._page = await anyio.to_thread.run_sync(self._read, limiter=self._thread)
        if not self._page:
            raise StopAsyncIteration
        call = self._page.pop(0)
        self._given[self._given_count] = call
        self._given_count += 1
        return self.item(call)

    def _read(self) -> list[Call]:
        # In the order of the rows, from the last one on: what was settled meanwhile may or may
        # not still fit the condition, and is not met again either way.
        page = self.ledger.calls(
            f"({self.where}) AND row > ? ORDER BY row", (*self.parameters, self._last), limit=_PAGE
        )
        if page:
            self._last = page[-1].row
        return page
