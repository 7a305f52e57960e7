"""The report's plots, as SVG to put into a page.

Each is drawn at the width of a small phone, so that its text stays readable there; wider screens
show it larger. Colours are the page's own, so that they follow its light and its dark dress, and
text stays text. The same report always gives the same bytes.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from innocalls_async.campaign.report import Report
from innocalls_async.campaign.report_rates import Rates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plots"]

_WIDTH, _ROW = 4.7, 0.36  # inches of 72 units: 338 units wide
_FLOWS = 8
_LABEL = 16
# Colours that stand for the page's own, which the SVG names in their place.
_INK, _GRID = "#010101", "#020202"
_FIRST, _SECOND, _THIRD, _LIMIT = "#030303", "#040404", "#050505", "#060606"
_NAMES = {
    _INK: "--ink",
    _GRID: "--grid",
    _FIRST: "--first",
    _SECOND: "--second",
    _THIRD: "--third",
    _LIMIT: "--limit",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "innocalls",
    "text.parse_math": False,  # a $ in a flow's name is a $
    "font.size": 11,
    "font.family": "sans-serif",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_TAG = re.compile(r"<[^>]+>")
_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def plots(report: Report) -> dict[str, str]:
    """SVG elements by the name of the table that has the same figures."""
    drawings: dict[str, tuple[bool, float, Callable[[Axes, Report], None]]] = {
        "states": (report.rows > 0, len(report.states) * _ROW, _draw_states),
        "legs": (report.rates.finished > 0, 3 * _ROW + 0.3, _draw_legs),
        "hours": (bool(report.by_hour), 2.6, _draw_hours),
        "flows": (bool(report.by_flow), _flow_height(report), _draw_flows),
        "attempts": (bool(report.attempts), 2.4, _draw_attempts),
        "latency": (bool(report.latency_curve), 2.4, _draw_latency),
        "pace": (bool(report.pace.points), 2.6, _draw_pace),
    }
    return {
        name: _svg(name, report, height, draw)
        for name, (has_figures, height, draw) in drawings.items()
        if has_figures
    }


def _svg(name: str, report: Report, height: float, draw: Callable[[Axes, Report], None]) -> str:
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()  # whatever somebody's own settings say
        mpl.rcParams.update(_STYLE)
        # The reader's fonts draw the text; that ours lack a glyph only makes its width a guess.
        warnings.filterwarnings("ignore", "Glyph")
        figure = Figure(figsize=(_WIDTH, height + 0.5), layout="constrained")
        draw(figure.add_subplot(), report)
        text = StringIO()
        figure.savefig(text, format="svg", metadata=_METADATA)
    svg = text.getvalue()
    return _TAG.sub(lambda tag: _for_page(tag.group(), name), svg[svg.index("<svg") :])


def _for_page(tag: str, name: str) -> str:
    """A tag of the SVG with ids of its own, the page's colours and font, and no address."""
    tag = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", tag)
    if tag.startswith("<svg"):
        tag = re.sub(r'\s(width|height)="[^"]*"', "", tag)
        return tag.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
    tag = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{name}-", tag)
    tag = re.sub(r"(font(?:-family)?:[^;\"]*?)'[^\"]*?sans-serif", r"\1sans-serif", tag)
    return re.sub(r"#0[1-6]0[1-6]0[1-6]", lambda it: f"var({_NAMES[it.group()]})", tag)


def _bars(axes: Axes, labels: Sequence[str], values: Sequence[float], words: Sequence[str]) -> None:
    places = range(len(labels))
    bars = axes.barh(places, values, color=_FIRST, height=0.62)
    axes.bar_label(bars, labels=list(words), padding=4)
    axes.set_yticks(places, [_short(label) for label in labels])
    axes.invert_yaxis()
    axes.set_xlim(0, (max(values, default=0) or 1) * 1.28)
    axes.tick_params(length=0)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)


def _short(label: str) -> str:
    return label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…"


def _percent_bars(axes: Axes, labels: Sequence[str], rates: Sequence[float | None]) -> None:
    words = ["-" if rate is None else f"{rate:.1%}" for rate in rates]
    _bars(axes, labels, [rate or 0.0 for rate in rates], words)
    axes.set_xlim(0, 1.2)


def _draw_states(axes: Axes, report: Report) -> None:
    labels = [state.replace("_", " ") for state in report.states]
    _bars(axes, labels, list(report.states.values()), [f"{it:,}" for it in report.states.values()])


def _draw_legs(axes: Axes, report: Report) -> None:
    rates = report.rates
    labels = ["first answered", "second answered", "connected"]
    _percent_bars(axes, labels, [rates.first_rate, rates.second_rate, rates.connect_rate])


def _flow_height(report: Report) -> float:
    return min(len(report.by_flow), _FLOWS) * _ROW + 0.3


def _draw_flows(axes: Axes, report: Report) -> None:
    flows = list(report.by_flow.items())[:_FLOWS]
    _percent_bars(axes, [flow for flow, _ in flows], [rates.connect_rate for _, rates in flows])


_SERIES: tuple[tuple[str, str, str, str, Callable[[Rates], float | None]], ...] = (
    ("first leg", _FIRST, "o", "-", lambda rates: rates.first_rate),
    ("second leg", _SECOND, "s", "--", lambda rates: rates.second_rate),
    ("connected", _THIRD, "^", "-.", lambda rates: rates.connect_rate),
)


def _draw_hours(axes: Axes, report: Report) -> None:
    hours = list(report.by_hour)
    for label, color, marker, style, rate in _SERIES:
        # NaN leaves a gap where nobody was rung.
        rates = [rate(it) for it in report.by_hour.values()]
        values = [float("nan") if it is None else it for it in rates]
        axes.plot(hours, values, style, color=color, marker=marker, markersize=5, label=label)
    axes.set_ylim(0, 1.05)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda hour, _: f"{hour:02.0f}h"))
    axes.grid(axis="y", linewidth=0.6)
    axes.figure.legend(loc="outside lower center", ncols=3, columnspacing=1.2)


def _draw_attempts(axes: Axes, report: Report) -> None:
    labels = [f"{attempts}" for attempts in report.attempts]
    bars = axes.bar(labels, list(report.attempts.values()), color=_FIRST, width=0.62)
    axes.bar_label(bars, labels=[f"{it:,}" for it in report.attempts.values()], padding=2)
    axes.set_xlabel("attempts")
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.margins(y=0.15)


def _draw_latency(axes: Axes, report: Report) -> None:
    # A latency of nothing has no place on a logarithmic axis.
    seconds = [max(it, 0.001) for it in report.latency_curve]
    axes.plot(seconds, range(101), color=_FIRST, linewidth=2)
    marks = [percent for percent in report.latency if percent < 100]
    axes.plot([seconds[it] for it in marks], marks, "o", color=_SECOND)
    axes.set_xscale("log")
    axes.set_xlim(seconds[0] / 1.3, seconds[-1] * 1.3)
    axes.set_ylim(0, 104)
    axes.yaxis.set_major_formatter(PercentFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda second, _: f"{second:g} s"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.grid(linewidth=0.6)


def _draw_pace(axes: Axes, report: Report) -> None:
    points = report.pace.points
    edges = [point.elapsed for point in points] + [points[-1].elapsed + points[-1].seconds]
    axes.stairs([point.rate for point in points], edges, color=_FIRST, fill=True, label="achieved")
    limits = [float("nan") if point.limit is None else point.limit for point in points]
    axes.stairs(
        limits, edges, baseline=None, color=_LIMIT, linewidth=2, linestyle="--", label="limit"
    )
    axes.set_xlabel("seconds of sending")
    axes.set_ylabel("rows a second")
    axes.set_ylim(bottom=0)
    axes.margins(y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y", linewidth=0.6)
    axes.figure.legend(loc="outside lower center", ncols=2)
