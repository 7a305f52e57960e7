"""Latency percentiles at a fixed rate, from the moment at which a call was due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cases import Benchmark, Case, Figures, Goal, Medians
from benchmarks.peers import PEERS, Call, Setup
from benchmarks.target import Target

__all__ = ["LATENCY", "PERCENTILES"]

PERCENTILES = (50, 90, 99, 99.9)
_RATE = 500
_WARMING_SECONDS = 1


def _cases(quick: bool) -> list[Case]:
    seconds = 2 if quick else 10
    peers = ("httpx", "telnyx", "twilio", "aiohttp", "ours default", "ours fast")
    return [
        *(Case(peer, {"peer": peer, "seconds": seconds}) for peer in peers),
        *(
            Case(f"{peer}, uvloop", {"peer": peer, "seconds": seconds}, uses_uvloop=True)
            for peer in ("aiohttp", "ours fast")
        ),
    ]


async def _measure(options: Mapping[str, Any], target: Target) -> Figures:
    async with PEERS[options["peer"]](Setup(target)) as call:
        await _latencies(call, _WARMING_SECONDS)
        millis = sorted(await _latencies(call, options["seconds"]))
    return {f"p{share:g}": millis[int(len(millis) * share / 100)] for share in PERCENTILES}


async def _latencies(call: Call, seconds: float) -> list[float]:
    """Milliseconds of each call; one is begun when it is due, whatever became of those before."""
    millis: list[float] = []
    began = time.perf_counter()

    async def once(due: float) -> None:
        await call()
        millis.append((time.perf_counter() - due) * 1e3)

    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds * _RATE)):
            due = began + number / _RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(once(due))
    return millis


def _goals(_medians: Medians) -> Sequence[Goal]:
    return ()


LATENCY = Benchmark(
    "latency",
    f"Latency at {_RATE} calls a second, milliseconds from when a call was due",
    {f"p{share:g}": f"p{share:g}, ms" for share in PERCENTILES},
    _cases,
    _measure,
    _goals,
)
