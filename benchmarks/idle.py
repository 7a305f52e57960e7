"""One call at a time on an idle client: what the library adds to the bare transport."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from itertools import islice
from typing import Any, TypeAlias

import httpx

from benchmarks.cases import Benchmark, Case, Figures, Goal, Medians, at_most
from benchmarks.peers import PEERS, Setup, requests
from benchmarks.target import Target
from innocalls_async.transport import Attempt, fast_transport
from innocalls_async.wire import Message, Wire

__all__ = ["IDLE"]

_Once: TypeAlias = Callable[[], Awaitable[object]]
_BLOCK = 25  # so many of one, then as many of the other: both meet the same noise


def _cases(quick: bool) -> list[Case]:
    blocks = 8 if quick else 80
    return [
        Case("default path over httpx's transport", {"bare": "httpx", "blocks": blocks}),
        Case("fast path over the fast transport", {"bare": "fast", "blocks": blocks}),
        Case(
            "fast path over it as an httpx transport", {"bare": "fast as httpx", "blocks": blocks}
        ),
    ]


async def _measure(options: Mapping[str, Any], target: Target) -> Figures:
    setup = Setup(target)
    peer = "ours default" if options["bare"] == "httpx" else "ours fast"
    async with AsyncExitStack() as stack:
        call = await stack.enter_async_context(PEERS[peer](setup))
        bare = await _bare(options["bare"], setup, stack)
        await _times(bare)
        await _times(call)
        pairs = [(await _times(bare), await _times(call)) for _ in range(options["blocks"])]
    bare_us = statistics.median(micros for times, _ in pairs for micros in times)
    call_us = statistics.median(micros for _, times in pairs for micros in times)
    return {"bare_us": bare_us, "call_us": call_us, "over_us": call_us - bare_us}


async def _times(once: _Once) -> list[float]:
    times = []
    for _ in range(_BLOCK):
        began = time.perf_counter()
        await once()
        times.append((time.perf_counter() - began) * 1e6)
    return times


async def _bare(kind: str, setup: Setup, stack: AsyncExitStack) -> _Once:
    message, origin = _message(setup)
    if kind == "fast":
        fast = fast_transport()
        stack.push_async_callback(fast.aclose)
        return lambda: fast.exchange(origin, message, Attempt(30.0))
    transport = httpx.AsyncHTTPTransport() if kind == "httpx" else fast_transport()
    stack.push_async_callback(transport.aclose)

    async def exchange() -> None:
        request = httpx.Request(
            "POST", origin + message.target, headers=message.headers, content=message.body
        )
        reply = await transport.handle_async_request(request)
        await reply.aread()

    return exchange


def _message(setup: Setup) -> tuple[Message, str]:
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    wire = Wire(base_url=setup.url + "/api/v1", token="t", zone=ZoneInfo("Africa/Cairo"))
    return wire.create(next(islice(requests(), 1))), wire.origin


def _goals(medians: Medians) -> list[Goal]:
    return [at_most(60, f"{case}, us", medians[case]["over_us"]) for case in medians]


IDLE = Benchmark(
    "idle",
    "One call at a time on an idle client, medians of single calls",
    {"bare_us": "bare transport, us", "call_us": "client.bridge, us", "over_us": "added, us"},
    _cases,
    _measure,
    _goals,
)
