"""One call at a time on an idle client: what the library adds to the bare transport."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import httpx

from benchmarks.cases import Benchmark, Case, Figures, Goal, Medians, at_most
from benchmarks.peers import Setup, arguments, ours
from benchmarks.target import Target
from innocalls_async import BridgeRequest
from innocalls_async.transport import Attempt, fast_transport
from innocalls_async.wire import Message, Wire

__all__ = ["IDLE"]

_Once: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[object]]
_BLOCK = 100  # so many of one, then as many of the other: both meet the same noise
_TIMEOUTS = httpx.Timeout(30).as_dict()


def _cases(quick: bool) -> list[Case]:
    blocks = 3 if quick else 20
    cases = {
        "default path over httpx's transport": "httpx",
        "default path over it with timeouts, as a client of httpx calls it": "httpx, timeouts",
        "fast path over the fast transport": "fast",
        "fast path over it as an httpx transport": "fast as httpx",
    }
    return [Case(name, {"bare": bare, "blocks": blocks}) for name, bare in cases.items()]


async def _measure(options: Mapping[str, Any], target: Target) -> Figures:
    setup, values = Setup(target), arguments()
    async with AsyncExitStack() as stack:
        fast = options["bare"].startswith("fast")
        client = await stack.enter_async_context(ours(setup, fast=fast))
        bare = await _bare(options["bare"], setup, stack)

        async def call(values: Mapping[str, Any]) -> object:
            return await client.bridge(BridgeRequest(**values))

        async def times(once: _Once) -> list[float]:
            return [await _micros(once, next(values)) for _ in range(_BLOCK)]

        await times(bare)
        await times(call)
        pairs = [(await times(bare), await times(call)) for _ in range(options["blocks"])]
    bare_us = statistics.median(micros for block, _ in pairs for micros in block)
    call_us = statistics.median(micros for _, block in pairs for micros in block)
    return {"bare_us": bare_us, "call_us": call_us, "over_us": call_us - bare_us}


async def _micros(once: _Once, values: Mapping[str, Any]) -> float:
    began = time.perf_counter()
    await once(values)
    return (time.perf_counter() - began) * 1e6


async def _bare(kind: str, setup: Setup, stack: AsyncExitStack) -> _Once:
    """One call whose bytes are ready: what a program without a library would at least pay."""
    message, origin = _message(setup)
    if kind == "fast":
        fast = fast_transport()
        stack.push_async_callback(fast.aclose)
        return lambda _values: fast.exchange(origin, message, Attempt(30.0))
    transport = fast_transport() if kind == "fast as httpx" else httpx.AsyncHTTPTransport()
    stack.push_async_callback(transport.aclose)
    extensions = {"timeout": _TIMEOUTS} if kind == "httpx, timeouts" else {}

    async def exchange(_values: Mapping[str, Any]) -> None:
        request = httpx.Request(
            "POST",
            origin + message.target,
            headers=message.headers,
            content=message.body,
            extensions=extensions,
        )
        reply = await transport.handle_async_request(request)
        await reply.aread()

    return exchange


def _message(setup: Setup) -> tuple[Message, str]:
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    wire = Wire(base_url=setup.url + "/api/v1", token="t", zone=ZoneInfo("Africa/Cairo"))
    return wire.create(BridgeRequest(**next(arguments()))), wire.origin


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
