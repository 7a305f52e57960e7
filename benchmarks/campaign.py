"""A campaign of a million rows, and what keeping its books costs of the sending rate."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.cases import Benchmark, Case, Figures, Goal, Medians, at_most
from benchmarks.length import peak_mb
from benchmarks.target import Target
from innocalls_async import AsyncBridgeClient, BridgeRequest, TokenBucket
from innocalls_async.campaign import Campaign, InputOptions, State
from innocalls_async.campaign.report import read_report
from innocalls_async.transport import fast_transport

__all__ = ["CAMPAIGN"]

_ROWS: Final = 1_000_000
_RATE: Final = 1_000
_CONNECTIONS: Final = 100
_SENDING: Final = f"sent at {_RATE:,}/s"
_COLUMNS: Final = (
    "ref",
    "call_flow_id",
    "first_callee_number",
    "first_callee_name",
    "second_callee_number",
    "second_callee_name",
    "duration",
)


def _cases(quick: bool) -> list[Case]:
    rows, sent = (20_000, 3_000) if quick else (_ROWS, 20_000)
    return [
        Case(f"{rows:,} rows", {"rows": rows, "region": None}, rounds=1),
        Case(f"{rows:,} rows, --region EG", {"rows": rows, "region": "EG"}, rounds=1),
        Case(f"{_SENDING} without a ledger", {"sent": sent, "ledger": False}),
        Case(f"{_SENDING} with one", {"sent": sent, "ledger": True}),
    ]


async def _measure(options: Mapping[str, Any], target: Target) -> Figures:
    with TemporaryDirectory(prefix="campaign-") as name:
        folder = Path(name)
        if "rows" in options:
            return await _kept(folder, options["rows"], options["region"], target)
        if options["ledger"]:
            return await _sent_with_ledger(folder, options["sent"], target)
        return await _sent_without(options["sent"], target)


async def _kept(folder: Path, rows: int, region: str | None, target: Target) -> Figures:
    """Seconds to load, to resume half way, and to report; the most memory of the first two."""
    source, ledger = _write(folder, rows, "0" if region else "+20 "), folder / "run.db"
    options = InputOptions(region=region)
    load = _seconds(lambda: Campaign.load(source, ledger, options).close())
    _send_half(ledger, rows)
    began = time.perf_counter()
    with Campaign.load(source, ledger, options) as campaign:
        campaign.cautions()
        campaign.drain()  # it begins, and has nothing to do
        async with _client(target) as client:
            await campaign.run(client)
    resume, peak = time.perf_counter() - began, peak_mb()
    report = _seconds(lambda: read_report(ledger))
    return {"load_s": load, "resume_s": resume, "report_s": report, "peak_mb": peak}


async def _sent_with_ledger(folder: Path, rows: int, target: Target) -> Figures:
    with Campaign.load(_write(folder, rows, "+20 "), folder / "run.db") as campaign:
        async with _client(target) as client:
            began = time.perf_counter()
            await campaign.run(client, rate=_RATE, concurrency=_CONNECTIONS)
            seconds = time.perf_counter() - began
        assert campaign.account()[State.SCHEDULED] == rows
    return {"per_second": rows / seconds}


async def _sent_without(rows: int, target: Target) -> Figures:
    requests = (
        BridgeRequest("flow", f"2010{n:08d}", "Agent", f"2011{n:08d}", "Customer", 5)
        for n in range(rows)
    )
    async with _client(target) as client:
        began = time.perf_counter()
        async for _ in client.bridge_many(requests, concurrency=_CONNECTIONS):
            pass
        seconds = time.perf_counter() - began
    return {"per_second": rows / seconds}


def _client(target: Target) -> AsyncBridgeClient:
    return AsyncBridgeClient(
        "benchmark",
        base_url=f"{target.plain}/api/v1",
        limiter=TokenBucket(_RATE),
        max_connections=_CONNECTIONS,
        transport=fast_transport(_CONNECTIONS),
    )


def _write(folder: Path, rows: int, prefix: str) -> Path:
    source = folder / "calls.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(islice(_lines(prefix), rows))
    return source


def _lines(prefix: str) -> Iterator[tuple[object, ...]]:
    number = 0
    while True:
        number += 1
        first, second = f"{prefix}10{number:08d}", f"{prefix}11{number:08d}"
        yield f"order-{number}", "flow", first, "Agent", second, "Customer", 5


def _send_half(ledger: Path, rows: int) -> None:
    """As a run would have left it that died half way."""
    with Campaign.open(ledger) as campaign:
        for state, call_id in (("sending", None), ("scheduled", "c")):
            campaign.ledger.write(
                "UPDATE calls SET state = ?, call_id = ?, sent_at = 1, ended_at = 2 WHERE row <= ?",
                state,
                call_id,
                rows // 2,
            )


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _goals(medians: Medians) -> list[Goal]:
    goals = []
    # With a region, all of the time is `phonenumbers` reading two million numbers.
    if figures := medians.get(f"{_ROWS:,} rows"):
        goals += [
            at_most(60, f"{_ROWS:,} rows: loaded, s", figures["load_s"]),
            at_most(10, f"{_ROWS:,} rows: resumed, s", figures["resume_s"]),
            at_most(150, f"{_ROWS:,} rows: peak memory, MB", figures["peak_mb"]),
        ]
    without, kept = (medians[f"{_SENDING} {how}"] for how in ("without a ledger", "with one"))
    cost = 100 * (1 - kept["per_second"] / without["per_second"])
    goals.append(at_most(15, "what recording costs of the sending rate, %", cost))
    return goals


CAMPAIGN = Benchmark(
    "campaign",
    "A campaign: loaded, resumed and reported, and sent with its books",
    {
        "load_s": "load, s",
        "resume_s": "resume, s",
        "report_s": "report, s",
        "peak_mb": "peak memory, MB",
        "per_second": "calls/s",
    },
    _cases,
    _measure,
    _goals,
)
