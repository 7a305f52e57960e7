"""The report as one page that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from innocalls_async.campaign.replacing import replacing
from innocalls_async.campaign.report import Report
from innocalls_async.campaign.report_plots import plots
from innocalls_async.campaign.report_tables import headline, tables

__all__ = ["page", "write_html"]


def page(report: Report) -> str:
    """The page's text. The same report always gives the same page."""
    environment = Environment(
        loader=PackageLoader("innocalls_async.campaign", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report_page.html").render(
        report=report,
        headline=headline(report),
        tables=tables(report),
        # Ours, from end to end: the plots' own text was escaped when they were written.
        plots={name: Markup(svg) for name, svg in plots(report).items()},  # noqa: S704
    )


def write_html(report: Report, path: str | Path) -> None:
    """Write the page to `path`, in UTF-8; OSError if that cannot be done, and `CampaignError` if a
    ledger is there."""
    with replacing(Path(path)) as file:
        file.write(page(report))
