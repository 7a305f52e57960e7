"""`Campaign`: a file of requests, carried out durably."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread
from attrs import frozen

from innocalls_async.campaign import intake
from innocalls_async.campaign.cautions import cautions
from innocalls_async.campaign.errors import InputError, LedgerError
from innocalls_async.campaign.intake import InputOptions, Loaded
from innocalls_async.campaign.ledger import Ledger
from innocalls_async.campaign.replan import spread_late_calls
from innocalls_async.campaign.rows import Problem
from innocalls_async.campaign.runner import Result, Runner
from innocalls_async.campaign.screen import Screening
from innocalls_async.campaign.states import State
from innocalls_async.campaign.store import Owner, is_ledger_there
from innocalls_async.client import AsyncBridgeClient
from innocalls_async.times import load_zone

__all__ = ["Campaign", "Progress"]


@frozen
class Progress:
    """How far a run is. `counts` is every row of the campaign by state, `sent` and `seconds` are
    of this run; `complaint` is the latest thing that the service had against a row."""

    counts: Mapping[State, int]
    sent: int
    seconds: float
    complaint: str | None
    reason: str | None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def left(self) -> int:
        """Rows that are still to be sent, or on their way."""
        return self.counts[State.PENDING] + self.counts[State.SENDING]

    @property
    def rate(self) -> float:
        """Rows a second, since the run began."""
        return self.sent / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At that rate; None before anything was sent."""
        return self.left / self.rate if self.rate > 0 else None


class Campaign:
    """A campaign and its ledger, which it owns until it is closed; use it in a `with` block.

    >>> with Campaign.load("calls.csv", "run.db") as campaign:      # doctest: +SKIP
    ...     async with AsyncBridgeClient() as client:
    ...         await campaign.run(client)
    ...     print(campaign.account())

    Loading and opening block: call them before the event loop, or in a thread.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.loaded: Loaded | None = None
        options = ledger.setting("options")
        self.options = InputOptions() if options is None else InputOptions.from_json(options)
        self._runner: Runner | None = None
        self._is_drained = False
        self._counts: Mapping[State, int] = ledger.counts()
        self._began = 0.0

    @classmethod
    def load(
        cls,
        source: Path | str,
        ledger: Path | str,
        options: InputOptions | None = None,
        *,
        on_problem: Callable[[Problem], object] = lambda _problem: None,
    ) -> Self:
        """The campaign of the file `source`: a new one, or, if its ledger is there, the same one
        again.

        Raises:
            InputError: the input, or a row of it, is no good (`on_problem` is told of each), it
                is not the file that the ledger was made of, or was then read by other options.
            LedgerBusyError: another process is at work on it.
            LedgerError: the ledger cannot be made, read or written, or is none.
        """
        source, ledger = Path(source), Path(ledger)
        options = options or InputOptions()
        if is_ledger_there(ledger):
            return cls._load_again(source, ledger, options)
        owner = Owner(ledger)
        try:
            loaded = None
            if not is_ledger_there(ledger):  # which another process may have made meanwhile
                loaded = intake.load(source, ledger, options, on_problem=on_problem)
        finally:
            owner.release()
        if loaded is None:
            return cls._load_again(source, ledger, options)
        campaign = cls(Ledger(ledger))
        campaign.loaded = loaded
        return campaign

    @classmethod
    def _load_again(cls, source: Path, ledger: Path, options: InputOptions) -> Self:
        campaign = cls(Ledger(ledger))
        try:
            campaign._check_same(source, options)
        except BaseException:
            campaign.close()
            raise
        campaign.options = options
        return campaign

    @classmethod
    def open(cls, ledger: Path | str) -> Self:
        """The campaign of a ledger that is there; its errors are those of `load`."""
        return cls(Ledger(ledger))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the ledger and let others have it."""
        self.ledger.close()

    def _check_same(self, source: Path, options: InputOptions) -> None:
        if intake.digest_of(source) != self.ledger.setting("source_sha256"):
            raise InputError(
                f"{source} is not the file that the ledger {self.ledger.path} was made of "
                f"({self.ledger.setting('source_name')}, loaded {self.ledger.setting('loaded_at')})"
                "; give that one to go on. Another ledger would send every row of this file, also "
                "those that are scheduled already: for rows that were left out or are new, make a "
                "file of just these, with a ledger of its own"
            )
        planned = self.options.planned_by
        for name, given in options.planned_by.items():
            if given != planned[name]:
                raise InputError(
                    f"{name}: the ledger {self.ledger.path} was planned with "
                    f"{planned[name] or 'none'}, not {given or 'none'}; give the same options again"
                )
        if options.suppress is not None and not options.suppress.exists():
            raise InputError(f"{options.suppress} cannot be read: there is no such file")
        if self.options.suppress and not options.suppress:
            raise InputError(
                f"the campaign was begun with the do-not-call list {self.options.suppress}; "
                "give it (or a newer one) again"
            )

    async def run(
        self,
        client: AsyncBridgeClient,
        *,
        rate: float | None = None,
        concurrency: int = 100,
        stop_after: int | None = None,
    ) -> Result:
        """Send what is pending and return how that ended; `account()` has the rows.

        At most `concurrency` rows are under way at a time, which is also the most that a crash
        leaves in doubt. `rate` is the client's limit in calls a second, if it has one: no row
        then leaves `pending` much before its turn. The run stops after `stop_after` refusals, if
        that is given; when the service does not take the token; and when it is down.

        Raises `LedgerError` if the ledger cannot be written: then nothing more is sent.
        """
        self._began = time.monotonic()
        screen, self._counts, number = await anyio.to_thread.run_sync(self._prepare, rate)
        self._runner = Runner(
            self.ledger,
            client,
            concurrency=concurrency,
            rate=rate,
            stop_after=stop_after,
            screen=screen,
        )
        if self._is_drained:
            self._runner.drain()
        result = Result.INTERRUPTED
        try:
            result = await self._runner.run()
        except Exception:
            result = Result.STOPPED
            raise
        finally:
            with anyio.CancelScope(shield=True), contextlib.suppress(LedgerError):
                # If even this cannot be written, the run said so already.
                await anyio.to_thread.run_sync(self.ledger.end_run, number, str(result))
        return result

    def _prepare(self, rate: float | None) -> tuple[Screening, Mapping[State, int], int]:
        screen = Screening.of(self.options)
        spread_late_calls(self.ledger, self.options, time.time())
        return screen, self.ledger.counts(), self.ledger.begin_run(rate)

    def cautions(self) -> list[str]:
        """What somebody should know of the calls that are still to be sent: that they would ring
        at night, or many in one moment. Blocks, as loading does."""
        query = "SELECT call_time / 60, count(*) FROM calls WHERE state = 'pending' GROUP BY 1"
        return cautions(
            dict(self.ledger.select(query)),
            load_zone(self.options.timezone),
            datetime.now(UTC),
            self.options.plan,
        )

    def drain(self) -> None:
        """End the run: nothing new goes out, and what is on the wire is waited for. Cancelling
        `run` instead ends it at once, and what is on the wire is in doubt."""
        self._is_drained = True
        if self._runner is not None:
            self._runner.drain()

    @property
    def is_draining(self) -> bool:
        """Whether `drain` was called."""
        return self._is_drained

    def account(self) -> dict[State, int]:
        """How many rows are in each state, by the ledger."""
        return self.ledger.counts()

    @property
    def progress(self) -> Progress:
        """How far the run is, without asking the ledger."""
        counts = dict(self._counts)
        runner = self._runner
        if runner is None:
            return Progress(counts, 0, 0.0, None, None)
        moved = {s: n for s, n in runner.settled.items() if s is not State.PENDING}
        for state, count in moved.items():
            counts[state] += count
            counts[State.PENDING] -= count
        sent = sum(count for state, count in moved.items() if state is not State.EXPIRED)
        seconds = time.monotonic() - self._began
        return Progress(counts, sent, seconds, runner.complaint, runner.reason)
