"""Calls a second and CPU a call, at 100 connections and over the number of connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cases import Benchmark, Case, Figures, Goal, Medians, at_least
from benchmarks.loads import by_workers, gathered, through_bridge_many
from benchmarks.peers import PEERS, Setup, ours, requests
from benchmarks.target import Target

__all__ = ["CONNECTIONS", "THROUGHPUT", "TLS"]

_COLUMNS = {"per_second": "calls/s", "cpu_us": "CPU us/call"}
_SWEEP = (1, 4, 16, 64, 100)
_SWEPT = ("httpx", "aiohttp", "ours default", "ours fast")


def _case(
    peer: str,
    quick: bool,
    *,
    load: str = "workers",
    uvloop: bool = False,
    note: str = "",
    **options: Any,
) -> Case:
    words = [peer, note, "" if load == "workers" else load, "uvloop" if uvloop else ""]
    name = ", ".join(filter(None, words))
    seconds = 0.5 if quick else 3.0
    return Case(name, {"peer": peer, "load": load, "seconds": seconds, **options}, uvloop)


def _throughput_cases(quick: bool) -> list[Case]:
    ours_count = {"default": 500 if quick else 4_000, "fast": 2_000 if quick else 20_000}
    return [
        _case("httpx", quick),
        _case("httpx", quick, note="4 connections", connections=4),
        _case("httpx multipart", quick, note="4 connections", connections=4),
        _case("httpx2", quick),
        _case("telnyx", quick),
        _case("twilio", quick),
        _case("aiohttp", quick),
        _case("aiohttp multipart", quick),
        _case("aiohttp", quick, uvloop=True),
        _case("ours default", quick),
        _case("ours default", quick, load="gather", count=4_000),
        _case("ours default", quick, load="bridge_many", count=ours_count["default"]),
        _case("ours fast", quick),
        _case("ours fast", quick, load="gather", count=4_000),
        _case("ours fast", quick, load="bridge_many", count=ours_count["fast"]),
        _case("ours fast", quick, uvloop=True),
        _case("ours fast", quick, load="bridge_many", uvloop=True, count=ours_count["fast"]),
    ]


def _connections_cases(quick: bool) -> list[Case]:
    return [
        _case(peer, quick, note=str(number), connections=number)
        for number in _SWEEP
        for peer in _SWEPT
    ]


def _tls_cases(quick: bool) -> list[Case]:
    peers = ("httpx", "telnyx", "twilio", "aiohttp", "ours default", "ours fast")
    return [
        *(_case(peer, quick, over_tls=True) for peer in peers),
        *(_case(peer, quick, uvloop=True, over_tls=True) for peer in ("aiohttp", "ours fast")),
    ]


async def _measure(options: Mapping[str, Any], target: Target) -> Figures:
    setup = Setup(target, options.get("connections", 100), options.get("over_tls", False))
    if options["load"] == "bridge_many":
        async with ours(setup, fast=options["peer"] == "ours fast") as client:
            spent = await through_bridge_many(
                client, requests(), setup.connections, options["count"]
            )
        return spent.figures
    async with PEERS[options["peer"]](setup) as call:
        if options["load"] == "gather":
            spent = await gathered(call, setup.connections, options["count"])
        else:
            spent = await by_workers(call, setup.connections, options["seconds"])
    return spent.figures


def _ratio(medians: Medians, case: str, reference: str) -> float:
    return medians[case]["per_second"] / medians[reference]["per_second"]


def _throughput_goals(medians: Medians) -> list[Goal]:
    fast_many, uvloop_many = "ours fast, bridge_many", "ours fast, bridge_many, uvloop"
    gather, workers = "ours default, gather", "ours default"
    return [
        at_least(3.5, "default path : httpx by hand", _ratio(medians, workers, "httpx")),
        at_least(0.85, "gather of 4,000 : workers", _ratio(medians, gather, workers)),
        at_least(
            0.85,
            "gather of 4,000 : workers, fast path",
            _ratio(medians, "ours fast, gather", "ours fast"),
        ),
        at_least(1.5, "fast path : aiohttp by hand", _ratio(medians, "ours fast", "aiohttp")),
        at_least(1.5, "bridge_many : aiohttp by hand", _ratio(medians, fast_many, "aiohttp")),
        at_least(
            1.4,
            "fast path : aiohttp by hand, uvloop",
            _ratio(medians, "ours fast, uvloop", "aiohttp, uvloop"),
        ),
        at_least(
            1.4,
            "bridge_many : aiohttp by hand, uvloop",
            _ratio(medians, uvloop_many, "aiohttp, uvloop"),
        ),
    ]


def _connections_goals(medians: Medians) -> list[Goal]:
    # Not one by one: how fast the wire is with 4 connections is not the library's doing.
    cost = medians["ours default, 4"]["cpu_us"] / medians["ours default, 100"]["cpu_us"]
    return [at_least(0.9, "default path, CPU at 4 : CPU at 100 connections", cost)]


def _no_goals(_medians: Medians) -> Sequence[Goal]:
    return ()


THROUGHPUT = Benchmark(
    "throughput",
    "Calls a second and CPU a call, 100 connections unless noted",
    _COLUMNS,
    _throughput_cases,
    _measure,
    _throughput_goals,
    reference="httpx",
)
CONNECTIONS = Benchmark(
    "connections",
    "Calls a second by the number of connections",
    _COLUMNS,
    _connections_cases,
    _measure,
    _connections_goals,
)
TLS = Benchmark(
    "tls",
    "Over TLS on loopback, 100 connections",
    _COLUMNS,
    _tls_cases,
    _measure,
    _no_goals,
    reference="httpx",
)
