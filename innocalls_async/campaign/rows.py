"""The input file as rows of text: CSV as spreadsheets write it, or JSON lines. Streamed.

What is in a cell is `intake`'s business; here it is only found, with the line it stands in.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, BinaryIO, Final, Protocol

from attrs import frozen

from innocalls_async.campaign.errors import InputError

__all__ = ["COLUMNS", "Problem", "Row", "RowReader"]

REQUIRED: Final = (
    "call_flow_id",
    "first_callee_number",
    "first_callee_name",
    "second_callee_number",
    "second_callee_name",
    "duration",
)
COLUMNS: Final = (*REQUIRED, "call_time", "ref")

_DELIMITERS: Final = (",", ";", "\t")
_JSON_NAMES: Final = (".jsonl", ".ndjson", ".json")


@frozen
class Row:
    """One row: its place among the rows (from 1), the line of the file that it begins in, and
    its cells by column."""

    row: int
    line: int
    cells: Mapping[str, str]


@frozen
class Problem:
    """What is wrong with a row; `column` is None where it is not one cell."""

    row: int
    line: int
    column: str | None
    reason: str

    def __str__(self) -> str:
        where = "" if self.column is None else f", column {self.column}"
        return f"row {self.row} (line {self.line}){where}: {self.reason}"


class RowReader:
    """The rows of the file at `path`, and the problems of those that are none.

    Once iteration began, `ignored` has the columns that nothing is done with.

    Raises:
        InputError: the file cannot be read at all, or lacks a column.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ignored: list[str] = []

    def __iter__(self) -> Iterator[Row | Problem]:
        try:
            with self.path.open("rb") as raw, _text(raw) as file:
                yield from self._read(file)
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}") from error
        except UnicodeError:
            raise InputError(
                f"{self.path} is not the UTF-16 text that its first bytes promise; "
                "save it as 'CSV UTF-8'"
            ) from None

    def _read(self, file: IO[str]) -> Iterator[Row | Problem]:
        first = file.readline()
        if not first:
            raise InputError(f"{self.path} is empty")
        lines = chain([first], file)
        if self.path.suffix.lower() in _JSON_NAMES or first.lstrip().startswith("{"):
            return self._json_rows(lines)
        return self._csv_rows(lines)

    def _csv_rows(self, lines: Iterator[str]) -> Iterator[Row | Problem]:
        first = next(lines)
        skipped = 0
        # Excel writes, and heeds, a first line that names the separator.
        hint = re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE)
        if hint:
            first, skipped = next(lines, ""), 1
        delimiter = hint.group(1) if hint else _delimiter(first)
        reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
        try:
            header = [_folded(name) for name in next(reader, [])]
        except csv.Error as error:
            raise InputError(f"{self.path}: the header cannot be read: {error}") from None
        self._check(header)
        yield from _csv_body(reader, header, skipped)

    def _check(self, header: Sequence[str]) -> None:
        missing = [name for name in REQUIRED if name not in header]
        if missing:
            raise InputError(
                f"{self.path}: the first line must name the columns; missing: {', '.join(missing)}"
            )
        if twice := sorted({name for name in header if name in COLUMNS and header.count(name) > 1}):
            raise InputError(f"{self.path}: named twice in the first line: {', '.join(twice)}")
        self.ignored = [name for name in header if name and name not in COLUMNS]

    def _json_rows(self, lines: Iterator[str]) -> Iterator[Row | Problem]:
        row = 0
        for line, text in enumerate(lines, 1):
            if not text.strip():
                continue
            row += 1
            cells = _json_cells(row, line, text)
            if isinstance(cells, Problem):
                yield cells
                continue
            for name in cells:
                if name not in COLUMNS and name not in self.ignored:
                    self.ignored.append(name)
            yield Row(row, line, cells)


class _Reader(Protocol):
    """What `csv.reader` gives."""

    @property
    def line_num(self) -> int: ...
    def __next__(self) -> list[str]: ...


def _text(raw: BinaryIO) -> io.TextIOWrapper:
    start = raw.read(4)
    raw.seek(0)
    is_utf_16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    # Bytes that are no UTF-8 go through, so that the row they stand in can be named.
    return io.TextIOWrapper(
        raw,
        encoding="utf-16" if is_utf_16 else "utf-8-sig",
        errors="strict" if is_utf_16 else "surrogateescape",
        newline="",
    )


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def _delimiter(header: str) -> str:
    """The one that finds the most columns that are known."""

    def found(delimiter: str) -> int:
        names = header.replace('"', "").split(delimiter)
        return sum(_folded(name) in COLUMNS for name in names)

    return max(_DELIMITERS, key=found)


def _csv_body(reader: _Reader, header: list[str], skipped: int) -> Iterator[Row | Problem]:
    row = 0
    while True:
        line = reader.line_num + skipped + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            row += 1
            yield Problem(row, line, None, f"is not CSV: {error}; is a quote never closed?")
            continue
        if values is None:
            return
        if not any(values) or not any(map(str.strip, values)):
            continue
        row += 1
        if len(values) > len(header):
            reason = f"has {len(values)} cells, the header {len(header)}; put quotes around text "
            yield Problem(row, line, None, reason + "that holds the separator")
            continue
        yield Row(row, line, dict(zip(header, values, strict=False)))


def _json_cells(row: int, line: int, text: str) -> dict[str, str] | Problem:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return Problem(row, line, None, "is not JSON")
    if not isinstance(value, dict):
        return Problem(row, line, None, "is not a JSON object")
    cells = {}
    for key, cell in value.items():
        name = _folded(key)
        if name not in COLUMNS or cell is None:
            cells[name] = ""
        elif isinstance(cell, bool) or not isinstance(cell, str | int):
            return Problem(row, line, name, "a string or a whole number is needed")
        else:
            cells[name] = str(cell)
    return cells
