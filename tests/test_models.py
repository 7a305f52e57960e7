"""Requests are checked when they are made; replies are read whatever they say."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scripted import FIRST, SECOND, a_request

from innocalls_async import BridgeRequest, CallState, CallStatus, LegState, ScheduledCall

CAIRO = ZoneInfo("Africa/Cairo")


class TestBridgeRequest:
    def test_it_keeps_what_it_was_given(self) -> None:
        """Every field is there as given, the numbers as digits."""
        moment = datetime(2030, 4, 23, 10, 30, tzinfo=CAIRO)
        request = BridgeRequest("flow", "+20 112 345 6789", " a ", "966512345678", "ب", 1, moment)
        assert attrs.astuple(request) == ("flow", FIRST, " a ", SECOND, "ب", 1, moment)

    def test_call_time_is_now_unless_given(self) -> None:
        """None is how the API is told to dial now."""
        assert a_request().call_time is None

    @pytest.mark.parametrize(
        ("field", "value", "reason"),
        [
            ("call_flow_id", "", "must not be empty"),
            ("call_flow_id", " \n", "must not be empty"),
            ("call_flow_id", "\ud800", "lone surrogate"),
            ("first_callee_name", "", "must not be empty"),
            ("first_callee_name", "\t", "must not be empty"),
            ("second_callee_name", "n" * 251, "251 characters; at most 250"),
            ("second_callee_name", "a\udfff", "lone surrogate"),
            ("second_callee_number", "٢٠١١٢٣٤٥٦٧٨٩", "is the same as first_callee_number"),
            ("duration", 0, "at least 1 minute is needed, not 0"),
            ("duration", -1, "at least 1 minute is needed, not -1"),
            ("call_time", datetime(2030, 1, 1), "has no time zone"),  # noqa: DTZ001
            ("call_time", datetime(2026, 4, 24, 0, 30, tzinfo=CAIRO), "does not exist in Africa"),
            (
                "call_time",
                datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
                "is out of range",
            ),
        ],
    )
    def test_a_bad_value_is_a_value_error_that_names_the_field(
        self, field: str, value: object, reason: str
    ) -> None:
        """What the API would refuse never costs a request."""
        with pytest.raises(ValueError, match=f"^{field}: .*{reason}"):
            a_request(**{field: value})

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("call_flow_id", 5),
            ("call_flow_id", None),
            ("first_callee_name", b"Ahmed"),
            ("second_callee_name", None),
            ("duration", 2.0),
            ("duration", "2"),
            ("duration", True),
            ("call_time", "2030-04-23 10:30:00"),
            ("call_time", date(2030, 4, 23)),
            ("call_time", 1_900_000_000),
        ],
    )
    def test_a_wrong_type_is_a_type_error_that_names_the_field(
        self, field: str, value: object
    ) -> None:
        """A value of another type is refused with the type's name."""
        with pytest.raises(TypeError, match=f"^{field}: .*{type(value).__name__}"):
            a_request(**{field: value})

    @pytest.mark.parametrize("length", [1, 250])
    def test_names_may_have_up_to_250_characters(self, length: int) -> None:
        """The longest name that the service takes is taken."""
        assert a_request(first_callee_name="م" * length)

    @pytest.mark.parametrize("fold", [0, 1])
    def test_an_hour_that_comes_twice_is_a_moment_all_the_same(self, fold: int) -> None:
        """An aware time inside the fold is exact; writing it is another matter."""
        moment = datetime(2026, 10, 29, 23, 30, tzinfo=CAIRO, fold=fold)
        assert a_request(call_time=moment).call_time is moment

    def test_it_is_a_value(self) -> None:
        """Two of the same fields are equal and hash alike; none can be changed."""
        assert a_request() == a_request()
        assert len({a_request(), a_request(), a_request(duration=3)}) == 2
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            a_request().duration = 5  # type: ignore[misc]
        assert pickle.loads(pickle.dumps(a_request())) == a_request()  # noqa: S301
        assert attrs.evolve(a_request(), duration=9).duration == 9

    def test_its_repr_shows_no_whole_number(self) -> None:
        """A log line with a request in it is safe."""
        shown = repr(a_request())
        assert FIRST not in shown
        assert SECOND not in shown
        assert "*********789" in shown

    def test_a_name_that_is_the_number_is_masked_too(self) -> None:
        """Lists often have no name, and the number in its place."""
        assert FIRST not in repr(a_request(first_callee_name=FIRST, second_callee_name=f"+{FIRST}"))
        assert FIRST not in repr(CallStatus(first_recipient_name=FIRST))
        assert "first_callee_name='Mona'" in repr(a_request(first_callee_name="Mona"))

    def test_a_masked_copy_differs_in_its_numbers_alone(self) -> None:
        """A copy for people keeps all but the numbers, and leaves the request as it was."""
        request = a_request()
        copy = request.masked()
        assert type(copy) is BridgeRequest
        assert copy.first_callee_number == "*********789"
        assert copy.second_callee_number == "*********678"
        assert copy.first_callee_name == request.first_callee_name
        assert request == a_request()


def test_a_scheduled_call_knows_its_request() -> None:
    """The id is opaque, and the request is the one that was sent."""
    call = ScheduledCall("13456/ü", a_request())
    assert call.call_id == "13456/ü"
    assert call.request == a_request()
    assert FIRST not in repr(call)


class TestStates:
    @pytest.mark.parametrize(
        ("word", "state"),
        [
            ("pending", CallState.PENDING),
            ("Processing", CallState.PROCESSING),
            ("in-progress", CallState.IN_PROGRESS),
            (" In  Progress ", CallState.IN_PROGRESS),
            ("complete", CallState.COMPLETED),
            ("Completed", CallState.COMPLETED),
            ("Call Failed", CallState.FAILED),
            ("failed", CallState.FAILED),
            ("Deleted", CallState.DELETED),
            ("cancelled", CallState.DELETED),
            ("canceled", CallState.DELETED),
            ("unknown", CallState.UNKNOWN),
            ("on hold", CallState.UNKNOWN),
        ],
    )
    def test_call_states_are_read_in_any_spelling(self, word: str, state: CallState) -> None:
        """Case, spaces and hyphens make no difference."""
        assert CallState(word) is state

    @pytest.mark.parametrize(
        ("word", "state"),
        [
            ("Not Sent", LegState.NOT_SENT),
            ("answered", LegState.ANSWERED),
            ("not_answered", LegState.NOT_ANSWERED),
            ("User did not answer", LegState.NOT_ANSWERED),
            ("No answer", LegState.NOT_ANSWERED),
            ("User Busy/Rejected By User", LegState.BUSY),
            ("User Busy", LegState.BUSY),
            ("Rejected by user", LegState.BUSY),
            ("User Unreachable (switched off)", LegState.UNREACHABLE),
            ("Timeout", LegState.TIMEOUT),
            ("Call Failed", LegState.FAILED),
            ("whatever", LegState.UNKNOWN),
        ],
    )
    def test_leg_states_are_read_in_any_spelling(self, word: str, state: LegState) -> None:
        """The words of the document and those seen elsewhere mean the same states."""
        assert LegState(word) is state

    @settings(deadline=None)
    @given(st.text() | st.none() | st.integers() | st.lists(st.text()))
    def test_an_unknown_word_never_fails(self, word: Any) -> None:
        """A word that the service invents tomorrow is a state, not an exception."""
        assert CallState(word) in CallState
        assert LegState(word) in LegState

    def test_three_states_are_final(self) -> None:
        """Completed, failed and deleted calls stay as they are."""
        final = {state for state in CallState if state.is_final}
        assert final == {CallState.COMPLETED, CallState.FAILED, CallState.DELETED}


class TestCallStatus:
    @pytest.mark.parametrize("state", [None, *CallState])
    def test_it_is_final_as_its_state_is(self, state: CallState | None) -> None:
        """A status without a readable state can still change."""
        assert CallStatus(call_status=state).is_final is (state is not None and state.is_final)

    def test_its_repr_shows_no_whole_number(self) -> None:
        """Neither its own numbers nor those in `raw` are shown."""
        status = CallStatus(
            caller_id=FIRST,
            first_recipient_number=FIRST,
            second_recipient_number=SECOND,
            raw={"firstRecipientNumber": FIRST},
        )
        assert FIRST not in repr(status)
        assert SECOND not in repr(status)
        assert "caller_id=None" in repr(CallStatus())

    def test_it_is_a_value(self) -> None:
        """Equal fields make equal and hashable statuses, though `raw` is a mapping."""
        moment = datetime(2030, 1, 1, tzinfo=UTC)
        status = CallStatus(scheduled_date_time=moment, raw={"a": [1]})
        assert status == CallStatus(scheduled_date_time=moment, raw={"a": [1]})
        assert hash(status) == hash(CallStatus(scheduled_date_time=moment, raw={"a": [2]}))


def test_pydantic_finds_the_schema_of_a_model() -> None:
    """Where pydantic is installed, a model is validated by its own rules."""
    adapter = TypeAdapter(BridgeRequest)
    assert adapter.validate_python(a_request()) == a_request()
    assert "first_callee_number" in adapter.json_schema()["properties"]
