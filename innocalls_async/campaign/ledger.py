"""The ledger: the durable truth of a campaign, one row a call.

Every method is one transaction, on the disk when it returns. A row is `sending` in the ledger
before its first byte can leave, and stays so until its outcome is recorded: what a crash leaves
`sending` may have been sent, and is `in_doubt` from then on.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from innocalls_async.campaign import store
from innocalls_async.campaign.calls import Block, Call, Record, Screen, Selection, Turn
from innocalls_async.campaign.errors import InputError, LedgerError
from innocalls_async.campaign.states import State

__all__ = ["BROKEN_OFF", "Block", "Call", "Ledger", "Record", "Screen", "Selection", "Turn"]

_CALL: Final = (
    "row, ref, call_flow_id, first_callee_number, first_callee_name, second_callee_number, "
    "second_callee_name, duration, call_time, asked_time, call_id, checks, new_time"
)
Parameters: TypeAlias = Sequence[object] | Mapping[str, object]
BROKEN_OFF: Final = "broken off"  # the result of a run that died before it had one
# Looked at in one transaction for rows that may go, so that none of them takes long.
_LOOKED_AT: Final = 1000


class Ledger:
    """The ledger at `path`. As its `owner` (the default), one may write it, and is the only one.

    Opening it as owner puts what an earlier owner left `sending` in doubt; `recovered` says how
    many rows that were. Its methods block; no two may run at once.

    Raises:
        LedgerBusyError: another process owns it.
        LedgerError: it is not there, or no ledger, or cannot be read or written.
    """

    def __init__(self, path: Path | str, *, owner: bool = True) -> None:
        self.path = Path(path)
        self.recovered = 0
        store.require(self.path)  # before a lock is left beside it
        self._owner = store.Owner(self.path) if owner else None
        try:
            self._connection = store.connect(self.path, writable=owner)
            if owner:
                with store.reading(self.path, "written"):
                    self.recovered = self._recover()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and let others own it."""
        connection: sqlite3.Connection | None = getattr(self, "_connection", None)
        if connection is not None:
            connection.close()
        if self._owner is not None:
            self._owner.release()

    def _recover(self) -> int:
        with store.transaction(self._connection):
            self._connection.execute(
                "UPDATE runs SET result = ? WHERE result IS NULL", (BROKEN_OFF,)
            )
            return self._connection.execute(
                "UPDATE calls SET state = 'in_doubt', attempts = attempts + 1, ended_at = ?, "
                "error = ? WHERE state = 'sending'",
                (time.time(), store.DIED),
            ).rowcount

    @property
    def is_at_work(self) -> bool:
        """Whether a process owns it at this moment."""
        return store.is_owned(self.path)

    # What it holds

    def counts(self) -> dict[State, int]:
        """How many rows are in each state; every state is there."""
        with store.reading(self.path):
            found = dict(self._connection.execute("SELECT state, count(*) FROM calls GROUP BY 1"))
        return {state: found.get(state, 0) for state in State}

    def setting(self, name: str) -> str | None:
        """What was noted under `name` when it was loaded."""
        with store.reading(self.path):
            found = self._connection.execute("SELECT value FROM settings WHERE name = ?", (name,))
            row = found.fetchone()
        return row[0] if row else None

    def select(self, query: str, parameters: Parameters = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a reading query, streamed."""
        with store.reading(self.path):
            yield from self._connection.execute(query, parameters)

    def calls(self, where: str, parameters: Parameters = (), *, limit: int = -1) -> list[Call]:
        """The rows for which the SQL condition `where` holds, at most `limit`, in order."""
        query = f"SELECT {_CALL} FROM calls WHERE {where} LIMIT {limit}"  # noqa: S608 - ours
        with store.reading(self.path):
            return [Call(*row) for row in self._connection.execute(query, parameters)]

    def require(self, selection: Selection) -> None:
        """`InputError` if a row or a `ref` of `selection` is not there."""
        chosen: list[tuple[str, object]] = [("row", row) for row in selection.rows]
        chosen += [("ref", ref) for ref in selection.refs]
        missing = [
            f"{column} {value}"
            for column, value in chosen
            if not self.calls(f"{column} = ?", (value,), limit=1)
        ]
        if missing:
            raise InputError(f"the ledger {self.path} has no {', no '.join(missing)}")

    # What a run writes

    def belong_to(self, service: str) -> None:
        """Note the `service` that the campaign is carried out at: its address, or what it is.

        `LedgerError` if another one has, or may have, some of its calls on the books.
        """
        noted = self.setting("service")
        if noted == service:
            return
        sent = "state = 'sending' OR (attempts > 0 AND state NOT IN ('pending', 'refused'))"
        if noted is not None and self.calls(sent, limit=1):
            raise LedgerError(
                f"the ledger {self.path} is of a campaign at {noted}, not at {service}: give the "
                "same service again, by the same address. Another ledger would send every row, "
                "also those that are on the books already"
            )
        self.write("INSERT OR REPLACE INTO settings VALUES ('service', ?)", service)

    def begin_run(self, rate: float | None) -> int:
        """Note that a run begins; its number."""
        with store.reading(self.path, "written"), store.transaction(self._connection):
            run = self._connection.execute(
                "INSERT INTO runs (started_at, rate) VALUES (?, ?)", (time.time(), rate)
            ).lastrowid
        assert run is not None  # noqa: S101 - an INSERT that went well gives one
        self._checkpoint()
        return run

    def end_run(self, run: int, result: str) -> None:
        """Note how the run ended."""
        self.write(
            "UPDATE runs SET ended_at = ?, result = ? WHERE run = ?", time.time(), result, run
        )
        self._checkpoint()

    def _checkpoint(self) -> None:
        """Bring all that was committed into the file itself, which somebody may copy alone."""
        with store.reading(self.path, "written"):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def turn(
        self, records: Iterable[Record], want: int = 0, after: int = 0, screen: Screen | None = None
    ) -> Turn:
        """Record outcomes, and make up to `want` pending rows beyond row `after` `sending`.

        `screen` looks at each of these first. All of it is one transaction: a row is on the books
        as sending before anybody gets to see it.
        """
        with store.reading(self.path, "written"), store.transaction(self._connection):
            self._record(records)
            return self._claim(want, after, screen) if want > 0 else Turn((), {}, False)

    def _record(self, records: Iterable[Record]) -> None:
        self._connection.executemany(
            "UPDATE calls SET state = ?, attempts = attempts + ?, call_id = ?, error = ?, "
            "ended_at = ?, next_check = iif(? IS NULL, NULL, coalesce(call_time, ?)) "
            "WHERE row = ?",
            (
                (
                    str(one.state),
                    one.attempts,
                    one.call_id,
                    one.error,
                    one.ended_at,
                    one.call_id,
                    one.ended_at,
                    one.row,
                )
                for one in records
            ),
        )

    def _claim(self, want: int, after: int, screen: Screen | None) -> Turn:
        limit = want if screen is None else max(want, _LOOKED_AT)
        moment = time.time()
        query = (
            f"SELECT {_CALL} FROM calls WHERE state = 'pending' AND row > ? "  # noqa: S608 - ours
            f"ORDER BY row LIMIT {limit}"
        )
        going: list[Call] = []
        blocked: list[tuple[str, str, float, int]] = []
        cursor = self._connection.execute(query, (after,))
        seen = 0
        for row in cursor:
            call = Call(*row)
            seen += 1
            found = call if screen is None else screen(call, moment)
            if isinstance(found, Call):
                going.append(found)
            else:
                blocked.append((str(found.state), found.error, moment, call.row))
            if len(going) == want:
                break
        cursor.close()
        self._connection.executemany(
            "UPDATE calls SET state = 'sending', sent_at = ?, call_time = ? WHERE row = ?",
            [(moment, call.call_time, call.row) for call in going],
        )
        self._connection.executemany(
            "UPDATE calls SET state = ?, error = ?, ended_at = ? WHERE row = ?", blocked
        )
        states = [State(state) for state, *_ in blocked]
        counts = {state: states.count(state) for state in set(states)}
        return Turn(going, counts, len(going) < want and seen < limit)

    def write(self, statement: str, *parameters: object) -> int:
        """Carry out one writing statement; how many rows it changed."""
        return self.write_many(statement, [parameters])

    def write_many(self, statement: str, parameters: Iterable[Sequence[object]]) -> int:
        """Carry out one writing statement for each of `parameters`, in one transaction."""
        with store.reading(self.path, "written"), store.transaction(self._connection):
            return self._connection.executemany(statement, parameters).rowcount

    def write_all(self, statements: Iterable[tuple[str, Sequence[object]]]) -> None:
        """Carry out several writing statements in one transaction."""
        with store.reading(self.path, "written"), store.transaction(self._connection):
            for statement, parameters in statements:
                self._connection.execute(statement, parameters)

    def move(self, new_times: Iterable[tuple[int, int]]) -> int:
        """Note new times (unix seconds, row) for calls; of what is not sent yet they are the call
        times at once. How many those were. All of it is one transaction."""
        with store.reading(self.path, "written"), store.transaction(self._connection):
            self._connection.executemany("UPDATE calls SET new_time = ? WHERE row = ?", new_times)
            return self._connection.execute(
                "UPDATE calls SET call_time = new_time, new_time = NULL "
                "WHERE new_time IS NOT NULL AND state = 'pending'"
            ).rowcount
