"""From a file to a new ledger: every row read, checked, compared with the others and planned
before anything is sent."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

import attrs
from attrs import frozen

from innocalls_async.campaign import draft, store
from innocalls_async.campaign.cells import Entry, RowParser, number_parser
from innocalls_async.campaign.errors import InputError
from innocalls_async.campaign.options import InputOptions, PlanOptions
from innocalls_async.campaign.pairs import space_pairs
from innocalls_async.campaign.plan import Planned, PlanRow, Refusal
from innocalls_async.campaign.plan_summary import PlanSummary
from innocalls_async.campaign.rows import Problem, RowReader
from innocalls_async.campaign.states import State
from innocalls_async.times import load_zone

__all__ = ["InputOptions", "Loaded", "PlanOptions", "digest_of", "load"]

# Rows written, and looked at for the plan, by one statement.
_BATCH: Final = 1000

_DUPLICATES: Final = (
    ("ref", "ref", "the same ref as"),
    (
        "call_time",
        (
            "min(first_callee_number, second_callee_number), "
            "max(first_callee_number, second_callee_number), asked_time"
        ),
        "the same two callees at the same time as",
    ),
)


@frozen
class Loaded:
    """What became of the input: rows in the ledger, rows left out, columns that are not used,
    where there was something to plan, what the plan comes to, and, where there is a do-not-call
    list, how many numbers are on it and how many rows it refused."""

    rows: int
    skipped: int
    ignored: list[str]
    summary: PlanSummary | None
    listed: int | None
    on_list: int


def digest_of(path: Path) -> str:
    """The SHA-256 of the file, which tells whether it is still the same."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is no file; save the calls in one, because it is read twice")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def load(
    source: Path,
    ledger: Path,
    options: InputOptions,
    *,
    on_problem: Callable[[Problem], object] = lambda _problem: None,
    dry_run: bool = False,
    now: datetime | None = None,
) -> Loaded:
    """Make the ledger of `source` at `ledger`, whole or not at all; with `dry_run`, not at all.

    `on_problem` is told of every row that is no good. Raises `InputError` for an input that is
    not taken, and `LedgerError` for a ledger that cannot be made.
    """
    making = draft.scratch() if dry_run else draft.draft(ledger)
    with making as connection, store.reading(ledger, "made"):
        moment = now or datetime.now(UTC)
        loading = _Loading(connection, source, options, moment, on_problem, dry_run=dry_run)
        loaded = loading.carry_out()
        if not dry_run:
            draft.publish(connection, ledger)
    return loaded


@attrs.define
class _Loading:
    connection: sqlite3.Connection
    source: Path
    options: InputOptions
    now: datetime
    on_problem: Callable[[Problem], object]
    problems: int = 0
    are_rows_lost: bool = False
    listed: int | None = None
    dry_run: bool = False

    def carry_out(self) -> Loaded:
        digest = digest_of(self.source)
        reader = RowReader(self.source)
        self._insert(reader)
        if not self.options.allow_duplicates:
            self._find_duplicates()
        self._refuse_problems()
        (rows,) = self.connection.execute("SELECT count(*) FROM calls").fetchone()
        if not rows:
            raise InputError(f"{self.source} has no rows", self.problems)
        refused = "SELECT count(*) FROM calls WHERE state = 'refused'"
        (on_list,) = self.connection.execute(refused).fetchone()
        # Without hours, every row keeps the time that was checked when it was read.
        is_planned = self.dry_run or self.options.plan.is_any or self.options.allow_past
        summary = self._plan(rows) if is_planned else None
        self._note(digest)
        return Loaded(rows, self.problems, reader.ignored, summary, self.listed, on_list)

    def _refuse_problems(self) -> None:
        if self.are_rows_lost:
            raise InputError(
                f"{self.source}: rows were lost in others, which --skip-invalid does not cover; "
                "nothing was sent",
                self.problems,
            )
        if self.problems and not self.options.skip_invalid:
            rows = "1 row is" if self.problems == 1 else f"{self.problems} rows are"
            raise InputError(
                f"{self.source}: {rows} no good; nothing was sent; mend them, or leave them out "
                "with --skip-invalid",
                self.problems,
            )

    def _insert(self, reader: RowReader) -> None:
        options = self.options
        parser = RowParser(
            load_zone(options.timezone),
            number_parser(options.region),
            None if options.allow_past else self.now,
        )
        do_not_call = options.do_not_call()
        self.listed = None if do_not_call is None else len(do_not_call.numbers)
        entries = (
            _columns(entry, None if do_not_call is None else do_not_call.reason(entry.request))
            for entry in self._entries(reader, parser)
        )
        self.connection.executemany(
            "INSERT INTO calls (row, line, ref, state, error, call_flow_id, first_callee_number, "
            "first_callee_name, second_callee_number, second_callee_name, duration, call_time, "
            "asked_time) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            entries,
        )

    def _entries(self, reader: RowReader, parser: RowParser) -> Iterator[Entry]:
        for found in reader:
            entry = found if isinstance(found, Problem) else parser.parse(found)
            if isinstance(entry, Problem):
                self._complain(entry)
            else:
                yield entry

    def _complain(self, problem: Problem) -> None:
        self.problems += 1
        self.are_rows_lost = self.are_rows_lost or problem.last_line is not None
        self.on_problem(problem)

    def _find_duplicates(self) -> None:
        for column, what, said in _DUPLICATES:
            found = self.connection.execute(
                "SELECT one.row, one.line, first.row, first.line FROM (SELECT row, line, "  # noqa: S608 - ours
                f"min(row) OVER (PARTITION BY {what}) AS first FROM calls) AS one "
                "JOIN calls AS first ON first.row = one.first WHERE one.row > one.first "
                "ORDER BY one.row"
            )
            for row, line, first, first_line in found:
                self._complain(
                    Problem(row, line, column, f"{said} row {first} (line {first_line})")
                )
                self.connection.execute("DELETE FROM calls WHERE row = ?", (row,))

    def _plan(self, rows: int) -> PlanSummary:
        options = self.options
        planner = options.plan.planner(
            options.timezone, self.now, allow_past=options.allow_past, calls=rows
        )
        summary = PlanSummary(load_zone(options.timezone), self.now)
        planned = summary.counting(planner.plan(self._rows_to_plan()))
        while batch := list(islice(planned, _BATCH)):
            self._write_plan(batch)
        if summary.moved or self.options.plan.spread is not None:
            for before, one in space_pairs(self.connection, planner):
                self._write_plan([one])
                summary.replace(before, one)
        return summary

    def _rows_to_plan(self) -> Iterator[PlanRow]:
        after = 0
        while batch := self.connection.execute(
            "SELECT row, first_callee_number, second_callee_number, asked_time, duration "
            "FROM calls WHERE row > ? AND state = 'pending' ORDER BY row LIMIT ?",
            (after, _BATCH),
        ).fetchall():
            for row, first, second, asked, duration in batch:
                yield PlanRow(row, first, second, _moment(asked), duration)
            after = batch[-1][0]

    def _write_plan(self, batch: Iterable[Planned]) -> None:
        moved, refused = [], []
        for one in batch:
            if one.refusal is not None:
                state = State.EXPIRED if one.refusal is Refusal.EXPIRED else State.REFUSED
                refused.append((str(state), one.refusal.explanation, one.row))
            elif one.moved or (one.call_time is not None and self.options.plan.spread):
                moved.append((_seconds(one.call_time), one.row))
        self.connection.executemany("UPDATE calls SET call_time = ? WHERE row = ?", moved)
        self.connection.executemany("UPDATE calls SET state = ?, error = ? WHERE row = ?", refused)

    def _note(self, digest: str) -> None:
        settings = {
            "timezone": self.options.timezone,
            "source_name": self.source.name,
            "source_size": str(self.source.stat().st_size),
            "source_sha256": digest,
            "options": self.options.to_json(),
            "loaded_at": self.now.isoformat(),
            "left_out": str(self.problems),
        }
        self.connection.executemany("INSERT INTO settings VALUES (?, ?)", settings.items())


def _columns(entry: Entry, objection: str | None) -> tuple[object, ...]:
    request = entry.request
    call_time = _seconds(request.call_time)
    return (
        entry.row,
        entry.line,
        entry.ref,
        "pending" if objection is None else "refused",
        objection,
        request.call_flow_id,
        request.first_callee_number,
        request.first_callee_name,
        request.second_callee_number,
        request.second_callee_name,
        request.duration,
        call_time,
        call_time,
    )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
