"""The report on a terminal."""

from __future__ import annotations

from typing import Literal

import rich.table
from rich import box
from rich.console import Console
from rich.text import Text

from innocalls_async.campaign.report import Report
from innocalls_async.campaign.report_tables import Table, headline, tables

__all__ = ["render_terminal"]


def render_terminal(report: Report, console: Console) -> None:
    """Print every table of the report."""
    figures = ", ".join(f"{value} {words}" for words, value in headline(report))
    console.print(Text(f"{report.name}: {figures}"))
    for table in tables(report):
        console.print(_as_rich(table))
        if table.note:
            console.print(Text(table.note, style="dim"))
        console.print()


def _as_rich(table: Table) -> rich.table.Table:
    shown = rich.table.Table(
        title=table.title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    for number, column in enumerate(table.columns):
        is_figure = number in table.numeric
        justify: Literal["left", "right"] = "right" if is_figure else "left"
        shown.add_column(column, justify=justify, no_wrap=is_figure, overflow="fold")
    for cells in table.rows:
        # Text, so that nothing in a name is taken for markup.
        shown.add_row(*(Text(cell) for cell in cells))
    return shown
