"""Running a campaign from a terminal: the client, the signals, the progress, the exit code."""

from __future__ import annotations

import logging
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio
import httpx
from anyio.abc import TaskStatus
from attrs import field, frozen
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from innocalls_async import AsyncBridgeClient, TokenBucket
from innocalls_async.campaign import Campaign, CampaignError, Progress, Result, State
from innocalls_async.cli.common import Exit, console, fail, print_json
from innocalls_async.transport import fast_transport

__all__ = ["Rate", "Service", "exit_code", "run_campaign", "tell", "told"]

_TICK_SECONDS = 0.25
_LINE_SECONDS = 5.0
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
    token: str = field(repr=False)

    def client(self) -> AsyncBridgeClient:
        """A client for it; to be made in the event loop."""
        # Its warnings are told by the progress; without a handler they would go to stderr raw.
        logging.getLogger("innocalls_async").addHandler(logging.NullHandler())
        return AsyncBridgeClient(
            self.token,
            base_url="http://localhost/api/v1" if self.sandbox else self.base_url,
            limiter=self.rate.limiter(),
            max_connections=self.concurrency,
            timezone=self.timezone,
            transport=self._transport(),
        )

    def _transport(self) -> httpx.AsyncBaseTransport | None:
        if self.sandbox:
            from innocalls_async.sandbox import Sandbox  # noqa: PLC0415 - an extra

            return Sandbox(timezone=self.timezone).transport()
        return fast_transport(self.concurrency) if self.fast else None


async def run_campaign(
    campaign: Campaign, service: Service, *, stop_after: int | None, as_json: bool
) -> Result:
    """Run it, telling how far it is, until it is done, stopped or interrupted."""
    ending: Result | CampaignError = Result.INTERRUPTED
    async with anyio.create_task_group() as group:
        await group.start(_heed_signals, campaign, group.cancel_scope)
        group.start_soon(_tell_progress, campaign, service, as_json)
        async with service.client() as client:
            try:
                ending = await campaign.run(
                    client,
                    rate=service.rate.a_second,
                    concurrency=service.concurrency,
                    stop_after=stop_after,
                )
            except CampaignError as error:  # raised below, and not in a group
                ending = error
        group.cancel_scope.cancel()
    if isinstance(ending, CampaignError):
        raise ending
    return ending


async def _heed_signals(
    campaign: Campaign,
    scope: anyio.CancelScope,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    if sys.platform == "win32":
        task_status.started()
        return  # no receiver there: Ctrl-C ends it at once
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if campaign.is_draining:
                scope.cancel()
                return
            campaign.drain()
            tell("Stopping: waiting for what is on the wire. Once more to stop now.")


async def _tell_progress(campaign: Campaign, service: Service, as_json: bool) -> None:
    if as_json or not console.is_terminal:
        while True:
            await anyio.sleep(_LINE_SECONDS)
            if as_json:
                print_json({"event": "progress", **facts(campaign.progress)})
            else:
                tell(sentence(campaign.progress, service.rate))
    with _bar(campaign) as show:
        while True:
            show(campaign.progress, service.rate)
            await anyio.sleep(_TICK_SECONDS)


@contextmanager
def _bar(campaign: Campaign) -> Iterator[Any]:
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}", markup=False))
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=campaign.progress.total)

        def show(progress: Progress, rate: Rate) -> None:
            done = progress.total - progress.left
            bar.update(task, completed=done, description=sentence(progress, rate))

        yield show


def facts(progress: Progress) -> Mapping[str, Any]:
    """The progress for machines."""
    return {
        **{str(state): count for state, count in progress.counts.items()},
        "rate": round(progress.rate, 1),
        "seconds": round(progress.seconds, 1),
        "seconds_left": progress.seconds_left and round(progress.seconds_left),
        "complaint": progress.complaint,
    }


def sentence(progress: Progress, rate: Rate) -> str:
    """The progress for people."""
    counts, left = progress.counts, progress.seconds_left
    text = (
        f"{progress.total - progress.left} of {progress.total} done, "
        f"{progress.rate:.1f}/s of {rate.a_second:g}/s, "
        f"{'-' if left is None else _duration(left)} left, "
        f"{counts[State.REFUSED]} refused, {counts[State.IN_DOUBT]} in doubt"
    )
    return text if progress.complaint is None else f"{text}; last: {progress.complaint[:120]}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def exit_code(counts: Mapping[State, int], result: Result | None = None) -> Exit:
    """What the states of the rows, and how the run ended, come to."""
    if result is Result.INTERRUPTED:
        return Exit.INTERRUPTED
    if result is Result.STOPPED:
        return Exit.STOPPED
    if counts[State.IN_DOUBT]:
        return Exit.IN_DOUBT
    return Exit.REFUSED if counts[State.REFUSED] or counts[State.EXPIRED] else Exit.OK


def tell(text: str) -> None:
    """One line for people, as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def told() -> Iterator[None]:
    """What goes wrong with a campaign is one line and an exit code."""
    try:
        yield
    except CampaignError as error:
        fail(str(error))
    except (ValueError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted", Exit.INTERRUPTED)
