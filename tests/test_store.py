"""The ledger's file: who may open it, what is not taken for one, and what never goes into it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from campaign_drill import write_calls

from innocalls_async.campaign import (
    Campaign,
    InputOptions,
    Ledger,
    LedgerBusyError,
    LedgerError,
    State,
    draft,
    intake,
    store,
)
from innocalls_async.campaign.draft import back_up
from innocalls_async.campaign.ledger import Record

ROWS = 12


def _ledger(folder: Path, rows: int = ROWS) -> Path:
    path = folder / "run.db"
    Campaign.load(write_calls(folder / "calls.csv", rows), path).close()
    return path


def test_one_owner(tmp_path: Path) -> None:
    """A second owner is refused, a reader is not."""
    path = _ledger(tmp_path)
    with Ledger(path), pytest.raises(LedgerBusyError, match="another process"):
        Ledger(path)
    with Ledger(path), Ledger(path, owner=False) as reader:
        assert reader.counts()[State.PENDING] == ROWS


def test_owner_dies(tmp_path: Path) -> None:
    """A process that was killed owns nothing any more, and what it was sending is in doubt."""
    path = _dead(tmp_path)
    with Ledger(path) as ledger:
        assert ledger.recovered == ledger.counts()[State.IN_DOUBT] == 3


def _dead(folder: Path) -> Path:
    """A ledger whose owner was killed while it sent three rows."""
    path = _ledger(folder)
    script = (
        "import os, signal, sys; from innocalls_async.campaign import Ledger; "
        "Ledger(sys.argv[1]).turn([], 3); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    return path


def test_dead_run_read(tmp_path: Path) -> None:
    """Rows that a dead run was sending are shown in doubt by whoever reads, and stay what they
    are on the disk; while their run lives they are shown as being sent."""
    path = _dead(tmp_path)
    with Ledger(path, owner=False) as reader:
        assert reader.counts()[State.IN_DOUBT] == 3
        assert reader.counts()[State.SENDING] == 0
        ((attempts, error),) = reader.select("SELECT attempts, error FROM calls WHERE row = 1")
    assert attempts == 1
    assert "was killed" in error
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT count(*) FROM calls WHERE state = 'sending'"
        assert connection.execute(query).fetchone() == (3,)
    with Ledger(path) as owner:
        owner.turn([], 2)
        with Ledger(path, owner=False) as reader:
            assert reader.counts()[State.SENDING] == 2


def test_ledger_removed(tmp_path: Path) -> None:
    """What SQLite left beside a ledger that somebody removed is never mixed into a new one."""
    path = _dead(tmp_path)
    path.unlink()
    with pytest.raises(LedgerError, match=r"run\.db-wal and .*run\.db-shm is left of"):
        _ledger(tmp_path, 5)
    assert not path.exists()
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink()
    with Ledger(_ledger(tmp_path, 5)) as ledger:
        assert ledger.counts()[State.PENDING] == 5
        assert list(ledger.select("PRAGMA integrity_check")) == [("ok",)]


def test_copied_alone(tmp_path: Path) -> None:
    """Between runs the file itself has everything, and while one goes on, all but the last."""
    path, alone = _ledger(tmp_path, 120), tmp_path / "alone.db"
    with Ledger(path) as ledger:
        run = ledger.begin_run(None)
        for row in range(1, 121):
            ledger.turn([Record(row - 1, State.SCHEDULED, 1, "c")] if row > 1 else [], 1)
        shutil.copy(path, alone)
        ledger.end_run(run, "done")
        shutil.copy(path, tmp_path / "ended.db")
    with Ledger(alone, owner=False) as copy:
        assert copy.counts()[State.SCHEDULED] > 60
    with Ledger(tmp_path / "ended.db", owner=False) as copy:
        assert copy.counts()[State.SCHEDULED] == 119


def test_backup(tmp_path: Path) -> None:
    """A backup has all that was committed, also from a ledger that is being written, and takes
    nothing's place."""
    path, copy = _ledger(tmp_path), tmp_path / "copy.db"
    with Ledger(path) as ledger:
        ledger.turn([], 3)
        ledger.turn([Record(1, State.SCHEDULED, 1, "c")])
        back_up(path, copy)
        for taken in (copy, path):
            with pytest.raises(LedgerError, match="is there already"):
                back_up(path, taken)
    with Ledger(copy) as ledger:
        assert ledger.counts()[State.SCHEDULED] == 1
        assert ledger.recovered == 2
    assert not list(tmp_path.glob("*.loading"))


def test_upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older ledger is brought to this version by whoever owns it, step by step, each of them
    whole; readers say that it must be."""
    path = _ledger(tmp_path)
    monkeypatch.setattr(store, "VERSION", 3)
    steps = {1: "ALTER TABLE calls ADD COLUMN note TEXT", 2: "UPDATE calls SET note = 'x'; torn"}
    monkeypatch.setattr(store, "UPGRADES", steps)
    with pytest.raises(LedgerError, match="of version 1, made by an older"):
        Ledger(path, owner=False)
    with pytest.raises(LedgerError, match="torn"):
        Ledger(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        assert connection.execute("SELECT count(note) FROM calls").fetchone() == (0,)
    monkeypatch.setitem(steps, 2, "UPDATE calls SET note = 'x'")
    with Ledger(path) as ledger:
        assert list(ledger.select("SELECT DISTINCT note FROM calls")) == [("x",)]
    with Ledger(path, owner=False) as ledger:
        assert ledger.counts()[State.PENDING] == ROWS
    monkeypatch.setattr(store, "VERSION", 4)
    with pytest.raises(LedgerError, match="version 3, which is not known"):
        Ledger(path)


@contextmanager
def _readable_only(made: Path) -> Iterator[Path]:
    """What is in `made`, in a directory that this process may not write to."""
    folder = Path(tempfile.mkdtemp())
    for file in made.iterdir():
        shutil.copy(file, folder)
    was_root = os.geteuid() == 0
    folder.chmod(0o555)
    try:
        if was_root:  # which may write everywhere
            os.seteuid(65534)
        yield folder
    finally:
        if was_root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_read_only_directory(tmp_path: Path) -> None:
    """Where nothing can be written, a ledger that was closed is read, and of one that was not it
    is said what to do."""
    path = _ledger(tmp_path)
    with _readable_only(tmp_path) as folder, Ledger(folder / path.name, owner=False) as ledger:
        assert ledger.counts()[State.PENDING] == ROWS
    _dead(tmp_path)
    path.with_name("run.db-shm").unlink()
    with (
        _readable_only(tmp_path) as folder,
        pytest.raises(LedgerError, match="copy it and run"),
    ):
        Ledger(folder / path.name, owner=False)


def _csv(path: Path) -> None:
    path.write_text("a,b\n1,2\n", encoding="utf-8")


def _directory(path: Path) -> None:
    path.mkdir()


def _other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (a)")


def _newer(path: Path) -> None:
    _ledger(path.parent)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def _torn(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_csv, "is not a ledger"),
        (_directory, "is a directory"),
        (_other_database, "but not a ledger"),
        (_newer, "newer innocalls-async"),
        (_torn, "cannot be"),
    ],
)
def test_not_a_ledger(tmp_path: Path, make: object, said: str) -> None:
    """What is no ledger of this version is refused with the reason, and left as it is."""
    path = tmp_path / "run.db"
    assert callable(make)
    make(path)
    before = None if path.is_dir() else path.read_bytes()
    source = write_calls(tmp_path / "calls.csv", 2)
    with pytest.raises(LedgerError, match=said):
        Campaign.load(source, path)
    with pytest.raises(LedgerError, match=said):
        Ledger(path, owner=False)
    assert before is None or path.read_bytes() == before


def test_no_ledger(tmp_path: Path) -> None:
    """One that is not there is said to be so, and none is made."""
    with pytest.raises(LedgerError, match="there is no ledger"):
        Ledger(tmp_path / "run.db", owner=False)
    with pytest.raises(LedgerError, match="there is no ledger"):
        Ledger(tmp_path / "run.db")
    assert list(tmp_path.iterdir()) == []


def test_plan_beside_a_load(tmp_path: Path) -> None:
    """A plan that is only shown leaves alone what another process is loading."""
    source = write_calls(tmp_path / "calls.csv", 3)
    (tmp_path / "run.db.loading").write_text("of another")
    planned = intake.load(source, tmp_path / "run.db", InputOptions(), dry_run=True)
    assert planned.rows == 3
    assert {path.name for path in tmp_path.iterdir()} == {"calls.csv", "run.db.loading"}


def test_interrupted_load_leaves_nothing(tmp_path: Path) -> None:
    """A load that breaks off leaves no ledger, and no piece of one."""

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    source = write_calls(tmp_path / "calls.csv", 3)
    source.write_text(source.read_text(encoding="utf-8") + "x\n", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        Campaign.load(source, tmp_path / "run.db", on_problem=stop)
    assert {path.name for path in tmp_path.iterdir()} <= {"calls.csv", "run.db.owner"}


def test_interrupted_as_the_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between the making of the file and its first use leaves no piece of it either."""

    def interrupted(path: Path, mode: str) -> sqlite3.Connection:
        path.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(draft, "open_file", interrupted)
    source = write_calls(tmp_path / "calls.csv", 3)
    with pytest.raises(KeyboardInterrupt):
        Campaign.load(source, tmp_path / "run.db")
    assert {path.name for path in tmp_path.iterdir()} <= {"calls.csv", "run.db.owner"}
