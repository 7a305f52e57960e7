"""What was measured, where and with what, kept as JSON and shown as tables."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs
import cattrs
from attrs import frozen

from benchmarks.cases import Benchmark, Figures, Goal
from benchmarks.suite import BENCHMARKS
from benchmarks.target import server_name

__all__ = ["Result", "load", "save", "table"]

_PACKAGES = (
    "innocalls-async",
    "httpx",
    "httpcore",
    "httpx2",
    "anyio",
    "attrs",
    "cattrs",
    "tenacity",
    "httptools",
    "uvloop",
    "aiohttp",
    "twilio",
    "telnyx",
    "aiolimiter",
    "pyrate-limiter",
    "throttled-py",
)


@frozen
class Result:
    """One run of one benchmark: by case, the figures of each round."""

    benchmark: str
    date: str
    machine: str
    python: str
    server: str
    packages: dict[str, str]
    rounds: dict[str, list[Figures]]
    goals: list[Goal]

    @classmethod
    def now(cls, benchmark: str, rounds: Mapping[str, list[Figures]]) -> Result:
        return cls(
            benchmark,
            datetime.now(UTC).isoformat(timespec="seconds"),
            _machine(),
            platform.python_version(),
            server_name(),
            dict(_versions()),
            dict(rounds),
            list(BENCHMARKS[benchmark].goals(_medians(rounds))),
        )

    @property
    def medians(self) -> dict[str, Figures]:
        return _medians(self.rounds)


def save(result: Result, folder: Path) -> None:
    """Write `<benchmark>.json`, and `results.md` anew from all that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(attrs.asdict(result), indent=1)
    (folder / f"{result.benchmark}.json").write_text(text + "\n")
    shown = [table(each) for each in load(folder).values()]
    packages = ", ".join(f"{name} {number}" for name, number in result.packages.items())
    versions = f"The last of them with {packages}; the others' are in their JSON files.\n"
    (folder / "results.md").write_text("\n".join(["# Results\n", *shown, versions]))


def load(folder: Path) -> dict[str, Result]:
    """The results kept in `folder`, in the order in which the benchmarks run."""
    files = {name: folder / f"{name}.json" for name in BENCHMARKS}
    return {
        name: cattrs.structure(json.loads(file.read_text()), Result)
        for name, file in files.items()
        if file.exists()
    }


def table(result: Result) -> str:
    """The medians, the ratios and the goals, as Markdown."""
    benchmark = BENCHMARKS[result.benchmark]
    medians = result.medians
    where = f"{result.machine}, Python {result.python}, {result.server}"
    count = max(map(len, result.rounds.values()))
    lines = [
        f"## {benchmark.title}",
        "",
        *_rows(benchmark, medians),
        "",
        f"Medians of {count} interleaved rounds, {result.date}, {where}.",
        "",
    ]
    lines += [
        f"- {goal.text}: **{goal.value:.4g}**" + ("" if goal.is_met else " (missed)")
        for goal in result.goals
    ]
    return "\n".join(lines).rstrip() + "\n"


def _medians(rounds: Mapping[str, list[Figures]]) -> dict[str, Figures]:
    return {
        case: {name: statistics.median(each[name] for each in figures) for name in figures[0]}
        for case, figures in rounds.items()
    }


def _rows(benchmark: Benchmark, medians: Mapping[str, Figures]) -> Iterable[str]:
    headings = list(benchmark.columns.values())
    if benchmark.reference is not None:
        headings.append(f"x {benchmark.reference}")
    rows: list[Sequence[str]] = [["", *headings], ["---", *("---:" for _ in headings)]]
    for case, figures in medians.items():
        cells = [_shown(figures.get(column)) for column in benchmark.columns]
        if benchmark.reference is not None:
            base = medians[benchmark.reference]["per_second"]
            cells.append(f"{figures['per_second'] / base:.2f}")
        rows.append([case, *cells])
    return [f"| {' | '.join(row)} |" for row in rows]


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def _versions() -> Iterable[tuple[str, str]]:
    for name in _PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _machine() -> str:
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines: Sequence[Any] = file.read_text().splitlines() if file.exists() else ()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
