"""The do-not-call list: numbers that are never sent, on either leg."""

from __future__ import annotations

import csv
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from attrs import frozen

from innocalls_async.campaign.cells import NumberParser
from innocalls_async.campaign.errors import InputError
from innocalls_async.campaign.ledger import Call
from innocalls_async.models import BridgeRequest
from innocalls_async.phone import parse_number

__all__ = ["DoNotCall"]

_DELIMITERS: Final = re.compile(r"[,;\t]")


@frozen
class DoNotCall:
    """Eight bytes a number, so that a list of millions fits beside a campaign of as many."""

    numbers: array[int]

    @classmethod
    def read(cls, path: Path, number: NumberParser) -> Self:
        """The list in the file at `path`: a number on each line, alone or among the cells of a
        CSV, as `number` reads them. Empty lines, lines beginning with `#` and a header are passed
        over; any other line without a number is an `InputError`, because somebody who asked not
        to be called stands there."""
        try:
            with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                return cls(array("Q", sorted(_numbers(path, file, number))))
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error

    def __contains__(self, number: str) -> bool:
        wanted = int(number)
        place = bisect_left(self.numbers, wanted)
        return place < len(self.numbers) and self.numbers[place] == wanted

    def reason(self, call: BridgeRequest | Call) -> str | None:
        """Why the call must not be made, or None."""
        for field in ("first_callee_number", "second_callee_number"):
            if getattr(call, field) in self:
                return f"{field}: is on the do-not-call list"
        return None


def _numbers(path: Path, lines: Iterator[str], number: NumberParser) -> Iterator[int]:
    for line, text in enumerate(lines, 1):
        if not text.strip() or text.startswith("#"):
            continue
        found = list(_found(text, number))
        if not found and not (line == 1 and not any(char.isdecimal() for char in text)):
            raise InputError(
                f"{path}, line {line}: no number can be read there; write it with its country "
                "code, or give --region for national ones"
            )
        yield from found


def _found(text: str, number: NumberParser) -> Iterator[int]:
    cells = next(csv.reader([text], delimiter=_separator(text)), [])
    for cell in cells:
        try:
            yield int(parse_number(number(cell.strip().lstrip("'"), "number"), "number"))
        except ValueError:
            continue


def _separator(text: str) -> str:
    found = _DELIMITERS.search(text)
    return found.group() if found else ","
