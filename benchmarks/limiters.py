"""How much of a rate a limiter lets be used, and by how much it is exceeded in any window."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from benchmarks.cases import Benchmark, Case, Figures, Goal, Medians, at_least, at_most
from benchmarks.target import Target
from innocalls_async import TokenBucket

__all__ = ["LIMITERS", "PEERS", "RATES"]

Acquire: TypeAlias = Callable[[], Awaitable[object]]

RATES = (10, 100, 1000)
_WORKERS = 50
# Its clock is cut to milliseconds and stands still during a turn of the loop.
_ON_UVLOOP = f"TokenBucket, {RATES[-1]}/s, uvloop"
# Float seconds of a monotonic clock, some hours old, are exact to less than this.
_CLOCK_ERROR = 1e-9


def _token_bucket(rate: int) -> Acquire:
    return TokenBucket(rate).acquire


def _aiolimiter(rate: int) -> Acquire:
    from aiolimiter import AsyncLimiter  # noqa: PLC0415 - a peer is imported where it is measured

    return AsyncLimiter(rate, 1).acquire


def _pyrate_limiter(rate: int) -> Acquire:
    from pyrate_limiter import Duration, Limiter, Rate  # noqa: PLC0415

    limiter = Limiter(Rate(rate, Duration.SECOND))
    return lambda: limiter.try_acquire_async("service")


def _throttled(rate: int) -> Acquire:
    from throttled.asyncio import Throttled, per_sec  # noqa: PLC0415

    throttle = Throttled(key="service", quota=per_sec(rate), timeout=10)

    async def acquire() -> None:
        while (await throttle.limit()).limited:
            pass

    return acquire


PEERS: Mapping[str, Callable[[int], Acquire]] = {
    "TokenBucket": _token_bucket,
    "aiolimiter": _aiolimiter,
    "pyrate-limiter": _pyrate_limiter,
    "throttled-py": _throttled,
}


def _cases(quick: bool) -> list[Case]:
    windows = 2 if quick else 10
    cases = [
        Case(f"{name}, {rate}/s", {"peer": name, "rate": rate, "windows": windows})
        for rate in RATES
        for name in PEERS
    ]
    on_uvloop = {"peer": "TokenBucket", "rate": RATES[-1], "windows": windows}
    return [*cases, Case(_ON_UVLOOP, on_uvloop, uses_uvloop=True)]


async def _measure(options: Mapping[str, Any], _target: Target) -> Figures:
    rate = options["rate"]
    count = rate * (options["windows"] + 1) + 1
    acquire = PEERS[options["peer"]](rate)
    bucket = getattr(acquire, "__self__", None)
    recorded: list[float] = []
    if isinstance(bucket, TokenBucket):
        granted = await _grants(acquire, count, lambda: recorded.append(bucket.last_grant))
    else:
        granted = await _grants(acquire, count)
    # From the end of the first window on, which every bucket begins with a burst.
    used = (count - 1 - rate) / (granted[-1] - granted[rate])
    figures = {"share": 100 * used / rate, "excess": _excess(granted, rate)}
    return {**figures, "recorded": _excess(recorded[:count], rate)} if recorded else figures


async def _grants(
    acquire: Acquire, count: int, record: Callable[[], object] = lambda: None
) -> list[float]:
    """When each of `count` grants came, to workers that compete for them. They tell the time
    once they go on, which is later than the grant where the processor was taken away between."""
    granted: list[float] = []

    async def work() -> None:
        while len(granted) < count:
            await acquire()
            granted.append(time.monotonic())
            record()

    await asyncio.gather(*(work() for _ in range(_WORKERS)))
    return granted[:count]


def _excess(granted: list[float], rate: int) -> float:
    return 100 * (_most_in_a_window(granted) / rate - 1)


def _most_in_a_window(granted: list[float]) -> int:
    """The most grants in any second, of which the end belongs to the next."""
    most, first = 0, 0
    for last, moment in enumerate(granted):
        while moment - granted[first] >= 1 - _CLOCK_ERROR:
            first += 1
        most = max(most, last - first + 1)
    return most


def _goals(medians: Medians) -> list[Goal]:
    goals = []
    for rate in RATES:
        figures = medians[f"TokenBucket, {rate}/s"]
        goals.append(at_least(99.5, f"TokenBucket at {rate}/s, % used", figures["share"]))
        goals += _no_excess(f"TokenBucket at {rate}/s", figures)
    goals += _no_excess(_ON_UVLOOP, medians[_ON_UVLOOP])
    return goals


def _no_excess(name: str, figures: Figures) -> list[Goal]:
    return [
        at_most(0, f"{name}, % over as recorded", figures["recorded"]),
        at_most(0, f"{name}, % over as callers go on", figures["excess"]),
    ]


LIMITERS = Benchmark(
    "limiters",
    "Limiters with 50 tasks that compete: share of the rate used, excess in the worst second",
    {
        "share": "% of the rate used",
        "excess": "% over in the worst second, as callers go on",
        "recorded": "% over in the worst second, as the limiter has it",
    },
    _cases,
    _measure,
    _goals,
)
