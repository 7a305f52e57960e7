"""The commands that only read a ledger: status, export, report, backup. They work while it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from innocalls_async.campaign import Ledger, State, export
from innocalls_async.campaign.draft import back_up
from innocalls_async.campaign.ledger import BROKEN_OFF
from innocalls_async.campaign.replacing import replacing
from innocalls_async.cli.campaign_run import exit_code, tell, told
from innocalls_async.cli.common import Json, console, fail, print_json
from innocalls_async.times import load_zone

if TYPE_CHECKING:
    from innocalls_async.campaign.report import Report

__all__ = ["backup", "export_rows", "report", "status", "tell_counts", "tell_facts"]

LedgerFile = Annotated[Path, typer.Argument(metavar="RUN.db", help="The campaign's ledger.")]


class Format(StrEnum):
    """What is exported."""

    CSV = "csv"
    JSONL = "jsonl"


def status(ledger: LedgerFile, as_json: Json = False) -> None:
    """Show how many rows are in each state; also while the campaign runs.

    Exits as `run` would, so with 5 as long as rows are left to send.
    """
    with told(), Ledger(ledger, owner=False) as opened:
        at_work = opened.is_at_work  # also before the runs are read: one may end meanwhile
        counts = opened.counts()
        runs = list(opened.select("SELECT started_at, ended_at, result FROM runs ORDER BY run"))
        left_out = int(opened.setting("left_out") or 0)
        zone = load_zone(opened.setting("timezone") or "UTC")
        unended = "running" if at_work or opened.is_at_work else BROKEN_OFF
    last = runs[-1] if runs else (None, None, None)
    more = {
        "left_out": left_out,  # of the file, as no good: they are in no state
        "runs": len(runs),
        "last_run_at": last[0] and datetime.fromtimestamp(last[0], zone),
        "last_result": last[2] or (unended if runs else None),
    }
    if as_json:
        tell_counts(counts, as_json=True, more=more)
    else:
        tell_facts({**{str(state): n for state, n in counts.items()}, **more}, as_json=False)
    raise typer.Exit(exit_code(counts))


def export_rows(
    ledger: LedgerFile,
    style: Annotated[Format, typer.Option("--format", help="CSV or JSON lines.")] = Format.CSV,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file instead of standard output.")
    ] = None,
) -> None:
    """Write every row with its state, numbers whole: it is your own data.

    In CSV, a text that a spreadsheet would take for a formula gets an apostrophe before it; JSON
    lines have everything as it is.
    """
    with told(), Ledger(ledger, owner=False) as opened:
        if output is None:
            _export_to_pipe(opened, style)
        else:
            with replacing(output) as file:
                export.export(opened, file, style.value)


def report(
    ledger: LedgerFile,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write it as one page to this file, too.")
    ] = None,
    show_numbers: Annotated[
        bool, typer.Option("--show-numbers", help="Whole numbers instead of masked ones.")
    ] = False,
) -> None:
    """Show what became of the calls: states, answer and connect rates, attempts, pace."""
    from innocalls_async.campaign.report import read_report  # noqa: PLC0415 - few need it
    from innocalls_async.campaign.report_terminal import render_terminal  # noqa: PLC0415

    write = None if html is None else _page_writer(html)
    with told():
        content = read_report(ledger, masked=not show_numbers)
        render_terminal(content, console)
        if write is not None:
            write(content)


def _page_writer(path: Path) -> Callable[[Report], None]:
    try:
        from innocalls_async.campaign.report_page import write_html  # noqa: PLC0415 - an extra
    except ImportError:
        fail("a page needs the extra `report`: pip install 'innocalls-async[report]'")
    return lambda report: write_html(report, path)


def backup(
    ledger: LedgerFile,
    copy: Annotated[
        Path, typer.Argument(metavar="COPY.db", help="The copy; it must not be there yet.")
    ],
) -> None:
    """Copy a ledger whole, also while the campaign runs.

    Copying its file by other means is not enough: what was written last may stand in a file beside
    it.
    """
    with told():
        back_up(ledger, copy)


def _export_to_pipe(ledger: Ledger, style: Format) -> None:
    try:
        export.export(ledger, sys.stdout, style.value)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has enough; the interpreter shall not complain of it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell_facts(facts: Mapping[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), _shown(value))
    console.print(table)


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case datetime():
            return value.isoformat(" ", "seconds")
        case Mapping():
            return ", ".join(f"{name} {_shown(one)}" for name, one in value.items()) or "-"
        case _:
            return str(value)


def tell_counts(counts: Mapping[State, int], *, as_json: bool, more: Mapping[str, object]) -> None:
    facts = {str(state): count for state, count in counts.items()}
    if as_json:
        print_json({**more, "rows": sum(counts.values()), **facts})
    else:
        tell(
            ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in facts.items() if count)
        )
