"""How long an import takes, in a fresh interpreter."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.cases import Benchmark, Case, Figures, Goal, Medians, at_most
from benchmarks.target import Target

__all__ = ["IMPORT"]

# Ours imports its parts when they are asked for: what a program asks for is shown too.
_WITH_CLIENT = "innocalls_async with its client"
_IMPORTS = {
    "httpx": "import httpx",
    "innocalls_async": "import innocalls_async",
    _WITH_CLIENT: "from innocalls_async import AsyncBridgeClient, BridgeRequest",
    "aiohttp": "import aiohttp",
    "twilio": "from twilio.rest import Client",
    "telnyx": "import telnyx",
}
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
_PROGRAM = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"


def _cases(quick: bool) -> list[Case]:
    times = 2 if quick else 5
    return [Case(name, {"statement": text, "times": times}) for name, text in _IMPORTS.items()]


async def _measure(options: Mapping[str, Any], _target: Target) -> Figures:
    program = _PROGRAM.format(options["statement"])
    times = [_import_seconds(program) for _ in range(options["times"])]
    return {"import_ms": statistics.median(times) * 1e3}


def _import_seconds(program: str) -> float:
    command = [sys.executable, "-c", program]
    # Bytecode is written once and read from then on, as where a package is installed.
    kept = {name: value for name, value in os.environ.items() if name != _NO_BYTECODE}
    return float(subprocess.run(command, capture_output=True, check=True, env=kept).stdout)


def _goals(medians: Medians) -> list[Goal]:
    base = medians["httpx"]["import_ms"]
    return [
        at_most(1.5, f"{name} : httpx", medians[name]["import_ms"] / base)
        for name in ("innocalls_async", _WITH_CLIENT)
    ]


IMPORT = Benchmark(
    "import",
    "Import in a fresh interpreter",
    {"import_ms": "ms"},
    _cases,
    _measure,
    _goals,
)
