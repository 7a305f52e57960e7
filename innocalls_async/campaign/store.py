"""The ledger's file: its schema, how it is opened and checked, and who owns it.

A new ledger is written under another name and takes its own once it is whole and on the disk, so
a ledger that exists is never half loaded.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from innocalls_async.campaign.errors import LedgerBusyError, LedgerError
from innocalls_async.campaign.states import MOVES, State

__all__ = ["Owner", "connect", "draft", "is_ledger_there", "publish", "reading", "transaction"]

# "InCL", where `file` and SQLite's own tools look for what kind of database this is.
APPLICATION_ID: Final = 0x496E434C
VERSION: Final = 1

_BUSY_SECONDS: Final = 10.0

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
def reading(path: Path, doing: str = "read") -> Iterator[None]:
    """Turns what SQLite and the system say of the ledger into a `LedgerError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerError(f"the ledger {path} cannot be {doing}: {error}") from error
    except OSError as error:
        raise LedgerError(f"the ledger {path} cannot be {doing}: {error.strerror}") from error


def is_ledger_there(path: Path) -> bool:
    """Whether `path` is a ledger. False if there is nothing, or an empty file; `LedgerError` if
    it is something else."""
    with reading(path):
        if path.is_dir():
            raise LedgerError(f"{path} is a directory; give the ledger's file")
        if not path.exists() or path.stat().st_size == 0:
            return False
        with path.open("rb") as file:
            is_sqlite = file.read(16) == b"SQLite format 3\0"
    if not is_sqlite:
        raise LedgerError(f"{path} is not a ledger (nor any SQLite file); it was left as it is")
    with reading(path), closing(_open(path, "ro")) as connection:
        _check(path, connection)
    return True


def connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """The ledger at `path`, which must be there. The connection may be used by any thread, by
    one at a time."""
    if not is_ledger_there(path):
        raise LedgerError(f"there is no ledger at {path}; `campaign run` makes one")
    with reading(path, "opened"):
        connection = _open(path, "rw" if writable else "ro")
        try:
            if writable:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error:
            connection.close()
            raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing: committed to the disk when the block ends."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def draft(path: Path) -> Iterator[sqlite3.Connection]:
    """A new ledger in the making, for one transaction; `publish` makes it the ledger at `path`.
    Unless it was published, nothing is left of it."""
    unfinished = path.with_name(path.name + ".loading")
    with reading(path, "made"):
        unfinished.unlink(missing_ok=True)  # of a load that was killed
        connection = _open(unfinished, "rwc")
    try:
        # Nothing reads it and a crash throws it away, so nothing need be safe until it is whole.
        for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "cache_size = -32000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        for statement in _SCHEMA.split(";\n"):
            connection.execute(statement)
        yield connection
    finally:
        connection.close()
        unfinished.unlink(missing_ok=True)


def publish(connection: sqlite3.Connection, path: Path) -> None:
    """Make the draft the ledger at `path`, at once and for good."""
    unfinished = path.with_name(path.name + ".loading")
    with reading(path, "made"):
        connection.execute("COMMIT")
        connection.executescript(_INDEXES)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync_directory(path.parent)


class Owner:
    """Holds the ledger at `path` for this process; `LedgerBusyError` if another one does.

    It is a lock of SQLite's on a file beside the ledger: the operating system takes it away from
    a process that dies, and it works wherever SQLite does.
    """

    def __init__(self, path: Path) -> None:
        beside = path.with_name(path.name + ".owner")
        with reading(path, "locked"):
            self._connection = _open(beside, "rwc", timeout=0.0)
        try:
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            self._connection.close()
            if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise LedgerBusyError(
                    f"another process is at work on the ledger {path}; "
                    "wait for it, or stop it with SIGTERM"
                ) from None
            raise LedgerError(f"the ledger {path} cannot be locked: {error}") from error

    def release(self) -> None:
        """Let others have the ledger."""
        self._connection.close()


def _open(path: Path, mode: str, timeout: float = _BUSY_SECONDS) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )


def _check(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise LedgerError(f"{path} is an SQLite file, but not a ledger; it was left as it is")
    if version > VERSION:
        raise LedgerError(
            f"the ledger {path} is of version {version}, made by a newer innocalls-async; "
            f"this one reads version {VERSION}: upgrade it"
        )


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":
        return  # elsewhere a directory cannot be opened, and need not be
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
