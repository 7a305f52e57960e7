"""What a campaign came to: every figure read from its ledger, by sums that SQLite does.

The figures, and how they are meant:

- A call is *finished* if the service has it on its books and says that it completed or failed.
- A leg was *rung* if its state tells what became of the ringing; `not_sent` and words that are
  not known do not.
- The *answer rate* of a leg is answered / rung. The *connect rate* is the finished calls with both
  legs answered / all finished calls.
- The *latency* of a scheduled row runs from its sending to the end of its last attempt.
- The *achieved rate* counts rows when they were sent last, in whole seconds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import reduce
from operator import add
from pathlib import Path
from zoneinfo import ZoneInfo

from attrs import frozen

from innocalls_async.campaign.report_attention import (
    Attention,
    ErrorKind,
    count_attention,
    read_attention,
    read_errors,
)
from innocalls_async.campaign.report_pace import Pace, read_pace
from innocalls_async.campaign.report_rates import (
    Leg,
    Rates,
    read_by_flow,
    read_by_hour,
    read_leg,
)
from innocalls_async.campaign.states import State
from innocalls_async.campaign.store import connect, reading
from innocalls_async.times import load_zone

__all__ = ["Report", "read_report"]

_PERCENTS = (50, 90, 95, 99, 100)


@frozen
class Report:
    """A campaign's figures at one moment. Times are in `zone`, the account's; latencies are in
    seconds, by percent of the scheduled rows."""

    name: str
    zone: ZoneInfo
    states: Mapping[str, int]
    left_out: int  # rows of the input that were no good; they are in no state
    rates: Rates
    legs: tuple[Leg, Leg]
    by_hour: Mapping[int, Rates]
    by_flow: Mapping[str, Rates]
    attempts: Mapping[int, int]
    latency: Mapping[int, float]
    latency_curve: tuple[float, ...]
    pace: Pace
    errors: tuple[ErrorKind, ...]
    attention: tuple[Attention, ...]
    attention_rows: int
    masked: bool

    @property
    def rows(self) -> int:
        return sum(self.states.values())


def read_report(ledger: str | Path, *, masked: bool = True) -> Report:
    """The figures of the ledger at that path, all of one moment, also while a campaign runs.

    Numbers, and what looks like one in a ref, a name or an error, are masked unless asked.
    `LedgerError` if the file is missing, unreadable or no ledger.
    """
    path = Path(ledger)
    with reading(path), _snapshot(path) as connection:
        zone = _zone(connection)
        curve = _latencies(connection)
        by_flow = read_by_flow(connection)
        return Report(
            name=path.name,
            zone=zone,
            states=_states(connection),
            left_out=int(_setting(connection, "left_out", "0")),
            rates=reduce(add, by_flow.values(), Rates()),
            legs=(read_leg(connection, "first"), read_leg(connection, "second")),
            by_hour=read_by_hour(connection, zone),
            by_flow=by_flow,
            attempts=_attempts(connection),
            latency={percent: curve[percent] for percent in _PERCENTS} if curve else {},
            latency_curve=curve,
            pace=read_pace(connection),
            errors=read_errors(connection, masked=masked),
            attention=read_attention(connection, zone, masked=masked),
            attention_rows=count_attention(connection),
            masked=masked,
        )


@contextmanager
def _snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(path, writable=False)) as connection:
        # What a run commits meanwhile is not seen: all figures agree with each other.
        connection.execute("BEGIN")
        yield connection
        connection.execute("ROLLBACK")


def _zone(connection: sqlite3.Connection) -> ZoneInfo:
    return load_zone(_setting(connection, "timezone", "UTC"))


def _setting(connection: sqlite3.Connection, name: str, default: str) -> str:
    query = "SELECT value FROM settings WHERE name = ?"
    found = connection.execute(query, (name,)).fetchone()
    return str(found[0]) if found else default


def _states(connection: sqlite3.Connection) -> dict[str, int]:
    found = dict(connection.execute("SELECT state, count(*) FROM calls GROUP BY state"))
    return {str(state): found.get(state, 0) for state in State}


def _attempts(connection: sqlite3.Connection) -> dict[int, int]:
    return dict(
        connection.execute(
            "SELECT attempts, count(*) FROM calls WHERE attempts > 0 GROUP BY 1 ORDER BY 1"
        )
    )


def _latencies(connection: sqlite3.Connection) -> tuple[float, ...]:
    """Seconds at 0, 1, ... 100 percent of the scheduled rows; empty without any."""
    timed = "+state = 'scheduled' AND ended_at >= sent_at"
    (rows,) = connection.execute(f"SELECT count(*) FROM calls WHERE {timed}").fetchone()  # noqa: S608 - ours
    if not rows:
        return ()
    wanted = {max(0, -(-rows * percent // 100) - 1) for percent in range(101)}
    found = connection.execute(
        f"SELECT ended_at - sent_at FROM calls WHERE {timed} ORDER BY 1"  # noqa: S608 - ours
    )
    at = {place: seconds for place, (seconds,) in enumerate(found) if place in wanted}
    return tuple(at[max(0, -(-rows * percent // 100) - 1)] for percent in range(101))
