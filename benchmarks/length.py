"""CPU a call and memory by the length of the list, through `bridge_many` from a generator."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.cases import Benchmark, Case, Figures, Goal, Medians, at_most
from benchmarks.loads import through_bridge_many
from benchmarks.peers import Setup, ours, requests
from benchmarks.target import Target

__all__ = ["LENGTH", "LENGTHS", "peak_mb"]

LENGTHS = (2_000, 10_000, 100_000, 1_000_000)
_CONNECTIONS = 100
# A short list is carried out so often, for its CPU figure to be as sure as a long one's.
_LEAST_CALLS = 20_000


def _cases(quick: bool) -> list[Case]:
    lengths = LENGTHS[:2] if quick else LENGTHS
    return [
        *(
            Case(f"{length:,}", {"length": length}, rounds=1 if length == LENGTHS[-1] else None)
            for length in lengths
        ),
        Case("slow consumer, 2,000", {"length": 2_000, "pause": 0.001}),
    ]


async def _measure(options: Mapping[str, Any], target: Target) -> Figures:
    if "pause" in options:
        return await _slowly_taken(options["length"], options["pause"], target)
    length = options["length"]
    calls, used = 0, 0.0
    async with ours(Setup(target, _CONNECTIONS), fast=True) as client:
        while calls < _LEAST_CALLS:
            spent = await through_bridge_many(client, requests(), _CONNECTIONS, length)
            calls, used = calls + spent.calls, used + spent.cpu_seconds
    return {"cpu_us": used / calls * 1e6, "peak_mb": peak_mb()}


async def _slowly_taken(length: int, pause: float, target: Target) -> Figures:
    ahead = 0
    async with ours(Setup(target, _CONNECTIONS), fast=True) as client:
        outcomes = client.bridge_many(islice(requests(), length))
        async for _ in outcomes:
            ahead = max(ahead, outcomes.progress.read - outcomes.progress.taken)
            await asyncio.sleep(pause)
    return {"peak_mb": peak_mb(), "read_ahead": ahead}


def peak_mb() -> float:
    """The most memory that this process has had resident, in MB (10**6 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which on Linux begins with the parent's size.
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _goals(medians: Medians) -> list[Goal]:
    short, slow = medians["2,000"], medians["slow consumer, 2,000"]
    goals = [at_most(_CONNECTIONS, "slow consumer: requests read ahead", slow["read_ahead"])]
    if long := medians.get("100,000"):
        cpu, growth = long["cpu_us"] / short["cpu_us"], long["peak_mb"] - short["peak_mb"]
        goals.append(at_most(1.1, "CPU a call at 100,000 : at 2,000", cpu))
        goals.append(at_most(20, "memory growth from 2,000 to 100,000, MB", growth))
    if longest := medians.get("1,000,000"):
        goals.append(at_most(100, "memory at 1,000,000, MB", longest["peak_mb"]))
    return goals


LENGTH = Benchmark(
    "length",
    "bridge_many by the length of the list, fast path",
    {"cpu_us": "CPU us/call", "peak_mb": "peak memory, MB", "read_ahead": "read ahead"},
    _cases,
    _measure,
    _goals,
)
