"""The ledger's file: how it is opened, checked and upgraded, and who owns it."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from innocalls_async.campaign.errors import DiskError, LedgerBusyError, LedgerError

__all__ = [
    "Owner",
    "connect",
    "is_ledger_there",
    "is_owned",
    "open_file",
    "reading",
    "require",
    "transaction",
]

# "InCL", where `file` and SQLite's own tools look for what kind of database this is.
APPLICATION_ID: Final = 0x496E434C
VERSION: Final = 1
# What makes a ledger of a version one of the next, as one SQL script each.
UPGRADES: Final[Mapping[int, str]] = {}

# Said of a row that was being sent when its run died.
DIED: Final = (
    "the campaign was killed while this was being sent; look at the service before it is sent again"
)

_BUSY_SECONDS: Final = 10.0
# Whoever only looks if a ledger is owned holds its lock for a moment.
_GLANCE_SECONDS: Final = 0.1
# A tenth of SQLite's own: what is only in the -wal file is lost to whoever copies the ledger alone.
_CHECKPOINT_PAGES: Final = 100
_DISK_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


@contextmanager
def reading(path: Path, doing: str = "read") -> Iterator[None]:
    """Turns what SQLite and the system say of the ledger into a `LedgerError`."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        is_disk = name.startswith(("SQLITE_FULL", "SQLITE_IOERR"))
        kind = DiskError if is_disk else LedgerError
        raise kind(f"the ledger {path} cannot be {doing}: {error}") from error
    except OSError as error:
        kind = DiskError if error.errno in _DISK_ERRORS else LedgerError
        raise kind(f"the ledger {path} cannot be {doing}: {error.strerror}") from error


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
    with reading(path), closing(_open_to_read(path)) as connection:
        _check(path, connection)
    return True


def require(path: Path) -> None:
    """`LedgerError` if there is no ledger at `path`."""
    if not is_ledger_there(path):
        raise LedgerError(f"there is no ledger at {path}; `campaign run` makes one")


def connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """The ledger at `path`, which must be there; its owner brings it to this version, and others
    see what a run that died was sending as in doubt. The connection may be used by any thread, by
    one at a time."""
    require(path)
    with reading(path, "opened"):
        connection = open_file(path, "rw") if writable else _open_to_read(path)
        try:
            if writable:
                _prepare_to_write(path, connection)
            else:
                _prepare_to_read(path, connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare_to_write(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    while (version := _version(connection)) < VERSION:
        if version not in UPGRADES:
            raise LedgerError(f"the ledger {path} is of version {version}, which is not known")
        # The script is one statement to SQLite's eyes: a kill leaves the old version, whole.
        connection.executescript(
            f"BEGIN IMMEDIATE; {UPGRADES[version]}; PRAGMA user_version = {version + 1}; COMMIT"
        )


def _prepare_to_read(path: Path, connection: sqlite3.Connection) -> None:
    if (version := _version(connection)) < VERSION:
        raise LedgerError(
            f"the ledger {path} is of version {version}, made by an older innocalls-async; "
            "`campaign run` or `campaign resolve` upgrades it"
        )
    sending = connection.execute("SELECT 1 FROM calls WHERE state = 'sending' LIMIT 1").fetchone()
    if sending and not is_owned(path):
        _show_as_in_doubt(connection)


def _show_as_in_doubt(connection: sqlite3.Connection) -> None:
    """For this connection alone, the rows as the next owner will find and note them."""
    shown = {
        "state": "iif(state = 'sending', 'in_doubt', state)",
        "attempts": "attempts + (state = 'sending')",
        "error": f"iif(state = 'sending', '{DIED}', error)",
    }
    names = [name for _, name, *_ in connection.execute("PRAGMA table_info(calls)")]
    columns = ", ".join(f"{shown.get(name, name)} AS {name}" for name in names)
    view = f"CREATE TEMP VIEW calls AS SELECT {columns} FROM main.calls"  # noqa: S608 - ours
    connection.execute(view)


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


class Owner:
    """Holds the ledger at `path` for this process; `LedgerBusyError` if another one does.

    It is a lock of SQLite's on a file beside the ledger: the operating system takes it away from
    a process that dies, and it works wherever SQLite does.
    """

    def __init__(self, path: Path) -> None:
        beside = _owner_file(path)
        with reading(path, "locked"):
            self._connection = open_file(beside, "rwc", timeout=_GLANCE_SECONDS)
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


def _owner_file(path: Path) -> Path:
    return path.with_name(path.name + ".owner")


def is_owned(path: Path) -> bool:
    """Whether a process is at work on the ledger at `path`."""
    beside = _owner_file(path)
    if not beside.exists():
        return False
    try:
        with closing(open_file(beside, "ro", timeout=0.0)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.OperationalError:
        return True  # it is locked; if it cannot be told, nothing is said to have died
    return False


def _open_to_read(path: Path) -> sqlite3.Connection:
    """It may lie where nothing can be written: then only a ledger that was closed can be read,
    because SQLite keeps a file of its own beside one that was not."""
    connection = open_file(path, "ro")
    try:
        connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if not error.sqlite_errorname.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
            raise
        if path.with_name(path.name + "-wal").exists():
            raise LedgerError(
                f"the ledger {path} was not closed, and nothing can be written beside it: copy "
                f"it and {path.name}-wal, together, to where you may write"
            ) from error
        return open_file(path, "ro&immutable=1")
    except BaseException:
        connection.close()
        raise
    return connection


def open_file(path: Path, mode: str, timeout: float = _BUSY_SECONDS) -> sqlite3.Connection:
    """The file as SQLite has it, in a mode of its own (`ro`, `rw`, `rwc`); nothing is checked."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )


def _check(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    version = _version(connection)
    if application != APPLICATION_ID:
        raise LedgerError(f"{path} is an SQLite file, but not a ledger; it was left as it is")
    if version > VERSION:
        raise LedgerError(
            f"the ledger {path} is of version {version}, made by a newer innocalls-async; "
            f"this one reads version {VERSION}: upgrade it"
        )


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
