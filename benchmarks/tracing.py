"""What listening costs: CPU a call with events, with OpenTelemetry's API, and with its SDK."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final

import httpx

from benchmarks.cases import Benchmark, Case, Figures, Goal, Medians
from benchmarks.peers import requests
from benchmarks.target import Target
from innocalls_async import AsyncBridgeClient, TokenBucket
from innocalls_async.events import Event

__all__ = ["TRACING"]

_OFF: Final = "off"
_REPLY: Final = {"status": 200, "success": True, "data": {"call_id": "f2281763"}}


def _no_telemetry() -> None:
    return None


def _function() -> Callable[[Event], object]:
    return lambda _event: None


def _api_alone() -> Callable[[Event], object]:
    from innocalls_async.integrations.otel import Telemetry  # noqa: PLC0415 - an extra

    return Telemetry()


def _sdk() -> Callable[[Event], object]:
    """Spans and metrics are made and kept to, and exported nowhere."""
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - a peer
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    from innocalls_async.integrations.otel import Telemetry  # noqa: PLC0415

    return Telemetry(
        tracer_provider=TracerProvider(), meter_provider=MeterProvider([InMemoryMetricReader()])
    )


_LISTENERS: Final[Mapping[str, Callable[[], Callable[[Event], object] | None]]] = {
    _OFF: _no_telemetry,
    "off, again": _no_telemetry,
    "a function that does nothing": _function,
    "Telemetry, without the SDK": _api_alone,
    "Telemetry, spans and metrics by the SDK": _sdk,
}


def _cases(quick: bool) -> list[Case]:
    calls = 500 if quick else 5_000
    return [Case(name, {"listener": name, "calls": calls}) for name in _LISTENERS]


async def _measure(options: Mapping[str, Any], _target: Target) -> Figures:
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=_REPLY))
    async with AsyncBridgeClient(
        "t",
        transport=transport,
        limiter=TokenBucket(20_000),
        on_event=_LISTENERS[options["listener"]](),
    ) as client:
        source = requests()
        for request in islice(source, 100):
            await client.bridge(request)
        prepared = list(islice(source, options["calls"]))
        began = time.process_time()
        for request in prepared:
            await client.bridge(request)
        used = time.process_time() - began
    return {"cpu_us": used / options["calls"] * 1e6}


def _goals(_medians: Medians) -> list[Goal]:
    return []


TRACING = Benchmark(
    "tracing",
    "What listening costs, one create at a time over a transport in process",
    {"cpu_us": "CPU a call, us"},
    _cases,
    _measure,
    _goals,
)
