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
from typing import IO, Any, BinaryIO, Final, Protocol

from attrs import define, frozen

from innocalls_async.campaign.errors import InputError

__all__ = ["COLUMNS", "Problem", "Row", "RowReader", "text_of"]

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
# A cell of more lines than this was not meant to have them.
_CELL_LINES: Final = 10
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_NUMBER_DIGITS: Final = 7


@frozen
class Row:
    """One row: its place among the rows (from 1), the line of the file that it begins in, and
    its cells by column."""

    row: int
    line: int
    cells: Mapping[str, str]


@frozen
class Problem:
    """What is wrong with a row; `column` is None where it is not one cell.

    With a `last_line` it goes that far, and other rows are lost in it: it cannot be left out.
    """

    row: int
    line: int
    column: str | None
    reason: str
    last_line: int | None = None

    def __str__(self) -> str:
        where = "" if self.column is None else f", column {self.column}"
        last = self.last_line
        lines = f"line {self.line}" if last is None else f"lines {self.line} to {last}"
        return f"row {self.row} ({lines}){where}: {self.reason}"


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
            with self.path.open("rb") as raw, text_of(raw) as file:
                yield from self._read(file)
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}") from error
        except UnicodeError:
            raise InputError(
                f"{self.path} is not the UTF-16 text that its first bytes promise; "
                "save it as 'CSV UTF-8'"
            ) from None

    def _read(self, file: IO[str]) -> Iterator[Row | Problem]:
        skipped = 0
        for first in file:
            if first.strip():
                break
            skipped += 1
        else:
            raise InputError(f"{self.path} is empty")
        lines = chain([first], file)
        if self.path.suffix.lower() in _JSON_NAMES or first.lstrip().startswith("{"):
            return self._json_rows(lines, skipped)
        return self._csv_rows(lines, skipped)

    def _csv_rows(self, lines: Iterator[str], skipped: int) -> Iterator[Row | Problem]:
        first = next(lines)
        # Excel writes, and heeds, a first line that names the separator.
        hint = re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE)
        if hint:
            first, skipped = next(lines, ""), skipped + 1
        delimiter = hint.group(1) if hint else _delimiter(first)
        reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
        try:
            names = next(reader, [])
        except csv.Error as error:
            raise InputError(f"{self.path}: the header cannot be read: {error}") from None
        body = _CsvBody(reader, [_folded(name) for name in names], delimiter, skipped)
        if body.hides_rows(names):
            raise InputError(
                f"{self.path}: the header goes on to line {reader.line_num + skipped}; is a quote "
                "never closed?"
            )
        self._check(body.header)
        yield from body

    def _check(self, header: Sequence[str]) -> None:
        missing = [name for name in REQUIRED if name not in header]
        if missing:
            raise InputError(
                f"{self.path}: the first line must name the columns; missing: {', '.join(missing)}"
            )
        if twice := sorted({name for name in header if name in COLUMNS and header.count(name) > 1}):
            raise InputError(f"{self.path}: named twice in the first line: {', '.join(twice)}")
        self.ignored = [name for name in header if name and name not in COLUMNS]

    def _json_rows(self, lines: Iterator[str], skipped: int) -> Iterator[Row | Problem]:
        row = 0
        for line, text in enumerate(lines, skipped + 1):
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


def text_of(raw: BinaryIO) -> io.TextIOWrapper:
    """The text of a file as spreadsheets write them: UTF-8, or UTF-16 where it begins as such."""
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


@define
class _CsvBody:
    """The rows below the header. A quote that is opened and not closed takes in whatever follows,
    up to the next quote that happens to fit: that is found, because those rows would be lost."""

    reader: _Reader
    header: list[str]
    delimiter: str
    skipped: int
    _row: int = 0

    def __iter__(self) -> Iterator[Row | Problem]:
        while True:
            line = self.reader.line_num + self.skipped + 1
            try:
                values = next(self.reader, None)
            except csv.Error as error:
                yield self._problem(line, f"is not CSV: {error}; is a quote never closed?")
                continue
            if values is None:
                return
            if any(map(str.strip, values)):
                yield self._row_of(line, values)

    def _row_of(self, line: int, values: list[str]) -> Row | Problem:
        if self._last(line) == line:
            while len(values) > len(self.header) and not values[-1].strip():
                values.pop()
        elif self.hides_rows(values):
            return self._problem(
                line, "one cell has all these lines in it; is a quote never closed?"
            )
        if len(values) > len(self.header):
            return self._problem(
                line,
                f"has {len(values)} cells, the header {len(self.header)}; put quotes around text "
                "that holds the separator",
            )
        self._row += 1
        return Row(self._row, line, dict(zip(self.header, values, strict=False)))

    def hides_rows(self, values: Sequence[str]) -> bool:
        """Whether one of the cells has too many lines, or has rows in it."""
        return any(
            (lines := _lines_of(value)) > _CELL_LINES or (lines > 1 and self._is_like_rows(value))
            for value in values
        )

    def _is_like_rows(self, value: str) -> bool:
        """Whether it has what a row has: separators enough, and a phone number."""
        if value.count(self.delimiter) < len(REQUIRED) - 1:
            return False
        return any(map(_is_like_a_number, re.split(rf"[{re.escape(self.delimiter)}\r\n]", value)))

    def _problem(self, line: int, reason: str) -> Problem:
        """Of a row that is no row; if it has several lines, some of them may have been rows."""
        self._row += 1
        last = self._last(line)
        return Problem(self._row, line, None, reason, None if last == line else last)

    def _last(self, line: int) -> int:
        return max(line, self.reader.line_num + self.skipped)


def _is_like_a_number(text: str) -> bool:
    is_long = sum(map(str.isdecimal, text)) >= _NUMBER_DIGITS
    return is_long and not any(map(str.isalpha, text))


def _lines_of(value: str) -> int:
    return len(_LINE_END.findall(value)) + 1


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys as they came, also the same one twice."""


def _json_cells(row: int, line: int, text: str) -> dict[str, str] | Problem:
    try:
        value = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return Problem(row, line, None, "is not JSON")
    if not isinstance(value, _Pairs):
        return Problem(row, line, None, "is not a JSON object")
    cells: dict[str, str] = {}
    for key, cell in value:
        name = _folded(key)
        if name in COLUMNS and name in cells:
            return Problem(row, line, name, "is there twice")
        if name not in COLUMNS or cell is None:
            cells[name] = ""
        elif isinstance(cell, bool) or not isinstance(cell, str | int):
            return Problem(row, line, name, "a string or a whole number is needed")
        else:
            cells[name] = str(cell)
    return cells
