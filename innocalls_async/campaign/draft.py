"""A new ledger: its schema, and how its file is made.

It is written under another name and takes its own once it is whole and on the disk, so a ledger
that exists is never half loaded.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from innocalls_async.campaign.errors import LedgerError
from innocalls_async.campaign.states import MOVES, State
from innocalls_async.campaign.store import (
    APPLICATION_ID,
    VERSION,
    connect,
    open_file,
    reading,
)

__all__ = ["back_up", "draft", "publish", "scratch"]

# What SQLite leaves beside a file that it had open; it would take it for part of another one there.
_BESIDE: Final = ("-wal", "-shm", "-journal")

_SCHEMA: Final = f"""
CREATE TABLE calls (
    row INTEGER PRIMARY KEY,
    ref TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ({", ".join(f"'{state}'" for state in State)})),
    call_flow_id TEXT, first_callee_number TEXT, first_callee_name TEXT,
    second_callee_number TEXT, second_callee_name TEXT, duration INTEGER,
    call_time INTEGER, asked_time INTEGER,
    call_id TEXT, attempts INTEGER NOT NULL DEFAULT 0, error TEXT,
    sent_at REAL, ended_at REAL,
    call_status TEXT, first_status TEXT, second_status TEXT, actual_time INTEGER, checked_at REAL,
    line INTEGER,                       -- of the file, where the row begins
    checks INTEGER NOT NULL DEFAULT 0,  -- how often the status was asked for
    next_check REAL,                    -- unix seconds; NULL: not to be watched
    new_time INTEGER                    -- what call_time becomes once the service has it
);
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, started_at REAL, ended_at REAL, rate REAL, result TEXT
);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""

# Made after the rows are in, which is several times faster.
_INDEXES: Final = f"""
CREATE INDEX calls_by_state ON calls (state);
CREATE INDEX calls_by_ref ON calls (ref);
CREATE INDEX calls_to_watch ON calls (next_check) WHERE next_check IS NOT NULL;
CREATE INDEX calls_to_move ON calls (row) WHERE new_time IS NOT NULL;
CREATE TRIGGER moves BEFORE UPDATE OF state ON calls
WHEN OLD.state || '>' || NEW.state NOT IN (
    {", ".join(f"'{old}>{new}'" for old, allowed in MOVES.items() for new in sorted(allowed))}
) BEGIN SELECT RAISE(ABORT, 'a row cannot move so'); END;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""


@contextmanager
def draft(path: Path) -> Iterator[sqlite3.Connection]:
    """A new ledger in the making, for one transaction; `publish` makes it the ledger at `path`.
    Unless it was published, nothing is left of it."""
    _refuse_remains(path)
    unfinished = _unfinished(path)
    with reading(path, "made"):
        unfinished.unlink(missing_ok=True)  # of a load that was killed
    with ExitStack() as stack:
        # Before it is there, because Ctrl-C can come as it is opened.
        stack.callback(unfinished.unlink, missing_ok=True)
        with reading(path, "made"):
            connection = stack.enter_context(closing(open_file(unfinished, "rwc")))
        _begin(connection)
        yield connection


@contextmanager
def scratch() -> Iterator[sqlite3.Connection]:
    """A draft that becomes nothing: SQLite keeps it where nobody sees it."""
    with closing(sqlite3.connect("", isolation_level=None)) as connection:
        _begin(connection)
        yield connection


def _begin(connection: sqlite3.Connection) -> None:
    # Nothing reads it and a crash throws it away, so nothing need be safe until it is whole.
    for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "cache_size = -32000"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("BEGIN")
    for statement in _SCHEMA.split(";\n"):
        connection.execute(statement)


def publish(connection: sqlite3.Connection, path: Path) -> None:
    """Make the draft the ledger at `path`, at once and for good."""
    with reading(path, "made"):
        connection.execute("COMMIT")
        connection.executescript(_INDEXES)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        _put_in_place(path)


def back_up(path: Path, copy: Path) -> None:
    """Copy the ledger at `path`, as it is at this moment, also while it is written; `copy` must
    not be there yet."""
    with closing(connect(path, writable=False)) as connection, reading(copy, "made"):
        if copy.exists():
            raise LedgerError(f"{copy} is there already; give another name for the copy")
        _refuse_remains(copy)
        unfinished = _unfinished(copy)
        unfinished.unlink(missing_ok=True)
        try:
            with closing(open_file(unfinished, "rwc")) as target:
                connection.backup(target)
            _put_in_place(copy)
        finally:
            unfinished.unlink(missing_ok=True)


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + ".loading")


def _put_in_place(path: Path) -> None:
    unfinished = _unfinished(path)
    with unfinished.open("rb+") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)
    _sync_directory(path.parent)


def _refuse_remains(path: Path) -> None:
    """SQLite would take what a ledger left here for part of the new one, and mix their rows."""
    beside = [path.with_name(path.name + ending) for ending in _BESIDE]
    if remains := [str(file) for file in beside if file.exists()]:
        raise LedgerError(
            f"{' and '.join(remains)} is left of a ledger {path} that is gone: put that ledger "
            "back, or remove this too if nothing that it did matters any more"
        )


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":
        return  # elsewhere a directory cannot be opened, and need not be
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
