"""The demo's first half: a fan-out of thousands of calls."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

import httpx
from attrs import define, field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from innocalls_async import (
    AsyncBridgeClient,
    BridgeRequest,
    InDoubt,
    Outcome,
    RetryPolicy,
    Scheduled,
    TokenBucket,
)
from innocalls_async.cli.common import console, run
from innocalls_async.events import Event, LimiterWaited, RetryPlanned
from innocalls_async.sandbox import Sandbox
from innocalls_async.transport import fast_transport

__all__ = ["FAULTS", "RATE", "compare", "print_fanout", "run_fanout", "transport_at_hand"]

Pair: TypeAlias = tuple[str, str]

RATE: Final = 500
# One request in twenty meets a fault. In the last three the call is on the books and its answer
# is lost, so nobody but the sandbox can tell.
FAULTS: Final = {
    "500": 0.015,
    "503": 0.02,
    "drop-before": 0.005,
    "drop": 0.004,
    "cut": 0.003,
    "502-after": 0.003,
}
_STATES: Final[Mapping[type, str]] = {Scheduled: "scheduled", InDoubt: "in_doubt"}


@define
class Tally:
    """What our side knows: what became of whom, and what the events told."""

    stated: list[tuple[str, Pair]] = field(factory=list)
    states: Counter[str] = field(factory=Counter)
    retried: int = 0
    waited: int = 0
    seconds: float = 0.0

    def hear(self, event: Event) -> None:
        """An event of the client."""
        self.retried += isinstance(event, RetryPlanned)
        self.waited += isinstance(event, LimiterWaited) and event.seconds > 0.001

    def count(self, outcome: Outcome) -> None:
        """An outcome of the fan-out."""
        state = _STATES.get(type(outcome), "refused")
        request = outcome.request
        self.states[state] += 1
        self.stated.append((state, (request.first_callee_number, request.second_callee_number)))


def compare(stated: Iterable[tuple[str, Pair]], books: Counter[Pair]) -> tuple[int, int]:
    """How many statements `books` contradict, pair by pair, and how many calls in doubt are on
    them. A call that nobody stated anything of is a contradiction, too."""
    contradicted = in_doubt_on_books = 0
    unstated = set(books)
    for state, pair in stated:
        unstated.discard(pair)
        if state == "in_doubt":
            in_doubt_on_books += books[pair]
        else:
            contradicted += books[pair] != (state == "scheduled")
    return contradicted + len(unstated), in_doubt_on_books


def transport_at_hand() -> httpx.AsyncBaseTransport | None:
    """The fast transport, or None for the default one where the extra `fast` is not installed."""
    try:
        return fast_transport()
    except ImportError:
        return None


def run_fanout(calls: int, progress: Console) -> dict[str, float]:
    """Schedule generated calls through `bridge_many`; what both sides say of it at the end."""
    sandbox = Sandbox(rate=RATE, faults=FAULTS)
    tally = Tally()
    run(lambda: _schedule(sandbox, calls, tally, progress))
    return _account(sandbox, calls, tally)


async def _schedule(sandbox: Sandbox, calls: int, tally: Tally, progress: Console) -> None:
    async with (
        sandbox.serve() as base_url,
        AsyncBridgeClient(
            "demo-token",
            base_url=base_url,
            limiter=TokenBucket(RATE, burst=RATE // 10),
            retry=RetryPolicy(initial=0.2),
            transport=transport_at_hand(),
            on_event=tally.hear,
        ) as client,
    ):
        began = time.monotonic()
        with _Watcher(calls, progress) as watcher:
            async for outcome in client.bridge_many(_requests(calls)):
                tally.count(outcome)
                watcher.show(tally)
        tally.seconds = time.monotonic() - began


def _requests(calls: int) -> Iterator[BridgeRequest]:
    for index in range(calls):
        yield BridgeRequest(
            call_flow_id="5f0a7c2e9b1d4c3a8e6f0b2d",
            first_callee_number=f"+20 10 {index:08d}",
            first_callee_name=f"Agent {index % 40}",
            second_callee_number=f"+20 12 {index:08d}",
            second_callee_name=f"Customer {index}",
            duration=5,
        )


class _Watcher:
    """A live bar on a terminal, a line every two seconds elsewhere."""

    def __init__(self, calls: int, console: Console) -> None:
        self._calls = calls
        self._console = console
        self._shown_at = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("Scheduling", total=calls)

    def __enter__(self) -> _Watcher:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, tally: Tally) -> None:
        done = tally.states.total()
        text = f"retried {tally.retried}, in doubt {tally.states['in_doubt']}"
        self._bar.update(self._task, completed=done, description=f"Scheduling ({text})")
        if not self._console.is_terminal and time.monotonic() - self._shown_at > 2:
            self._shown_at = time.monotonic()
            self._console.print(f"{done} of {self._calls} calls, {text}", highlight=False)


def _account(sandbox: Sandbox, calls: int, tally: Tally) -> dict[str, float]:
    contradicted, in_doubt_on_books = compare(tally.stated, sandbox.account.by_pair)
    return {
        "calls": calls,
        **{state: tally.states[state] for state in ("scheduled", "refused", "in_doubt")},
        "in_doubt_on_books": in_doubt_on_books,
        "on_books": sandbox.account.created,
        "contradicted": contradicted + abs(calls - tally.states.total()),
        "dialled_twice": len(sandbox.account.dialled_twice),
        "retried": tally.retried,
        "waited": tally.waited,
        "rejected_by_limit": sandbox.account.rejected,
        "seconds": round(tally.seconds, 2),
        "calls_a_second": round(calls / tally.seconds, 1),
        "limit_a_second": RATE,
    }


def print_fanout(account: Mapping[str, float]) -> None:
    """Both sides of the account, side by side."""
    table = Table(title="The fan-out")
    table.add_column("")
    table.add_column("the client says", justify="right")
    table.add_column("the sandbox's books say", justify="right")
    on_books = account["on_books"] - account["in_doubt_on_books"]
    table.add_row("scheduled", str(account["scheduled"]), str(on_books))
    table.add_row(
        "in doubt", str(account["in_doubt"]), f"{account['in_doubt_on_books']} came about"
    )
    table.add_row("refused", str(account["refused"]), "-")
    table.add_row("dialled twice", "0 allowed", str(account["dialled_twice"]))
    table.add_row("over the limit (429)", "0 expected", str(account["rejected_by_limit"]))
    table.add_row("attempts retried", str(account["retried"]), "-")
    table.add_row("waited for their turn", str(account["waited"]), "-")
    table.add_row(
        "calls a second", str(account["calls_a_second"]), f"limit {account['limit_a_second']}"
    )
    console.print(table)
    console.print(
        f"{account['calls']} calls in {account['seconds']} s. In doubt means: the answer was lost, "
        "and nothing was sent again, so nobody was dialled twice.",
        highlight=False,
    )
