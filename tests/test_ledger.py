"""The ledger: what moves it allows, and what it holds whatever is done to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from campaign_drill import write_calls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from innocalls_async.campaign import (
    Campaign,
    InputError,
    Ledger,
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


def test_one_service(tmp_path: Path) -> None:
    """A ledger with calls at one service is not carried on at another; one that has none there,
    as each was refused, is."""
    with Ledger(_ledger(tmp_path)) as ledger:
        ledger.belong_to("http://mistyped")
        ledger.belong_to("the sandbox")
        ledger.turn([], 1)
        ledger.turn([Record(1, State.PENDING, 1)])
        ledger.belong_to("http://one")
        ledger.turn([], 2)
        ledger.turn([Record(1, State.PENDING, 1), Record(2, State.REFUSED, 1)])
        ledger.belong_to("http://two")
        ledger.belong_to("http://one")
        ledger.turn([], 1)
        ledger.turn([Record(1, State.SCHEDULED, 1, "c")])
        ledger.belong_to("http://one")
        with pytest.raises(LedgerError, match="a campaign at http://one, not at http://two"):
            ledger.belong_to("http://two")


def test_row_that_is_not_there(tmp_path: Path) -> None:
    """Rows and refs that are chosen and not there are named."""
    with Ledger(_ledger(tmp_path)) as ledger:
        ledger.require(Selection([1, ROWS], ["r1"]))
        with pytest.raises(InputError, match=f"no row {ROWS + 1}, no ref x"):
            ledger.require(Selection([1, ROWS + 1], ["r1", "x"]))
