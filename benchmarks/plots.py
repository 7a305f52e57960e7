"""The figures as pictures, drawn from the results that are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.cases import Medians
from benchmarks.latency import PERCENTILES
from benchmarks.limiters import PEERS as LIMITERS
from benchmarks.limiters import RATES
from benchmarks.results import Result

__all__ = ["draw"]

# Ours stand out; one colour a peer on every plot, told apart without colour vision too.
_OURS_FAST, _OURS_DEFAULT = "#0b5cad", "#5aa2e0"
_COLOURS: Final = {
    "ours fast": _OURS_FAST,
    "ours default": _OURS_DEFAULT,
    "TokenBucket": _OURS_FAST,
    "aiohttp": "#d1790b",
    "httpx": "#6b6b6b",
    "twilio": "#b33a5b",
    "telnyx": "#3c8d5a",
    "httpx2": "#a8a8a8",
    "aiolimiter": "#d1790b",
    "pyrate-limiter": "#6b6b6b",
    "throttled-py": "#b33a5b",
}
_MARKERS: Final = {"ours fast": "o", "ours default": "s", "aiohttp": "^", "httpx": "D"}
_STYLE: Final[Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titlepad": 12,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.hashsalt": "benchmarks",  # the same figures give the same file
}


def draw(results: Mapping[str, Result], folder: Path) -> list[Path]:
    """An SVG for each of `results` that has a plot; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, (benchmark, paint) in _PLOTS.items():
        if benchmark in results:
            file = folder / f"{name}.svg"
            _save(paint, results[benchmark].medians, file)
            files.append(file)
    return files


def _save(paint: Callable[[Figure, Medians], None], medians: Medians, file: Path) -> None:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        paint(figure, medians)
        figure.savefig(file, metadata={"Date": None})


def _colour(case: str) -> str:
    return _COLOURS[case.partition(",")[0].removesuffix(" multipart")]


def _thousands(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _throughput_by_connections(figure: Figure, medians: Medians) -> None:
    axes = figure.subplots()
    for peer in ("ours fast", "aiohttp", "ours default", "httpx"):
        points = sorted(
            (int(case.split(", ")[1]), figures["per_second"])
            for case, figures in medians.items()
            if case.split(", ")[0] == peer
        )
        axes.plot(
            *zip(*points, strict=True), color=_colour(peer), marker=_MARKERS[peer], label=peer
        )
    numbers = [number for number, _ in points]
    axes.set_xscale("log")
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside right upper")
    _thousands(axes.yaxis)
    axes.set(title="Calls a second by connections", xlabel="connections", ylabel="calls a second")


def _cpu_by_peer(figure: Figure, medians: Medians) -> None:
    axes = figure.subplots()
    cases = sorted(
        (case for case in medians if "gather" not in case and "multipart" not in case),
        key=lambda case: -medians[case]["cpu_us"],
    )
    _bars(axes, cases, [medians[case]["cpu_us"] for case in cases])
    axes.set(title="CPU a call, 100 connections unless noted", xlabel="microseconds")
    axes.set_xlim(right=axes.get_xlim()[1] * 1.05)
    _thousands(axes.xaxis)
    figure.set_figheight(0.32 * len(cases) + 1.3)


def _bars(axes: Axes, cases: list[str], values: list[float]) -> None:
    bars = axes.barh(cases, values, color=[_colour(case) for case in cases])
    axes.bar_label(bars, [f"{value:,.0f}" for value in values], padding=4)
    axes.grid(visible=False, axis="y")


def _memory_by_length(figure: Figure, medians: Medians) -> None:
    axes = figure.subplots()
    points = [
        (int(case.replace(",", "")), figures["peak_mb"])
        for case, figures in medians.items()
        if case.replace(",", "").isdigit()
    ]
    axes.plot(*zip(*points, strict=True), color=_OURS_FAST, marker="o")
    for length, peak in points:
        axes.annotate(
            f"{peak:.0f} MB", (length, peak), (0, 9), textcoords="offset points", ha="center"
        )
    lengths = [length for length, _ in points]
    axes.set_xscale("log")
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axes.minorticks_off()
    axes.set_ylim(0, 110)
    axes.margins(x=0.1)
    axes.set(
        title="Memory by list length, bridge_many from a generator",
        xlabel="requests in the list",
        ylabel="peak resident memory of the process, MB",
    )


def _limiter_accuracy(figure: Figure, medians: Medians) -> None:
    figure.set_figheight(4.4)
    panels = figure.subplots(1, 2)
    titles = {"share": "% of the rate used", "excess": "% over the rate in the worst second"}
    for axes, (figure_name, title) in zip(panels, titles.items(), strict=True):
        width = 0.8 / len(LIMITERS)
        for place, peer in enumerate(LIMITERS):
            values = [medians[f"{peer}, {rate}/s"][figure_name] for rate in RATES]
            spots = [
                index + width * (place - (len(LIMITERS) - 1) / 2) for index in range(len(RATES))
            ]
            bars = axes.bar(spots, values, width * 0.9, color=_colour(peer), label=peer)
            labels = [f"{value:.1f}".removesuffix(".0") for value in values]
            axes.bar_label(bars, labels, padding=2, fontsize=7, rotation=90)
        axes.set_xticks(range(len(RATES)), [f"{rate:,}/s" for rate in RATES])
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.15)
        axes.set_title(title)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)


def _latency_percentiles(figure: Figure, medians: Medians) -> None:
    axes = figure.subplots()
    names = [f"p{share:g}" for share in PERCENTILES]
    for case, figures in medians.items():
        axes.plot(
            names,
            [figures[name] for name in names],
            color=_colour(case),
            marker="o",
            linestyle="--" if "uvloop" in case else "-",
            label=case,
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(title="Latency at 500 calls a second", ylabel="milliseconds, log scale")
    figure.legend(loc="outside right upper")


_PLOTS: Final[Mapping[str, tuple[str, Callable[[Figure, Medians], None]]]] = {
    "throughput_by_connections": ("connections", _throughput_by_connections),
    "cpu_by_peer": ("throughput", _cpu_by_peer),
    "memory_by_length": ("length", _memory_by_length),
    "limiter_accuracy": ("limiters", _limiter_accuracy),
    "latency_percentiles": ("latency", _latency_percentiles),
}
