"""Outcomes are values that a `match` takes apart."""

from __future__ import annotations

import attrs
import pytest
from scripted import FIRST, a_request

from innocalls_async import Done, InDoubt, Outcome, OutcomeUnknownError, Refused, Scheduled

DOUBT = OutcomeUnknownError("lost", request=a_request())


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Scheduled(0, a_request(), "id-1"), "scheduled id-1"),
        (Refused(1, a_request(), ValueError("no")), "refused: no"),
        (InDoubt(2, a_request(), DOUBT), "in doubt: lost"),
    ],
)
def test_three_outcomes_are_told_apart(outcome: Outcome, said: str) -> None:
    """Each kind has what is known of its request, and nothing else."""
    match outcome:
        case Scheduled(call_id=call_id):
            assert said == f"scheduled {call_id}"
        case Refused(error=error):
            assert said == f"refused: {error}"
        case InDoubt(error=doubt):
            assert said == f"in doubt: {doubt}"
    assert outcome.request == a_request()
    assert FIRST not in repr(outcome)


def test_an_item_is_shown_without_its_numbers() -> None:
    """Whatever was given as a request, a report of it has no whole number."""
    for outcome in (Refused(0, {"number": FIRST}, TypeError()), Done(0, (FIRST, "flow"), None)):
        assert FIRST not in repr(outcome)
        assert FIRST[-3:] in repr(outcome)


def test_outcomes_cannot_be_changed() -> None:
    """An account that was given stays as it was."""
    done = Done(3, "id-1", None)
    assert done == Done(3, "id-1", None)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        done.index = 4  # type: ignore[misc]
