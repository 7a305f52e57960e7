"""The account of a campaign, row by row, for other programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import IO, Any, Final, Literal
from zoneinfo import ZoneInfo

from innocalls_async.campaign.intake import InputOptions
from innocalls_async.campaign.ledger import Ledger
from innocalls_async.times import load_zone

__all__ = ["FIELDS", "Format", "export"]

Format = Literal["csv", "jsonl"]

FIELDS: Final[tuple[str, ...]] = (
    "ref",
    "state",
    "call_id",
    "attempts",
    "error",
    "first_callee_number",
    "second_callee_number",
    "call_time",
    "call_status",
    "first_status",
    "second_status",
    "actual_time",
    "checked_at",
    "row",
)
_TIMES: Final = ("call_time", "actual_time", "checked_at")
# What a spreadsheet takes for the beginning of a formula (OWASP, "CSV injection"). An apostrophe
# before it makes it text; JSON lines have everything as it is.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def export(ledger: Ledger, file: IO[str], style: Format) -> int:
    """Write every row of `ledger` to `file`, in the order of the input; how many those are.

    Times are ISO 8601 with the account's offset. In CSV, a text that a spreadsheet would take for
    a formula gets an apostrophe before it.
    """
    count = 0
    if style == "csv":
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for row in _rows(ledger):
            writer.writerow([_harmless(value) for value in row.values()])
            count += 1
        return count
    for row in _rows(ledger):
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        count += 1
    return count


def _rows(ledger: Ledger) -> Iterator[Mapping[str, Any]]:
    options = ledger.setting("options")
    zone = load_zone((InputOptions.from_json(options) if options else InputOptions()).timezone)
    query = f"SELECT {', '.join(FIELDS)} FROM calls ORDER BY row"  # noqa: S608 - ours
    for values in ledger.select(query):
        row: dict[str, Any] = dict(zip(FIELDS, values, strict=True))
        for name in _TIMES:
            row[name] = _iso(row[name], zone)
        yield row


def _iso(seconds: float | None, zone: ZoneInfo) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(int(seconds), UTC).astimezone(zone).isoformat()


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
