"""What went wrong, by kind, and the rows that a person must look at."""

from __future__ import annotations

import re
import sqlite3
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from attrs import frozen

from innocalls_async.masking import mask_number, mask_text

__all__ = ["Attention", "ErrorKind", "count_attention", "read_attention", "read_errors"]

ATTENTION_ROWS = 200
"""How many of the rows that need a person are listed."""

_NEEDS_A_PERSON = "state IN ('in_doubt', 'refused')"
# `create: the service answered 422: The given data ...` is of the kind before the second colon.
_ERROR_KIND = re.compile(r"[^:;(]*(?::[^:;(]*)?")


@frozen
class ErrorKind:
    """Rows whose last error begins alike, with one of those errors."""

    kind: str
    rows: int
    example: str


@frozen
class Attention:
    """A row that a person must look at: in doubt, or refused."""

    row: int
    ref: str
    state: str
    first_callee_number: str
    first_callee_name: str
    second_callee_number: str
    second_callee_name: str
    call_time: datetime | None
    error: str


def _error_kind(error: str) -> str:
    found = _ERROR_KIND.match(error)
    return mask_text(found.group().strip() if found else error)


def read_errors(connection: sqlite3.Connection, *, masked: bool) -> tuple[ErrorKind, ...]:
    """The kind with the most rows first."""
    connection.create_function("error_kind", 1, _error_kind, deterministic=True)
    found = connection.execute(
        "SELECT error_kind(error), count(*), min(error) FROM calls "
        "WHERE coalesce(error, '') != '' GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    return tuple(ErrorKind(kind, rows, _shown(text, masked)) for kind, rows, text in found)


def count_attention(connection: sqlite3.Connection) -> int:
    """How many rows need a person, listed or not."""
    query = f"SELECT count(*) FROM calls WHERE {_NEEDS_A_PERSON}"  # noqa: S608 - ours
    rows: int = connection.execute(query).fetchone()[0]
    return rows


def read_attention(
    connection: sqlite3.Connection, zone: ZoneInfo, *, masked: bool
) -> tuple[Attention, ...]:
    """The first of them: what is in doubt before what was refused."""
    found = connection.execute(
        "SELECT row, ref, state, first_callee_number, first_callee_name, second_callee_number, "  # noqa: S608 - ours
        f"second_callee_name, call_time, error FROM calls WHERE {_NEEDS_A_PERSON} "
        f"ORDER BY state, row LIMIT {ATTENTION_ROWS}"
    )
    return tuple(_attention_row(values, zone, masked) for values in found)


def _attention_row(values: tuple[Any, ...], zone: ZoneInfo, masked: bool) -> Attention:
    row, ref, state, first, first_name, second, second_name, call_time, error = values
    number = mask_number if masked else str
    return Attention(
        row=row,
        ref=_shown(ref, masked),
        state=state,
        first_callee_number=number(first or ""),
        first_callee_name=_shown(first_name, masked),
        second_callee_number=number(second or ""),
        second_callee_name=_shown(second_name, masked),
        call_time=None if call_time is None else datetime.fromtimestamp(call_time, zone),
        error=_shown(error, masked),
    )


def _shown(text: str | None, masked: bool) -> str:
    return mask_text(text or "") if masked else text or ""
