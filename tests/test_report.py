"""The report: its figures against the ledger's rows, on the terminal and on the page."""

from __future__ import annotations

import random
import re
from collections import Counter
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from innocalls_async.campaign.draft import draft, publish
from innocalls_async.campaign.errors import LedgerError
from innocalls_async.campaign.report import Report, read_report
from innocalls_async.campaign.report_attention import ATTENTION_ROWS
from innocalls_async.campaign.report_page import page
from innocalls_async.campaign.report_tables import Table, headline, tables
from innocalls_async.campaign.report_terminal import render_terminal

START = 1_776_600_000  # 2026-04-19 14:00 in Cairo
EVIL = "<script>alert(1)</script>"
COLUMNS = (
    "row, ref, state, call_flow_id, first_callee_number, first_callee_name, second_callee_number, "
    "second_callee_name, duration, call_time, call_id, attempts, error, sent_at, ended_at, "
    "call_status, first_status, second_status, actual_time"
)

Row = dict[str, Any]


def make_rows(count: int, seed: int = 7) -> list[Row]:
    chance = random.Random(seed)
    return [_make_row(number, chance) for number in range(1, count + 1)]


def _make_row(number: int, chance: random.Random) -> Row:
    sent = START + number / 20 + (3600 if number > 600 else 0)
    row: Row = dict.fromkeys(COLUMNS.replace(",", "").split())
    row |= {
        "row": number,
        "ref": f"A-{number}",
        "state": chance.choices(
            ["scheduled", "refused", "in_doubt", "expired", "cancelled"], [90, 4, 2, 2, 2]
        )[0],
        "call_flow_id": chance.choice(["5f1d7a", "support $^$", "客服 ☎", EVIL]),
        "first_callee_number": f"2011{number:08}",
        "first_callee_name": chance.choice(["Ahmed", "منى", EVIL, "[bold]Sara[/bold]"]),
        "second_callee_number": f"2012{number:08}",
        "second_callee_name": "Desk & Co",
        "duration": 2,
        "call_time": START + chance.randrange(8 * 3600),
        "attempts": chance.choices([1, 2, 3], [90, 8, 2])[0],
        "sent_at": sent,
        "ended_at": sent + chance.lognormvariate(-2, 0.6),
    }
    if row["state"] == "scheduled":
        _add_status(row, chance)
    elif row["state"] in ("refused", "in_doubt"):
        row["error"] = chance.choice(
            [
                f"create: the service answered 422: {EVIL}; first_callee_number: 2011{number:08}",
                "create: the service answered 500: Server Error",
                f"create: the call may or may not be on the service's books (lost {number})",
            ]
        )
    return row


def _add_status(row: Row, chance: random.Random) -> None:
    row["call_id"] = f"id-{row['row']}"
    row["call_status"] = chance.choices(
        ["completed", "failed", "pending", "deleted", None], [6, 3, 1, 1, 1]
    )[0]
    if row["call_status"] in ("completed", "failed"):
        row["actual_time"] = row["call_time"] + 60
        row["first_status"] = chance.choice(["answered", "answered", "not_answered", "busy"])
        rung = row["first_status"] == "answered"
        row["second_status"] = chance.choice(["answered", "failed"]) if rung else "not_sent"


def make_ledger(path: Path, rows: list[Row]) -> Path:
    with draft(path) as connection:
        marks = ", ".join(f":{name}" for name in COLUMNS.replace(",", "").split())
        connection.executemany(f"INSERT INTO calls ({COLUMNS}) VALUES ({marks})", rows)  # noqa: S608
        connection.execute("INSERT INTO settings VALUES ('timezone', 'Africa/Cairo')")
        connection.executemany(
            "INSERT INTO runs VALUES (?, ?, ?, ?, ?)",
            [(1, START, None, 20.0, None), (2, START + 3600, START + 9000, 25.0, "done")],
        )
        publish(connection, path)
    return path


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return make_rows(1200)


@pytest.fixture(scope="module")
def report(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Report:
    return read_report(make_ledger(tmp_path_factory.mktemp("ledger") / "RUN.db", rows))


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return page(report)


def finished(rows: list[Row]) -> list[Row]:
    done = {"completed", "failed"}
    return [row for row in rows if row["state"] == "scheduled" and row["call_status"] in done]


def test_states_are_counted(report: Report, rows: list[Row]) -> None:
    """Every state has its number of rows, those without a row have 0."""
    counts = Counter(row["state"] for row in rows)
    assert {state: count for state, count in report.states.items() if count} == counts
    assert report.states["pending"] == 0
    assert report.rows == len(rows)


def test_rates_are_of_finished_calls(report: Report, rows: list[Row]) -> None:
    """Answered of rung for each leg, and both answered of all that finished."""
    calls = finished(rows)
    first = [row for row in calls if row["first_status"] == "answered"]
    second = [row for row in calls if row["second_status"] == "answered"]
    assert report.rates.finished == report.rates.first_rung == len(calls)
    assert report.rates.first_answered == report.rates.second_rung == len(first)
    assert report.rates.second_answered == report.rates.connected == len(second)
    assert report.rates.second_rate == len(second) / len(first)
    assert report.rates.connect_rate == len(second) / len(calls)


def test_hours_and_flows_add_up(report: Report, rows: list[Row]) -> None:
    """The parts have as many calls as the whole, in the hours of the account's zone."""
    calls = finished(rows)
    in_hour = Counter(14 + (row["actual_time"] - START) // 3600 for row in calls)
    assert {hour: rates.finished for hour, rates in report.by_hour.items()} == in_hour
    by_flow = Counter(row["call_flow_id"] for row in calls)
    assert {flow: rates.finished for flow, rates in report.by_flow.items()} == by_flow
    assert sum(rates.connected for rates in report.by_hour.values()) == report.rates.connected
    assert sum(rates.connected for rates in report.by_flow.values()) == report.rates.connected


def test_legs_show_what_became_of_the_ringing(report: Report, rows: list[Row]) -> None:
    """Each leg's states are counted over the finished calls."""
    for leg in report.legs:
        counts = Counter(row[f"{leg.name}_status"] for row in finished(rows))
        assert leg.states == counts


def test_attempts_and_latency(report: Report, rows: list[Row]) -> None:
    """Attempts are a histogram; latencies are exact, by nearest rank."""
    assert report.attempts == Counter(row["attempts"] for row in rows)
    seconds = sorted(
        row["ended_at"] - row["sent_at"] for row in rows if row["state"] == "scheduled"
    )
    assert report.latency[100] == pytest.approx(seconds[-1])
    assert report.latency[50] == pytest.approx(seconds[-(-len(seconds) // 2) - 1])
    assert report.latency[99] == pytest.approx(seconds[-(-len(seconds) * 99 // 100) - 1])


def test_the_pace_is_told_run_by_run(report: Report) -> None:
    """Rows belong to the run that sent them, and the time between the runs does not count."""
    first, second = report.pace.runs
    assert (first.rows, second.rows) == (600, 600)
    assert (first.limit, second.limit) == (20.0, 25.0)
    assert first.rate == pytest.approx(20, rel=0.05)
    assert first.peak == 20
    assert sum(point.rate * point.seconds for point in report.pace.points) == pytest.approx(1200)
    assert report.pace.points[-1].elapsed < 65


def test_errors_are_gathered_by_kind(report: Report, rows: list[Row]) -> None:
    """Errors that begin alike are one kind, whatever numbers and names follow."""
    kinds = {error.kind: error.rows for error in report.errors}
    errors = [row["error"] for row in rows if row["error"]]
    assert kinds["create: the service answered 422"] == sum("422" in it for it in errors)
    assert sum(kinds.values()) == len(errors)
    assert len(kinds) == 3


def test_the_rows_that_need_a_person_are_listed(report: Report, rows: list[Row]) -> None:
    """In doubt comes first, then refused, with their count and their numbers masked."""
    concerned = [row for row in rows if row["state"] in ("in_doubt", "refused")]
    assert report.attention_rows == len(concerned)
    assert report.attention[0].state == "in_doubt"
    assert report.attention[0].first_callee_number.startswith("*********")
    assert not any(row["first_callee_number"] in repr(report) for row in rows)


def test_the_list_is_capped_with_its_count(tmp_path: Path) -> None:
    """However many rows need a person, some are listed and all are counted."""
    rows = [row | {"state": "refused"} for row in make_rows(ATTENTION_ROWS + 50)]
    report = read_report(make_ledger(tmp_path / "RUN.db", rows))
    assert len(report.attention) == ATTENTION_ROWS
    listed = tables(report)[-1]
    assert len(listed.rows) == ATTENTION_ROWS
    assert f"{ATTENTION_ROWS} of {ATTENTION_ROWS + 50} rows" in listed.note


def test_numbers_are_shown_when_asked_for(tmp_path: Path, rows: list[Row]) -> None:
    """Unmasked, the list has the whole numbers of the rows that need a person."""
    report = read_report(make_ledger(tmp_path / "RUN.db", rows), masked=False)
    refused = next(row for row in rows if row["state"] == "refused")
    assert refused["first_callee_number"] in str(tables(report)[-1].rows)


def test_an_empty_ledger_has_a_report(tmp_path: Path) -> None:
    """Before anything was sent there are states, and no figure is made up."""
    rows = [row | {"state": "pending", "sent_at": None, "attempts": 0} for row in make_rows(3)]
    rows = [row | dict.fromkeys(("error", "call_status", "ended_at")) for row in rows]
    report = read_report(make_ledger(tmp_path / "RUN.db", rows))
    assert report.rates.connect_rate is None
    assert report.latency == {}
    assert {table.name for table in tables(report)} == {"states"}
    assert "No call is known to have finished yet" in page(report)


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    """A missing file and another file are refused by name, and left as they are."""
    with pytest.raises(LedgerError, match=r"nothing\.db"):
        read_report(tmp_path / "nothing.db")
    text = tmp_path / "text.db"
    text.write_text("hello")
    with pytest.raises(LedgerError, match="is not a ledger"):
        read_report(text)
    assert text.read_text() == "hello"


def test_the_terminal_has_every_table(report: Report) -> None:
    """Each table's title and figures are printed, and markup in a name is shown as it is."""
    file = StringIO()
    render_terminal(report, Console(file=file, width=220))
    text = file.getvalue()
    for table in tables(report):
        assert table.title in text
        words = [word for cells in table.rows[:3] for cell in cells for word in cell.split()]
        assert all(word in text for word in words)
    assert "[bold]Sara[/bold]" in text


class Reader(HTMLParser):
    """Reads a page: its tables by id of their section, its elements and its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.figures: list[str] = []
        self._section = ""
        self._open: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += attrs
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
            self.tables[self._section] = []
        elif tag == "tr":
            self.tables[self._section].append([])
        elif tag in ("td", "th"):
            self._open = ""
        elif tag == "dd":
            self.figures.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._open is not None:
            self.tables[self._section][-1].append(self._open)
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self._open += data
        elif self.get_starttag_text() == "<dd>" and self.figures and not self.figures[-1]:
            self.figures[-1] = data


def table_cells(table: Table) -> list[list[str]]:
    return [list(table.columns), *(list(cells) for cells in table.rows)]


def test_the_page_has_the_figures_of_the_ledger(report: Report, html: str) -> None:
    """Every cell of every table is on the page, in its place, and so are the headline's figures."""
    reader = Reader(html)
    assert reader.tables == {table.name: table_cells(table) for table in tables(report)}
    assert reader.figures == [value for _, value in headline(report)]
    by_state = {cells[0]: cells[1] for cells in reader.tables["states"][1:]}
    assert by_state["in doubt"] == str(report.states["in_doubt"])


def test_each_plot_stands_beside_its_table(html: str) -> None:
    """Seven plots, none of them the only place of a figure, all hidden from screen readers."""
    reader = Reader(html)
    assert reader.elements["svg"] == 7
    assert html.count('<svg aria-hidden="true"') == 7
    assert set(reader.tables) > {"states", "legs", "hours", "flows", "attempts", "latency", "pace"}


def test_the_plots_say_the_same_figures(report: Report, html: str) -> None:
    """The bars' labels are text, with the numbers of the table."""
    drawing = html[html.index('id="states"') : html.index('id="legs"')]
    words = re.findall(r"<text[^>]*>([^<]*)</text>", drawing)
    assert {f"{count:,}" for count in report.states.values()} <= set(words)


def test_no_request_leaves_the_page(html: str) -> None:
    """No script, no address, no import: nothing that a browser would fetch."""
    reader = Reader(html)
    assert not reader.elements.keys() & {"script", "link", "img", "iframe", "object", "base"}
    fetching = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"}
    addresses = [value for name, value in reader.attributes if name in fetching]
    assert all((address or "").startswith("#") for address in addresses)
    assert all(it.startswith("#") for it in re.findall(r"url\(([^)]*)\)", html))
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert not any(name.startswith("on") for name, _ in reader.attributes)


def test_ids_are_used_once(html: str) -> None:
    """Several plots on one page do not share a clip path or a marker."""
    reader = Reader(html)
    ids = [value for name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', html))
    assert used <= set(ids)


def test_what_the_ledger_says_is_inert(html: str) -> None:
    """A name, a flow or an error that is markup is shown, in tables and plots alike."""
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "support $^$" in html


def test_the_same_ledger_gives_the_same_page(report: Report, html: str) -> None:
    """No date and no chance is in the page."""
    assert page(report) == html
