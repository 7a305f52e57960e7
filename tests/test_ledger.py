"""The ledger: what moves it allows, who may open it, and what it does not take for one."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from campaign_drill import write_calls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from innocalls_async.campaign import (
    Campaign,
    Ledger,
    LedgerBusyError,
    LedgerError,
    Selection,
    State,
    after,
)
from innocalls_async.campaign.ledger import Record
from innocalls_async.campaign.states import MOVES

ROWS = 12


def _ledger(folder: Path, rows: int = ROWS) -> Path:
    path = folder / "run.db"
    Campaign.load(write_calls(folder / "calls.csv", rows), path).close()
    return path


@pytest.mark.parametrize("old", State)
@pytest.mark.parametrize("new", State)
def test_moves(tmp_path: Path, old: State, new: State) -> None:
    """A row moves along the arrows that are drawn, and no other way, whoever asks."""
    path = _ledger(tmp_path, 1)
    with closing(sqlite3.connect(path)) as connection:
        (trigger,) = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")
        connection.execute("DROP TRIGGER moves")
        connection.execute("UPDATE calls SET state = ?", (old,))
        connection.execute(trigger[0])
        move = connection.execute
        if new in MOVES[old]:
            move("UPDATE calls SET state = ?", (new,))
        else:
            with pytest.raises(sqlite3.IntegrityError, match="cannot move"):
                move("UPDATE calls SET state = ?", (new,))


_OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.integers(1, 5)),
        st.tuples(
            st.just("settle"),
            st.sampled_from([State.SCHEDULED, State.REFUSED, State.IN_DOUBT, State.PENDING]),
        ),
        st.tuples(st.just("crash"), st.just(0)),
        st.tuples(st.sampled_from(["send_again", "sent"]), st.integers(1, ROWS)),
    ),
    max_size=25,
)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(operations=_OPERATIONS)
def test_like_its_model(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int | State]]
) -> None:
    """Whatever is done to it in whatever order, it holds what a dictionary would, and a crash
    only ever turns `sending` into `in_doubt`."""
    path = _ledger(tmp_path_factory.mktemp("model"))
    model = dict.fromkeys(range(1, ROWS + 1), State.PENDING)
    ledger = Ledger(path)
    for operation, argument in operations:
        sending = [row for row, state in model.items() if state is State.SENDING]
        if operation == "claim":
            assert isinstance(argument, int)
            pending = [row for row, state in model.items() if state is State.PENDING]
            claimed = [call.row for call in ledger.turn([], int(argument)).calls]
            assert claimed == pending[: int(argument)]
            model.update(dict.fromkeys(claimed, State.SENDING))
        elif operation == "settle" and sending:
            state = State(str(argument))
            call_id = "c" if state is State.SCHEDULED else None
            ledger.turn([Record(sending[0], state, 1, call_id, None, 1.0)])
            model[sending[0]] = state
        elif operation == "crash":
            ledger.close()
            ledger = Ledger(path)
            assert ledger.recovered == len(sending)
            model.update(dict.fromkeys(sending, State.IN_DOUBT))
        elif operation in {"send_again", "sent"}:
            row = int(argument)
            verdict = "send_again" if operation == "send_again" else "sent"
            count = after.resolve(ledger, verdict, Selection(rows=[row]))  # type: ignore[arg-type]
            assert count == (model[row] is State.IN_DOUBT)
            if count:
                model[row] = State.PENDING if verdict == "send_again" else State.SCHEDULED
        found = dict(ledger.select("SELECT row, state FROM calls"))
        assert found == model
    ledger.close()


def test_one_owner(tmp_path: Path) -> None:
    """A second owner is refused, a reader is not."""
    path = _ledger(tmp_path)
    with Ledger(path), pytest.raises(LedgerBusyError, match="another process"):
        Ledger(path)
    with Ledger(path), Ledger(path, owner=False) as reader:
        assert reader.counts()[State.PENDING] == ROWS


def test_owner_dies(tmp_path: Path) -> None:
    """A process that was killed owns nothing any more, and what it was sending is in doubt."""
    path = _ledger(tmp_path)
    script = (
        "import os, signal, sys; from innocalls_async.campaign import Ledger; "
        "Ledger(sys.argv[1]).turn([], 3); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    with Ledger(path) as ledger:
        assert ledger.recovered == ledger.counts()[State.IN_DOUBT] == 3


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
    assert list(tmp_path.iterdir()) == []


def test_interrupted_load_leaves_nothing(tmp_path: Path) -> None:
    """A load that breaks off leaves no ledger, and no piece of one."""

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    source = write_calls(tmp_path / "calls.csv", 3)
    source.write_text(source.read_text(encoding="utf-8") + "x\n", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        Campaign.load(source, tmp_path / "run.db", on_problem=stop)
    assert {path.name for path in tmp_path.iterdir()} <= {"calls.csv", "run.db.owner"}
