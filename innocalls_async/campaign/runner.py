"""Sends what is pending, and keeps the books while it does.

Two tasks share one `Runner`. One takes outcomes from `bridge_many`, which reads its requests from
the runner itself; the other, the bookkeeper, is alone with the ledger, in one thread. Each turn
of it is one transaction: outcomes are recorded, and as many rows become `sending` as may go soon.
So the disk is waited for a few times in a second however fast the calls go out; and a row counts
as sending until its outcome is on the disk, which bounds what a crash leaves in doubt by
`concurrency`, whatever the moment.

    pending ─(turn)─> claimed ─(fan-out reads)─> given ─(outcome)─> records ─(turn)─> settled
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from enum import StrEnum
from typing import Final

import anyio
import anyio.to_thread

from innocalls_async.campaign.errors import DiskError, LedgerError
from innocalls_async.campaign.ledger import Call, Ledger, Record, Screen, Turn
from innocalls_async.campaign.settling import ROUNDS, Settling
from innocalls_async.campaign.states import State
from innocalls_async.client import AsyncBridgeClient
from innocalls_async.fanout import FanOut
from innocalls_async.models import BridgeRequest
from innocalls_async.outcomes import Outcome

__all__ = ["Result", "Runner"]

# Outcomes that come within so many seconds share a transaction: a turn costs as much as recording
# ten rows does, and at 1,000 rows a second this makes it twenty.
GROUP_SECONDS: Final = 0.02
# Rows become `sending` so many seconds ahead of the rate: a few turns' worth, and no more,
# because what is only about to go would be in doubt after a crash too.
AHEAD_SECONDS: Final = 0.05


class Result(StrEnum):
    """How a run ended."""

    DONE = "done"
    """Nothing is pending any more."""
    STOPPED = "stopped"
    """The service would not have it, or too many refusals; what is pending can be sent later."""
    INTERRUPTED = "interrupted"
    """It was asked to drain."""


class Runner(AsyncIterator[BridgeRequest]):
    """One run over `ledger`. `run` is called once; `drain` may be called at any time."""

    def __init__(
        self,
        ledger: Ledger,
        client: AsyncBridgeClient,
        *,
        concurrency: int,
        rate: float | None,
        stop_after: int | None,
        screen: Screen | None,
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._concurrency = concurrency
        self._pace = 0.0 if rate is None else 1 / rate  # seconds a row
        self._due = 0.0  # the next row, by the event loop's clock
        self._ahead = concurrency if rate is None else math.ceil(rate * AHEAD_SECONDS)
        self._settling = Settling(concurrency, stop_after)
        self._screen = screen
        self._thread = anyio.CapacityLimiter(1)
        self._claimed: deque[Call] = deque()
        self._given: dict[int, Call] = {}  # by the fan-out's index
        self._given_count = 0
        self._records: list[Record] = []
        self._sending = 0  # rows that the ledger has as sending
        self._last_row = 0
        self._round = 1
        self._reached_end = False
        self._moved_in_round = 0
        self._breakage: Exception | None = None
        self._is_over = False  # nothing more goes out
        self._is_drained = False
        self._failure: Exception | None = None
        self._sending_scope = anyio.CancelScope()
        self._work = anyio.Event()  # for the bookkeeper
        self._news = anyio.Event()  # for whoever reads the requests
        self.settled: Counter[State] = Counter()
        self.reason: str | None = None

    # From outside

    async def run(self) -> Result:
        """Send what is pending. `LedgerError` if the ledger failed: then nothing was sent that
        was not on it, and outcomes that it could not take are in doubt from then on."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._keep_books)
                try:
                    await self._send()
                except Exception as error:  # raised below, and not in a group
                    self._breakage = error
                self._is_over = True
                self._work.set()
        finally:
            with anyio.CancelScope(shield=True):
                await self._close_books()
        if (failure := self._failure or self._breakage) is not None:
            raise failure
        if self._is_drained:
            return Result.INTERRUPTED
        return Result.DONE if self.reason is None else Result.STOPPED

    @property
    def complaint(self) -> str | None:
        """The latest thing that the service had against a row."""
        return self._settling.complaint

    def drain(self) -> None:
        """Nothing new goes out; what is on the wire is waited for and recorded."""
        self._is_drained = True
        self._stop()

    def _stop(self, reason: str | None = None) -> None:
        if self.reason is None:
            self.reason = reason
        self._is_over = True
        self._news.set()
        self._sending_scope.cancel()

    # Sending

    async def _send(self) -> None:
        outcomes: FanOut[BridgeRequest, Outcome] = self._client.bridge_many(
            self, concurrency=self._concurrency
        )
        is_known = False
        try:
            with self._sending_scope:
                async for outcome in outcomes:
                    self._note(outcome)
            await outcomes.aclose()
            is_known = True
        finally:
            if not is_known:
                # Whoever cancelled us does not wait; but what was not sent must not go now.
                with anyio.move_on_after(0, shield=True):
                    await outcomes.aclose()
            for outcome in outcomes.untaken:
                self._note(outcome)
            self._give_back(outcomes.cut_short, is_known=is_known)

    async def __anext__(self) -> BridgeRequest:
        while not self._claimed and not self._is_over:
            self._work.set()
            self._news = anyio.Event()
            await self._news.wait()
        if self._pace and not self._is_over:
            await self._keep_pace()
        if self._is_over:
            raise StopAsyncIteration
        # No await from here on: what is cancelled before it was given is still claimed.
        request = self._claimed[0].request()
        self._given[self._given_count] = self._claimed.popleft()
        self._given_count += 1
        self._work.set()
        return request

    async def _keep_pace(self) -> None:
        """Hold rows back until the limiter is about to let them go. It is the limiter that keeps
        the limit; a row that waits for it inside the client would be in doubt after a crash."""
        moment = anyio.current_time()
        if self._due - moment > AHEAD_SECONDS:
            await anyio.sleep(self._due - moment)
        self._due = max(self._due, moment - AHEAD_SECONDS) + self._pace

    def _give_back(self, attempts: Mapping[int, int], *, is_known: bool) -> None:
        """Account for rows without an outcome. A fan-out that was closed in peace has nothing of
        them on the wire; of one that was torn away that is not known."""
        for index, call in self._given.items():
            self._records.append(
                Record(call.row, State.PENDING, attempts.get(index, 0))
                if is_known
                else Record(
                    call.row, State.IN_DOUBT, 1, None, "stopped while it was sent", time.time()
                )
            )
        self._given.clear()

    def _note(self, outcome: Outcome) -> None:
        call = self._given.pop(outcome.index)
        self._records.append(self._settling.record(call, outcome))
        self._work.set()
        if self._settling.reason is not None:
            self._stop(self._settling.reason)

    # The books

    async def _keep_books(self) -> None:
        while not self._is_over:
            await self._work.wait()
            self._work = anyio.Event()
            if self._claimed or not self._room:
                await anyio.sleep(GROUP_SECONDS)
            await self._turn()
            self._begin_round_or_end()

    @property
    def _room(self) -> int:
        return self._concurrency - self._sending + len(self._records)

    async def _turn(self) -> None:
        want = 0 if self._is_over else min(self._room, self._ahead - len(self._claimed))
        if self._reached_end:
            want = 0
        if want <= 0 and not self._records:
            return
        records, self._records = self._records, []
        turn = Turn((), {}, reached_end=False)
        try:
            with anyio.CancelScope(shield=True):
                turn = await anyio.to_thread.run_sync(
                    self._ledger.turn,
                    records,
                    max(0, want),
                    self._last_row,
                    self._screen,
                    limiter=self._thread,
                )
        except Exception as error:
            # Also a bug, or a limit of the machine: what is on the wire is still waited for.
            self._records = records + self._records
            self._failure = error
            self._stop(str(error))
            return
        self._book(records, turn)

    def _book(self, records: Sequence[Record], turn: Turn) -> None:
        self._sending += len(turn.calls) - len(records)
        self._claimed.extend(turn.calls)
        if turn.calls:
            self._last_row = turn.calls[-1].row
        self._reached_end = self._reached_end or turn.reached_end
        settled = Counter(record.state for record in records)
        self.settled.update(settled)
        self.settled.update(turn.blocked)
        self._moved_in_round += len(records) - settled[State.PENDING]
        self._news.set()

    def _begin_round_or_end(self) -> None:
        if not self._reached_end or self._sending or self._records:
            return
        came_back = self.settled.pop(State.PENDING, 0)
        if not came_back:
            self._is_over = True
        elif self._round == ROUNDS or not (self._moved_in_round or self._settling.has_late):
            self._stop(f"the service is not well: {self.complaint}")
        else:
            self._round += 1
            self._last_row = self._moved_in_round = 0
            self._reached_end = self._settling.has_late = False
            self._work.set()
        self._news.set()

    async def _close_books(self) -> None:
        # Once more even if the ledger failed: the disk may have room again.
        failure, self._failure = self._failure, None
        self._is_over = True
        # Only now: the bookkeeper may have been claiming until it ended.
        self._records += [Record(call.row, State.PENDING, 0) for call in self._claimed]
        self._claimed.clear()
        await self._turn()
        self._settling.end()
        self.reason = self._settling.reason or self.reason
        if self._settling.takes_back and not self._records:
            await self._take_back()
        if self._records:
            kind = DiskError if isinstance(self._failure, DiskError) else LedgerError
            self._failure = kind(
                f"{self._failure}; {len(self._records)} rows that were being sent could not be "
                "recorded: they are in doubt the next time"
            )
        elif failure is not None:
            self._failure = failure

    async def _take_back(self) -> None:
        """What was refused as a whole is pending again."""
        rows = self._settling.alike
        await anyio.to_thread.run_sync(
            self._ledger.write_many,
            "UPDATE calls SET state = 'pending', ended_at = NULL WHERE row = ?",
            [(row,) for row in rows],
            limiter=self._thread,
        )
        self.settled[State.REFUSED] -= len(rows)
