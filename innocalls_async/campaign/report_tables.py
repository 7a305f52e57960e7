"""The report's figures as words: the same tables for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Collection

from attrs import frozen

from innocalls_async.campaign.report import Report
from innocalls_async.campaign.report_rates import Rates

__all__ = ["Table", "headline", "tables"]

_FLOWS = 20
_KINDS = 20
_RUNS = 20
_NONE = "-"


@frozen
class Table:
    """Rows of text under `columns`; `numeric` says which columns are figures. `note` says what
    the figures mean, or what is not shown."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: Collection[int] = ()
    note: str = ""


def headline(report: Report) -> list[tuple[str, str]]:
    """The few figures that matter most, with their words."""
    states = report.states
    rarer = {"expired": states["expired"], "cancelled": states["cancelled"]}
    left_out = [("left out of the file", f"{report.left_out:,}")] if report.left_out else []
    return [
        ("rows", f"{report.rows:,}"),
        ("scheduled", f"{states['scheduled']:,}"),
        ("refused", f"{states['refused']:,}"),
        ("in doubt", f"{states['in_doubt']:,}"),
        *((words, f"{count:,}") for words, count in rarer.items() if count),
        ("not sent yet", f"{states['pending'] + states['sending']:,}"),
        ("connect rate", _percent(report.rates.connect_rate)),
        *left_out,
    ]


def tables(report: Report) -> list[Table]:
    """Every table of the report, those without a figure left out."""
    every = [
        _states(report),
        _legs(report),
        _hours(report),
        _flows(report),
        _attempts(report),
        _latency(report),
        _runs(report),
        _errors(report),
        _attention(report),
    ]
    return [table for table in every if table.rows]


def _states(report: Report) -> Table:
    rows = tuple(
        (state.replace("_", " "), f"{count:,}", _share(count, report.rows))
        for state, count in report.states.items()
    )
    return Table("states", "Rows by state", ("state", "rows", "share"), rows, (1, 2))


def _legs(report: Report) -> Table:
    first, second = (leg.states for leg in report.legs)
    rates = report.rates
    states = dict.fromkeys([*first, *second])
    counts = tuple(
        (state.replace("_", " "), f"{first.get(state, 0):,}", f"{second.get(state, 0):,}")
        for state in states
    )
    answer_rate = ("answer rate", _percent(rates.first_rate), _percent(rates.second_rate))
    return Table(
        "legs",
        "Answers by leg",
        ("state", "first", "second"),
        (*counts, answer_rate) if counts else (),
        (1, 2),
        f"{rates.finished:,} finished calls, {rates.connected:,} connected: a connect rate of "
        f"{_percent(rates.connect_rate)}. The answer rate is answered of rung.",
    )


_RATE_COLUMNS = ("calls", "first leg", "second leg", "connected")
_RATE_NOTE = "Answer rate of each leg, and connect rate."


def _rate_cells(rates: Rates) -> tuple[str, ...]:
    shares = (rates.first_rate, rates.second_rate, rates.connect_rate)
    return (f"{rates.finished:,}", *map(_percent, shares))


def _hours(report: Report) -> Table:
    rows = tuple((f"{hour:02}:00", *_rate_cells(rates)) for hour, rates in report.by_hour.items())
    note = f"{_RATE_NOTE} Finished calls by the hour they took place, in {report.zone.key}."
    columns = ("hour", *_RATE_COLUMNS)
    return Table("hours", "Answers by hour", columns, rows, (1, 2, 3, 4), note)


def _flows(report: Report) -> Table:
    flows = list(report.by_flow.items())
    rows = tuple((flow, *_rate_cells(rates)) for flow, rates in flows[:_FLOWS])
    note = f"{_RATE_NOTE} {_left_out(len(flows), _FLOWS, 'flows with the most calls')}".strip()
    columns = ("flow", *_RATE_COLUMNS)
    return Table("flows", "Answers by flow", columns, rows, (1, 2, 3, 4), note)


def _attempts(report: Report) -> Table:
    total = sum(report.attempts.values())
    rows = tuple(
        (f"{attempts:,}", f"{count:,}", _share(count, total))
        for attempts, count in report.attempts.items()
    )
    note = "HTTP exchanges that a row took. Rows that were never sent are left out."
    return Table("attempts", "Attempts", ("attempts", "rows", "share"), rows, (1, 2), note)


def _latency(report: Report) -> Table:
    rows = tuple(
        ("all" if percent == 100 else f"{percent} %", f"{seconds:.3f} s")
        for percent, seconds in report.latency.items()
    )
    note = (
        "From when a row was taken up to the answer that scheduled it: waiting for its turn at the "
        "limit, pauses and retries included."
    )
    return Table("latency", "Latency", ("scheduled rows", "within"), rows, (1,), note)


def _runs(report: Report) -> Table:
    runs = [run for run in report.pace.runs if run.rows]
    rows = tuple(
        (
            f"{run.run}",
            f"{run.rows:,}",
            f"{run.seconds:,}",
            f"{run.rate:.1f}",
            f"{run.peak:,}",
            _NONE if run.limit is None else f"{run.limit:g}",
        )
        for run in runs[-_RUNS:]
    )
    note = (
        "Rates are in rows a second, the peak in the busiest one. A row counts when it was taken "
        "up, which is before it waits for its turn at the limit. "
    ) + _left_out(len(runs), _RUNS, "runs, the last ones")
    columns = ("run", "rows", "seconds", "rate", "peak", "limit")
    return Table("pace", "Rate against the limit", columns, rows, (1, 2, 3, 4, 5), note.strip())


def _errors(report: Report) -> Table:
    rows = tuple((one.kind, f"{one.rows:,}", one.example) for one in report.errors[:_KINDS])
    note = _left_out(len(report.errors), _KINDS, "kinds with the most rows")
    return Table("errors", "Errors by kind", ("kind", "rows", "for example"), rows, (1,), note)


def _attention(report: Report) -> Table:
    rows = tuple(
        (
            f"{one.row}",
            one.ref,
            one.state.replace("_", " "),
            f"{one.first_callee_name}\n{one.first_callee_number}".strip(),
            f"{one.second_callee_name}\n{one.second_callee_number}".strip(),
            "at once" if one.call_time is None else f"{one.call_time:%Y-%m-%d %H:%M}",
            one.error,
        )
        for one in report.attention
    )
    shown = f"{len(rows):,} of {report.attention_rows:,} rows. " if rows else ""
    note = (
        f"{shown}Whether a row in doubt is on the service's books is not known: look, then say so "
        "with: innocalls campaign resolve. All rows are in: innocalls campaign export."
    )
    columns = ("row", "ref", "state", "first callee", "second callee", "call time", "why")
    return Table("attention", "Rows that need a person", columns, rows, (), note)


def _percent(rate: float | None) -> str:
    return _NONE if rate is None else f"{rate:.1%}"


def _share(part: int, whole: int) -> str:
    return _percent(part / whole if whole else None)


def _left_out(count: int, shown: int, what: str) -> str:
    return f"{shown} of {count:,} {what}." if count > shown else ""
