"""What the campaign's commands say while they work.

Nobody may be listening any more: the reader of a pipe has left, a terminal was closed, the disk of
a log is full. That is never a reason to stop the work, nor to end it in another way.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import anyio
import attrs
from attrs import frozen
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from innocalls_async.campaign import Progress, State
from innocalls_async.campaign.watching import Watched
from innocalls_async.cli import write_error
from innocalls_async.cli.common import console, print_json

__all__ = [
    "News",
    "complain",
    "minute",
    "run_news",
    "tell",
    "tell_progress",
    "unheard",
    "watch_news",
]

_TICK_SECONDS = 0.25
_LINE_SECONDS = 5.0


@frozen
class News:
    """How far some work is: in a sentence for people, in facts for machines, and as a share."""

    sentence: str
    facts: Mapping[str, Any]
    done: int
    total: int


@contextmanager
def unheard() -> Iterator[None]:
    """What is told in the block may go nowhere, and then so does all that follows."""
    try:
        yield
    except OSError:
        with suppress(OSError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no path
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def tell(text: str) -> None:
    """One line for people, as it is."""
    with unheard():
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def complain(text: object) -> None:
    """One line on stderr."""
    write_error(str(text))


async def tell_progress(news: Callable[[], News], *, as_json: bool) -> None:
    """Tell the news again and again, until it is cancelled or nobody listens."""
    with unheard():
        if as_json or not console.is_terminal:
            while True:
                await anyio.sleep(_LINE_SECONDS)
                latest = news()
                if as_json:
                    print_json({"event": "progress", **latest.facts})
                else:
                    console.print(latest.sentence, markup=False, highlight=False, soft_wrap=True)
        with _bar() as show:
            while True:
                show(news())
                await anyio.sleep(_TICK_SECONDS)


@contextmanager
def _bar() -> Iterator[Callable[[News], None]]:
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}", markup=False))
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("")

        def show(news: News) -> None:
            bar.update(task, completed=news.done, total=news.total, description=news.sentence)

        yield show


def run_news(progress: Progress, rate: float) -> News:
    """How far a run is; `rate` is its limit in requests a second."""
    counts, left = progress.counts, progress.seconds_left
    done = progress.total - progress.left
    text = (
        f"{done} of {progress.total} done, {progress.rate:.1f}/s of {rate:g}/s, "
        f"{'-' if left is None else _duration(left)} left, "
        f"{counts[State.REFUSED]} refused, {counts[State.IN_DOUBT]} in doubt"
    )
    if progress.complaint is not None:
        text = f"{text}; last: {progress.complaint[:120]}"
    facts = {
        **{str(state): count for state, count in counts.items()},
        "rate": round(progress.rate, 1),
        "seconds": round(progress.seconds, 1),
        "seconds_left": left and round(left),
        "complaint": progress.complaint,
    }
    return News(text, facts, done, progress.total)


def watch_news(watched: Watched) -> News:
    """How far a watch is."""
    done = watched.final + watched.unknown
    total = done + watched.left
    text = f"{watched.final} of {total} calls at their end, {watched.unknown} not known"
    if watched.next_due is not None:
        text = f"{text}; next asked for at {minute(watched.next_due)}"
    return News(text, attrs.asdict(watched), done, total)


def minute(moment: datetime) -> str:
    """A moment for people, with its offset from UTC."""
    return moment.isoformat(" ", "minutes")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
