"""The ways of putting many calls on the books, each timed."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Final

from attrs import frozen

from benchmarks.peers import Call
from benchmarks.replies import CALL_ID
from innocalls_async import AsyncBridgeClient, BridgeRequest, Scheduled

__all__ = ["Spent", "by_workers", "cpu_seconds", "gathered", "through_bridge_many"]

# As many calls a connection come first and are not timed: they open it.
_WARMING_CALLS: Final = 3


@frozen
class Spent:
    """What `calls` calls took: wall-clock seconds, and seconds of this process's CPU."""

    calls: int
    seconds: float
    cpu_seconds: float

    @property
    def figures(self) -> dict[str, float]:
        return {
            "calls": self.calls,
            "per_second": self.calls / self.seconds,
            "cpu_us": self.cpu_seconds / self.calls * 1e6,
        }


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def by_workers(call: Call, workers: int, seconds: float) -> Spent:
    """`workers` tasks, each with one call after the other, for `seconds`."""
    await _repeat(call, workers, lambda made: made < workers * _WARMING_CALLS)
    until = time.perf_counter() + seconds
    return await _timed(lambda: _repeat(call, workers, lambda _: time.perf_counter() < until))


async def gathered(call: Call, connections: int, count: int) -> Spent:
    """`asyncio.gather` over `count` calls at once."""
    await _repeat(call, connections, lambda made: made < connections * _WARMING_CALLS)

    async def run() -> int:
        ids = await asyncio.gather(*(call() for _ in range(count)))
        assert set(ids) == {CALL_ID}
        return len(ids)

    return await _timed(run)


async def through_bridge_many(
    client: AsyncBridgeClient, wanted: Iterable[BridgeRequest], connections: int, count: int
) -> Spent:
    """`bridge_many` over a generator of `count` requests."""
    endless = iter(wanted)

    async def run(count: int) -> int:
        done = 0
        async for outcome in client.bridge_many(islice(endless, count)):
            assert isinstance(outcome, Scheduled)
            done += 1
        return done

    await run(connections * _WARMING_CALLS)
    return await _timed(lambda: run(count))


async def _repeat(call: Call, workers: int, goes_on: Callable[[int], bool]) -> int:
    made = 0

    async def work() -> None:
        nonlocal made
        while goes_on(made):
            made += 1
            assert await call() == CALL_ID

    await asyncio.gather(*(work() for _ in range(workers)))
    return made


async def _timed(run: Callable[[], Awaitable[int]]) -> Spent:
    gc.collect()
    began, used = time.perf_counter(), cpu_seconds()
    calls = await run()
    return Spent(calls, time.perf_counter() - began, cpu_seconds() - used)
