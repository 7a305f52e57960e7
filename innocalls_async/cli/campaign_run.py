"""Running a campaign from a terminal: the client, the signals, the progress, the exit code."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal, TypeVar

import anyio
import httpx
from anyio.abc import TaskStatus
from attrs import field, frozen

from innocalls_async import AsyncBridgeClient, RetryPolicy, TokenBucket
from innocalls_async.campaign import CampaignError, Result, State
from innocalls_async.campaign.errors import DiskError
from innocalls_async.cli.campaign_progress import News, complain, tell, tell_progress
from innocalls_async.cli.common import Exit, fail
from innocalls_async.transport import fast_transport
from innocalls_async.wire import DEFAULT_BASE_URL

__all__ = ["Rate", "Service", "attended", "exit_code", "tell", "told"]

Outcome = TypeVar("Outcome")

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:/\s*(s|sec|m|min|h))?", re.IGNORECASE)
_PERIODS = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@frozen
class Rate:
    """`count` requests in any `per` seconds."""

    count: float
    per: float

    @classmethod
    def read(cls, text: str) -> Rate:
        """`20/s`, `1200/m`, or `20`, which is in a second."""
        found = _RATE.fullmatch(text.strip())
        if not found or float(found[1]) == 0:
            fail(f"--rate: {text!r} is no rate such as 20/s or 1200/m")
        return cls(float(found[1]), _PERIODS[(found[2] or "s").lower()])

    @property
    def a_second(self) -> float:
        return self.count / self.per

    def limiter(self) -> TokenBucket:
        return TokenBucket(self.count, self.per)


@frozen(kw_only=True)
class Service:
    """How the service is reached. The token comes from the environment or a prompt."""

    timezone: str
    base_url: str | None = None
    sandbox: bool = False
    fast: bool = False
    rate: Rate = Rate(50, 1.0)
    concurrency: int = 100
    creates: Literal["documented", "never_twice"] = "documented"
    token: str = field(repr=False)

    @property
    def name(self) -> str:
        """Which service this is, for the ledger."""
        address = self.base_url or os.environ.get("INNOCALLS_BASE_URL") or DEFAULT_BASE_URL
        return "the sandbox" if self.sandbox else address.rstrip("/")

    @contextmanager
    def client(self) -> Iterator[AsyncBridgeClient]:
        """A client for it. Make it first of all: then a mistake in how it is reached has cost
        nothing yet. `ValueError` for one."""
        # Its warnings are told by the progress; without a handler they would go to stderr raw.
        logging.getLogger("innocalls_async").addHandler(logging.NullHandler())
        client = AsyncBridgeClient(
            self.token,
            base_url="http://localhost/api/v1" if self.sandbox else self.base_url,
            limiter=self.rate.limiter(),
            retry=RetryPolicy(creates=self.creates),
            max_connections=self.concurrency,
            timezone=self.timezone,
            transport=self._transport(),
        )
        try:
            yield client
        finally:
            anyio.run(client.aclose)  # does nothing where it was used

    def _transport(self) -> httpx.AsyncBaseTransport | None:
        if self.sandbox:
            from innocalls_async.sandbox import Sandbox  # noqa: PLC0415 - an extra

            return Sandbox(timezone=self.timezone).transport()
        return fast_transport(self.concurrency) if self.fast else None


async def attended(
    work: Callable[[], Awaitable[Outcome]],
    news: Callable[[], News] | None = None,
    *,
    drain: Callable[[], object] | None = None,
    as_json: bool,
) -> Outcome | None:
    """What `work` returns, telling its news meanwhile; None if a signal ended it.

    At a signal to end, `drain` is called, if it is given; at the next, or without it, `work` is
    cancelled; one more ends the process. What goes wrong is raised, and not in a group.
    """
    result: Outcome | None = None
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()
        steps = [scope.cancel] if drain is None else [drain, scope.cancel]
        await group.start(_heed_signals, steps)
        if news is not None:
            group.start_soon(partial(tell_progress, news, as_json=as_json))
        with scope:
            try:
                result = await work()
            except Exception as error:  # raised below
                failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result


async def _heed_signals(
    steps: Sequence[Callable[[], object]],
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    heeded = _ending_signals()
    if sys.platform == "win32":
        task_status.started()
        return  # no receiver there: Ctrl-C ends it at once
    with anyio.open_signal_receiver(*heeded) as signals:
        task_status.started()
        for step in steps:
            await anext(signals)
            complain("Stopping: waiting for what is on the wire. Once more to stop now.")
            step()
        await anyio.sleep_forever()


def _ending_signals() -> list[signal.Signals]:
    """Those that ask a program to end, but for what whoever started it wants it to ignore."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]


def exit_code(counts: Mapping[State, int], result: Result | None = None) -> Exit:
    """What the states of the rows, and how the run ended, come to."""
    if result is Result.INTERRUPTED:
        return Exit.INTERRUPTED
    if result is Result.STOPPED or counts[State.PENDING] or counts[State.SENDING]:
        return Exit.STOPPED
    if counts[State.IN_DOUBT]:
        return Exit.IN_DOUBT
    return Exit.REFUSED if counts[State.REFUSED] or counts[State.EXPIRED] else Exit.OK


@contextmanager
def told() -> Iterator[None]:
    """What goes wrong with a campaign is one line and an exit code; every signal to end is as
    Ctrl-C is."""
    with _interrupting():
        try:
            yield
        except DiskError as error:
            fail(str(error), Exit.FAILED)
        except (CampaignError, ValueError, OSError) as error:
            fail(str(error))
        except KeyboardInterrupt:
            fail("interrupted", Exit.INTERRUPTED)


@contextmanager
def _interrupting() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # where no handler can be set
        return
    numbers = [number for number in _ending_signals() if number is not signal.SIGINT]
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
