"""All benchmarks, by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks.campaign import CAMPAIGN
from benchmarks.cases import Benchmark
from benchmarks.idle import IDLE
from benchmarks.importing import IMPORT
from benchmarks.latency import LATENCY
from benchmarks.length import LENGTH
from benchmarks.limiters import LIMITERS
from benchmarks.throughput import CONNECTIONS, THROUGHPUT, TLS
from benchmarks.tracing import TRACING

__all__ = ["BENCHMARKS"]

BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    benchmark.name: benchmark
    for benchmark in (
        THROUGHPUT,
        CONNECTIONS,
        TLS,
        LENGTH,
        IDLE,
        LATENCY,
        LIMITERS,
        IMPORT,
        TRACING,
        CAMPAIGN,
    )
}
