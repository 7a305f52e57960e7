"""The cells of a row, read as a request: what people write, or a reason why not."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NoReturn
from zoneinfo import ZoneInfo

from attrs import field, frozen

from innocalls_async.campaign.errors import InputError
from innocalls_async.campaign.rows import REQUIRED, Problem, Row
from innocalls_async.models import BridgeRequest
from innocalls_async.phone import check_ending, parse_number
from innocalls_async.times import wall_time

__all__ = ["CellError", "Entry", "RowParser", "number_parser", "parse_time"]

NumberParser = Callable[[str, str], str]
"""The digits of a number as a person wrote it; the second is the field's name."""

_TIME: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ]+(\d{1,2}:\d{2}(?::\d{2})?)(?:\.\d+)?\s*([Zz]|[+-]\d{2}:?\d{2})?"
)
_ROUNDED: Final = re.compile(r"\d([.,]\d+)?[eE]\+\d+")
_REF_LENGTH: Final = 250
_TIMES_KEPT: Final = 10_000


class CellError(ValueError):
    """A cell is no good. `column` is None where it is not one cell's fault."""

    def __init__(self, column: str | None, reason: str) -> None:
        super().__init__(reason)
        self.column = column


@frozen
class Entry:
    """A row that is good."""

    row: int
    line: int
    ref: str
    request: BridgeRequest


@frozen
class RowParser:
    """Reads rows. Times without a zone are in `zone`, numbers as `number` takes them; a time
    before `earliest` is refused, if that is given."""

    zone: ZoneInfo
    number: NumberParser
    earliest: datetime | None
    _times: dict[str, datetime] = field(init=False, factory=dict)  # the same ones come often

    def parse(self, row: Row) -> Entry | Problem:
        """The row as an entry, or what is wrong with it first."""
        try:
            return Entry(row.row, row.line, _ref(row), self._request(row))
        except CellError as error:
            return Problem(row.row, row.line, error.column, str(error))

    def _request(self, row: Row) -> BridgeRequest:
        cells = row.cells
        try:
            return BridgeRequest(
                cells.get("call_flow_id", "").strip(),
                self.number(cells.get("first_callee_number", ""), "first_callee_number"),
                cells.get("first_callee_name", "").strip(),
                self.number(cells.get("second_callee_number", ""), "second_callee_number"),
                cells.get("second_callee_name", "").strip(),
                _minutes(cells.get("duration", "")),
                self._time(cells.get("call_time", "")),
            )
        except CellError:
            raise
        except ValueError as error:
            _explain(row, str(error))

    def _time(self, text: str) -> datetime | None:
        if not text or text.isspace():
            return None
        moment = self._times.get(text) or self._read_time(text)
        if self.earliest is not None and moment < self.earliest:
            raise CellError("call_time", f"{text.strip()} is over; --allow-past sends it anyway")
        return moment

    def _read_time(self, text: str) -> datetime:
        try:
            moment = parse_time(text, self.zone)
        except ValueError as error:
            raise CellError("call_time", str(error)) from None
        if len(self._times) < _TIMES_KEPT:
            self._times[text] = moment
        return moment


def _ref(row: Row) -> str:
    ref = row.cells.get("ref", "").strip()
    if len(ref) > _REF_LENGTH:
        raise CellError("ref", f"{len(ref)} characters; at most {_REF_LENGTH} are taken")
    _check_encoding(ref, "ref")
    return ref or str(row.line)


def _minutes(text: str) -> int:
    if not text.strip():
        raise CellError("duration", "must not be empty")
    if not text.strip().isdecimal() or len(text) > 9:
        raise CellError("duration", "whole minutes are needed, such as 5")
    return int(text)


def _explain(row: Row, said: str) -> NoReturn:
    column, _, reason = said.partition(": ")
    if column not in REQUIRED and column != "call_time":
        raise CellError(None, said)
    cell = row.cells.get(column, "")
    if not cell.strip():
        raise CellError(column, "must not be empty")
    _check_encoding(cell, column)
    if column.endswith("_number") and _ROUNDED.fullmatch(cell.strip()):
        raise CellError(
            column, "a spreadsheet has rounded this number; make the column text and enter it anew"
        )
    raise CellError(column, reason)


def _check_encoding(cell: str, column: str) -> None:
    if not cell.isascii() and any("\ud800" <= char <= "\udfff" for char in cell):
        raise CellError(column, "is not UTF-8; save the file as 'CSV UTF-8'")


def parse_time(text: str, zone: ZoneInfo) -> datetime:
    """`2026-04-23 10:30`, with or without seconds, or ISO 8601; without an offset it is in
    `zone`. ValueError with a reason: no such time, skipped or repeated there as clocks change."""
    written = _ascii_digits(text.strip())
    found = _TIME.fullmatch(written)
    if not found:
        raise ValueError("write the time as 2026-04-23 10:30, or in ISO 8601")
    date, clock, offset = found.groups()
    try:
        clock = clock if clock[1] != ":" else f"0{clock}"
        moment = datetime.fromisoformat(f"{date}T{clock}{(offset or '').upper()}")
        if moment.tzinfo is None:
            moment = _in_zone(moment, zone)
        wall_time(moment, zone)  # ValueError if the service could not tell which one is meant
    except (ValueError, OverflowError) as error:
        raise ValueError(str(error).removeprefix("call_time: ")) from None
    return moment.astimezone(UTC)


def _in_zone(naive: datetime, zone: ZoneInfo) -> datetime:
    moment = naive.replace(tzinfo=zone)
    if moment.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != naive:
        raise ValueError(
            f"{naive} does not exist in {zone.key}: the clocks are put forward over it"
        )
    return moment


def _ascii_digits(text: str) -> str:
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text)
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)


def _as_it_is(text: str, _field: str) -> str:
    return text


def number_parser(region: str | None) -> NumberParser:
    """Reads numbers with a country code, and those of `region` (`EG`) also without.

    Raises `InputError` for a region that there is none of, or if `phonenumbers` (extra `cli`) is
    not installed.
    """
    if region is None:
        return _as_it_is  # the request reads them itself
    try:
        import phonenumbers  # noqa: PLC0415 - an extra
    except ImportError:
        raise InputError(
            "national numbers need the extra `cli`: pip install 'innocalls-async[cli]'"
        ) from None
    code = region.upper()
    if code not in phonenumbers.SUPPORTED_REGIONS:
        raise InputError(f"region: {region!r} is no country such as EG")

    def parse(text: str, field: str) -> str:
        written = _ascii_digits(text).strip()
        if written.startswith(("+", "00")) or any(map(str.isalpha, written)):
            return parse_number(text, field)  # where a letter is, `phonenumbers` would stop reading
        check_ending(written, field)
        try:
            number = phonenumbers.parse(written, code)
        except phonenumbers.NumberParseException:
            return parse_number(text, field)  # it knows the reason
        keeps_a_zero = number.italian_leading_zero and not phonenumbers.is_valid_number(number)
        if keeps_a_zero or not phonenumbers.is_possible_number(number) or number.extension:
            raise ValueError(f"{field}: not a number of {code}, nor one with a country code")
        e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        return parse_number(e164, field)

    return parse
