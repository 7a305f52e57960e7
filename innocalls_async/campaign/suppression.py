"""The do-not-call list: numbers that are never sent, on either leg."""

from __future__ import annotations

import csv
import re
import unicodedata
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import chain, groupby
from pathlib import Path
from typing import Final, Self, TypeAlias

from attrs import define, field

from innocalls_async.campaign.calls import Call
from innocalls_async.campaign.cells import NumberParser
from innocalls_async.campaign.errors import InputError
from innocalls_async.campaign.rows import text_of
from innocalls_async.models import BridgeRequest
from innocalls_async.phone import parse_number

__all__ = ["DoNotCall"]

_DELIMITERS: Final = re.compile(r"[,;\t]")
_DATE: Final = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?!\d)|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}(?!\d)"
)
# Columns that are the number for certain; `customer number` is not.
_NAMED: Final = re.compile(
    r"(?:.*[\s_-])?(?:phone|telephone|mobile|msisdn|tel|cell|fax)(?:[\s_-]*(?:no|number))?s?\.?"
    r"(?:[\s_-]*\d{1,2})?(?:\s*\(.*\))?"
    r"|(?:(?:first|second)[\s_-])?(?:callee[\s_-])?numbers?(?:[\s_-]*\d{1,2})?",
    re.IGNORECASE,
)
_FEWEST_DIGITS: Final = 7
_Line: TypeAlias = tuple[int, Sequence[str]]


@define
class DoNotCall:
    """The list in the file at `path`, its numbers as `number` reads them. Eight bytes a number,
    so that a list of millions fits beside a campaign of as many.

    A number stands on each line, alone or in one column of a CSV: the one that the first line
    names (`phone`, `mobile`, `number`), or else the one where most lines have what looks like a
    number. Empty lines, lines beginning with `#` and the header are passed over.
    """

    path: Path
    number: NumberParser
    numbers: array[int] = field(init=False, factory=lambda: array("Q"))
    _stamp: tuple[int, int] | None = field(init=False, default=None)

    @classmethod
    def read(cls, path: Path, number: NumberParser) -> Self:
        """The list as it is now.

        `InputError` if it cannot be read, if two columns may be the number, for a line without a
        number in that column (somebody who asked not to be called stands there), or if nobody is
        on it: what made it has failed, more likely than not.
        """
        read = cls(path, number).refreshed()
        if not read.numbers:
            raise InputError(f"{path}: no number is on this do-not-call list; leave it out if so")
        return read

    def refreshed(self) -> Self:
        """This list, read again if the file was changed. Who was on it stays on it: while a file
        is written over, it is short for a moment."""
        try:
            stat = self.path.stat()
            stamp = stat.st_mtime_ns, stat.st_size
            if stamp != self._stamp:
                found = sorted(_numbers(self.path, self.number))
                self.numbers = array("Q", (one for one, _ in groupby(merge(self.numbers, found))))
                self._stamp = stamp
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}") from error
        except UnicodeError:
            raise InputError(f"{self.path} cannot be read; save it as 'CSV UTF-8'") from None
        return self

    def __contains__(self, number: str) -> bool:
        wanted = int(number)
        place = bisect_left(self.numbers, wanted)
        return place < len(self.numbers) and self.numbers[place] == wanted

    def reason(self, call: BridgeRequest | Call) -> str | None:
        """Why the call must not be made, or None."""
        for name in ("first_callee_number", "second_callee_number"):
            if getattr(call, name) in self:
                return f"{name}: is on the do-not-call list"
        return None


def _numbers(path: Path, number: NumberParser) -> Iterator[int]:
    header, columns = _columns(path)
    for line, cells in _lines(path):
        if line == header:
            continue
        written = [cells[place] for place in columns if place < len(cells)]
        given = [cell for cell in written if cell.strip()] or [""]
        for cell in given:
            try:
                yield int(parse_number(number(cell.strip().lstrip("'"), "number"), "number"))
            except ValueError as error:
                raise _unreadable(path, line, str(error)) from None


def _columns(path: Path) -> tuple[int | None, Sequence[int]]:
    """The line of the header, if there is one, and where in a line the numbers are."""
    lines = _lines(path)
    first = next(lines, None)
    if first is None:
        return None, ()
    line, cells = first
    header = None if any(map(_is_like_a_number, cells)) else line
    named = [place for place, cell in enumerate(cells) if _NAMED.fullmatch(cell.strip())]
    if header is not None and named:
        return header, named
    if header is not None and any(char.isdecimal() for cell in cells for char in cell):
        header = None  # it is a number that cannot be read, rather than a name
    body = lines if header is not None else chain([first], lines)
    return header, [_fullest_column(path, body)]


def _fullest_column(path: Path, lines: Iterator[_Line]) -> int:
    counts: Counter[int] = Counter()
    for _, cells in lines:
        counts.update(place for place, cell in enumerate(cells) if _is_like_a_number(cell))
    best = counts.most_common(2)
    if len(best) == 2 and best[0][1] == best[1][1]:
        raise InputError(
            f"{path}: columns {best[0][0] + 1} and {best[1][0] + 1} both look like numbers; name "
            "the columns in the first line, that one `number`"
        )
    return best[0][0] if best else 0


def _is_like_a_number(cell: str) -> bool:
    """Also one that cannot be read, for want of a country code perhaps."""
    text = unicodedata.normalize("NFKC", cell).strip()
    digits = sum(map(str.isdecimal, text))
    return digits >= _FEWEST_DIGITS and not any(map(str.isalpha, text)) and not _DATE.match(text)


def _lines(path: Path) -> Iterator[_Line]:
    # Each line by itself: a quote that is never closed hides no other line.
    with path.open("rb") as raw, text_of(raw) as file:
        for line, text in enumerate(file, 1):
            if not text.strip() or text.startswith("#"):
                continue
            found = _DELIMITERS.search(text)
            try:
                yield line, next(csv.reader([text], delimiter=found.group() if found else ","), [])
            except csv.Error as error:
                raise _unreadable(path, line, str(error)) from None


def _unreadable(path: Path, line: int, reason: str) -> InputError:
    return InputError(
        f"{path}, line {line}: {reason.removeprefix('number: ')} (--region lets numbers be "
        "national, and a first line can name the column `number`)"
    )
