"""Our models are pydantic's and FastAPI's, and the core knows nothing of either."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pydantic
import pytest
from attrs import evolve
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from innocalls_async import (
    BridgeRequest,
    CallState,
    CallStatus,
    Done,
    InDoubt,
    InnoCallsError,
    LegState,
    NotFoundError,
    Outcome,
    OutcomeUnknownError,
    Refused,
    Scheduled,
    ScheduledCall,
)
from innocalls_async.integrations.fastapi import TaggedOutcome

CAIRO = ZoneInfo("Africa/Cairo")
REQUEST = BridgeRequest("flow", "201123456789", "Ahmed", "201098765432", "منى", 5)
BODY: dict[str, Any] = {
    "call_flow_id": "flow",
    "first_callee_number": "+20 112 345 6789",
    "first_callee_name": "Ahmed",
    "second_callee_number": "0020 109 876 5432",
    "second_callee_name": "منى",
    "duration": 5,
}
STATUS = CallStatus(
    scheduled_date_time=datetime(2026, 4, 23, 10, 31, 47, tzinfo=CAIRO),
    call_duration=timedelta(minutes=5),
    caller_id="20235550100",
    first_recipient_name="Ahmed",
    first_recipient_number="201123456789",
    first_recipient_status=LegState.ANSWERED,
    call_status=CallState.FAILED,
    call_id="id",
    raw={"callerId": "20235550100"},
)

OUTCOME_WORDS = {"Scheduled": "scheduled", "Refused": "refused", "InDoubt": "in_doubt"}

app = FastAPI()


@app.post("/requests")
async def echo_request(request: BridgeRequest) -> ScheduledCall:
    assert isinstance(request, BridgeRequest)
    return ScheduledCall("id", request)


@app.post("/statuses")
async def echo_status(status: CallStatus) -> CallStatus:
    assert isinstance(status, CallStatus)
    return status


@app.post("/outcomes")
async def echo_outcomes(outcomes: list[Outcome]) -> list[Outcome]:
    return outcomes


@app.get("/done")
async def done() -> list[Done[CallStatus]]:
    return [Done(0, ("id", "flow"), STATUS)]


@pytest.fixture(scope="module")
def browser() -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


@pytest.fixture(scope="module")
def components(browser: TestClient) -> dict[str, Any]:
    schemas = browser.get("/openapi.json").json()["components"]["schemas"]
    assert isinstance(schemas, dict)
    return schemas


def problems(browser: TestClient, **changes: Any) -> list[tuple[list[str], str]]:
    reply = browser.post("/requests", json=BODY | changes)
    assert reply.status_code == 422, reply.text
    return [(problem["loc"], problem["msg"]) for problem in reply.json()["detail"]]


class TestBodies:
    def test_a_request_is_read_as_people_write_it(self, browser: TestClient) -> None:
        """A body becomes the model, its numbers the digits that the API wants."""
        reply = browser.post("/requests", json=BODY)
        assert reply.status_code == 200
        assert reply.json() == {
            "call_id": "id",
            "request": BODY
            | {
                "first_callee_number": "201123456789",
                "second_callee_number": "201098765432",
                "call_time": None,
            },
        }

    def test_all_wrong_fields_are_named_at_once(self, browser: TestClient) -> None:
        """A 422 has a `loc` for each wrong field, with the model's own words."""
        found = problems(
            browser, first_callee_number="12", second_callee_name=" ", duration=0, call_time="x"
        )
        assert [loc for loc, _ in found] == [
            ["body", "first_callee_number"],
            ["body", "second_callee_name"],
            ["body", "duration"],
            ["body", "call_time"],
        ]
        assert "7 to 15 digits with the country code" in found[0][1]
        assert "must not be empty" in found[1][1]

    def test_the_same_number_twice_is_the_second_fields_fault(self, browser: TestClient) -> None:
        """What is wrong with two fields together names the field that the model names."""
        ((loc, text),) = problems(browser, second_callee_number="00201123456789")
        assert loc == ["body", "second_callee_number"]
        assert "same as first_callee_number" in text

    @pytest.mark.parametrize(
        ("call_time", "words"),
        [
            ("2030-04-23T10:31:47", "no time zone; write its offset: 2030-04-23T10:30:00+02:00"),
            ("2030-04-23", "has no time zone"),
            (1893456000, "a bare number is no time"),
            (True, "a bare number is no time"),
            ("1893456000", "a bare number is no time"),
            (" -1.5", "a bare number is no time"),
        ],
    )
    def test_a_time_of_unknown_zone_is_refused(
        self, browser: TestClient, call_time: object, words: str
    ) -> None:
        """Only a text with an offset is a `call_time`."""
        ((loc, text),) = problems(browser, call_time=call_time)
        assert loc == ["body", "call_time"]
        assert words in text

    def test_a_misspelt_field_is_refused(self, browser: TestClient) -> None:
        """`call_tme` is refused, for without a `call_time` the call would be made now."""
        ((loc, _),) = problems(browser, call_tme="2030-04-23T10:31:47Z")
        assert loc == ["body", "call_tme"]

    @pytest.mark.parametrize("duration", ["5", 5.0, True, None])
    def test_a_duration_is_a_whole_number(self, browser: TestClient, duration: object) -> None:
        """Text, fractions and booleans are no minutes, as in the model."""
        ((loc, _),) = problems(browser, duration=duration)
        assert loc == ["body", "duration"]

    def test_a_missing_field_is_named(self, browser: TestClient) -> None:
        """Each field that has no default is asked for."""
        reply = browser.post("/requests", json={})
        missing = {problem["loc"][1] for problem in reply.json()["detail"]}
        assert missing == set(BODY)

    def test_the_422_can_be_written_by_anybody(self) -> None:
        """The errors are plain JSON values: nobody's own handler fails on them."""
        with pytest.raises(pydantic.ValidationError) as caught:
            TypeAdapter(BridgeRequest).validate_python(BODY | {"first_callee_number": "12"})
        json.dumps(caught.value.errors())


GIVEN = {
    "number": ("first_callee_number", "+20 112 345 6789x"),
    "bare": ("first_callee_number", 201123456789),
    "name": ("first_callee_name", {"is": ["+20 112 345 6789"]}),
    "misspelt": ("second_calee_number", "(0020) 112-345-6789"),
    "key": ("00201123456789", None),
    "time": ("call_time", "201123456789"),
    "script": ("second_callee_number", "٠٠٠٠٠٢٠١١٢٣٤٥٦٧٨٩"),
}


class TestSecrets:
    @pytest.mark.parametrize("name", GIVEN)
    @pytest.mark.parametrize("mode", ["python", "json"])
    def test_a_wrong_number_is_not_shown(self, name: str, mode: str) -> None:
        """Neither pydantic's text nor its errors have the whole of a number that was given, and
        both have its last digits."""
        field, value = GIVEN[name]
        content: Any = [{"call_flow_id": "flow", field: value}]
        adapter = TypeAdapter(list[BridgeRequest])
        validate: Any = adapter.validate_python
        if mode == "json":
            content, validate = json.dumps(content), adapter.validate_json
        with pytest.raises(pydantic.ValidationError) as caught:
            validate(content)
        for shown in (str(caught.value), repr(caught.value.errors())):
            digits = [str(int(char)) for char in shown if char.isdigit()]
            assert "2345678" not in "".join(digits)
            assert re.search(r"\*\d\d\d", shown)

    def test_fastapis_own_422_does_not_show_it(self, browser: TestClient) -> None:
        """Also where our error handlers are not installed."""
        number = BODY["first_callee_number"]
        reply = browser.post("/requests", json={"first_callee_number": number})
        assert reply.status_code == 422
        assert number not in reply.text
        assert "*789" in reply.text

    def test_pydantics_own_texts_are_kept(self) -> None:
        """Type, place, text and link of an error are those that pydantic gives."""
        with pytest.raises(pydantic.ValidationError) as caught:
            TypeAdapter(ScheduledCall).validate_python({"call_id": "id", "request": {}})
        found = {line["loc"]: line for line in caught.value.errors()}
        line = found["request", "duration"]
        assert "[type=missing, input_value={}, input_type=dict]" in str(caught.value)
        assert (line["type"], line["msg"]) == ("missing", "Field required")
        assert line.get("url", "").endswith("/missing")

    def test_an_object_is_told_by_its_class(self) -> None:
        """What a program gave that is no plain value is not shown at all."""
        with pytest.raises(pydantic.ValidationError) as caught:
            TypeAdapter(BridgeRequest).validate_python(BODY | {"duration": timedelta(1)})
        assert [line["input"] for line in caught.value.errors()] == ["<timedelta>"]


class TestReplies:
    def test_a_status_is_its_twelve_fields(self, browser: TestClient) -> None:
        """Times have their offset, durations are ISO 8601, states are words, `raw` is left out."""
        written = json.loads(TypeAdapter(CallStatus).dump_json(STATUS))
        assert written == {
            "scheduled_date_time": "2026-04-23T10:31:47+02:00",
            "actual_date_time": None,
            "call_duration": "PT5M",
            "caller_id": "20235550100",
            "first_recipient_name": "Ahmed",
            "first_recipient_number": "201123456789",
            "first_recipient_status": "answered",
            "second_recipient_name": None,
            "second_recipient_number": None,
            "second_recipient_status": None,
            "call_status": "failed",
            "call_id": "id",
        }
        assert browser.post("/statuses", json=written).json() == written

    def test_an_unknown_state_is_unknown(self) -> None:
        """A word that nobody knows is no error, and neither is a field left out."""
        status = TypeAdapter(CallStatus).validate_json(
            '{"call_status": "Call Failed", "first_recipient_status": "gremlins"}'
        )
        assert status == CallStatus(
            call_status=CallState.FAILED, first_recipient_status=LegState.UNKNOWN
        )

    def test_instances_pass_through(self) -> None:
        """A model that is there already is the very same afterwards."""
        for model in (REQUEST, STATUS, ScheduledCall("id", REQUEST), Scheduled(0, REQUEST, "id")):
            assert TypeAdapter(type(model)).validate_python(model) is model

    def test_outcomes_are_told_apart(self, browser: TestClient) -> None:
        """Each outcome says which it is, comes back as that, and its error is a plain object."""
        outcomes: list[Outcome] = [
            Scheduled(0, REQUEST, "id"),
            Refused(1, REQUEST, NotFoundError("not there", status_code=404)),
            Refused(2, {"row": 7}, ValueError("the number 201123456789 is odd")),
            InDoubt(3, REQUEST, OutcomeUnknownError("the answer was lost", request=REQUEST)),
        ]
        adapter: TypeAdapter[list[Outcome]] = TypeAdapter(list[Outcome])
        written = browser.post("/outcomes", json=adapter.dump_python(outcomes)).json()
        assert [outcome["outcome"] for outcome in written] == [
            "scheduled",
            "refused",
            "refused",
            "in_doubt",
        ]
        assert written[1]["error"] == {
            "type": "NotFoundError",
            "message": "not there",
            "status_code": 404,
        }
        assert written[2]["error"]["message"] == "the number *********789 is odd"
        back = adapter.validate_python(written)
        assert [type(outcome) for outcome in back] == [type(outcome) for outcome in outcomes]
        assert back[0] == outcomes[0]
        assert isinstance(back[1], Refused)
        assert isinstance(back[1].error, NotFoundError)
        assert back[1].error.status_code == 404

    def test_a_doubt_is_never_read_as_a_refusal(self) -> None:
        """Without its `outcome` an InDoubt is still none of the others."""
        doubt = InDoubt(0, REQUEST, OutcomeUnknownError("lost"))
        written = TypeAdapter(InDoubt).dump_python(doubt)
        del written["outcome"]
        adapter: TypeAdapter[Outcome] = TypeAdapter(Outcome)
        assert isinstance(adapter.validate_python(written), InDoubt)

    def test_an_unknown_error_is_ours(self) -> None:
        """An error of a class that is not known here is an InnoCallsError, and no code is run."""
        for name in ("Nonsense", "annotations", "Mapping", "error_for_status"):
            refused = TypeAdapter(Refused).validate_python(
                {"index": 0, "request": None, "error": {"type": name, "message": "m"}}
            )
            assert type(refused.error) is InnoCallsError

    @pytest.mark.parametrize(
        ("item", "written"),
        [
            (("id", REQUEST), ["id", TypeAdapter(BridgeRequest).dump_python(REQUEST)]),
            (object(), "<object>"),
            (b"\xff", "_w=="),
        ],
        ids=["edit", "object", "bytes"],
    )
    def test_a_refused_item_may_be_anything(self, item: object, written: object) -> None:
        """A report does not fail on an input item that is no JSON."""
        adapter: TypeAdapter[Outcome] = TypeAdapter(Outcome)
        refused = json.loads(adapter.dump_json(Refused(0, item, TypeError("no request"))))
        assert refused["request"] == written

    def test_done_has_the_schema_of_its_result(
        self, browser: TestClient, components: dict[str, Any]
    ) -> None:
        """`Done[CallStatus]` is a component of its own, and so is what it holds."""
        assert browser.get("/done").json()[0]["result"]["call_duration"] == "PT5M"
        result = components["Done_CallStatus_"]["properties"]["result"]
        assert result == {"$ref": "#/components/schemas/CallStatus"}
        kinds: tuple[Any, ...] = (Done[None], Done)
        for kind in kinds:
            done = TypeAdapter(kind).dump_python(Done(0, "id", None))
            assert done == {"index": 0, "request": "id", "result": None}

    def test_what_was_written_is_read_again(self) -> None:
        """Any request survives JSON."""
        check_round_trip()


numbers = st.from_regex(r"[1-9][0-9]{6,14}", fullmatch=True)
words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=250).filter(str.strip)


@settings(deadline=None, max_examples=25)
@given(
    st.builds(
        BridgeRequest,
        words,
        numbers.map(lambda number: "2" + number[:14]),
        words,
        numbers.map(lambda number: "3" + number[:14]),
        words,
        st.integers(min_value=1, max_value=10_000),
        st.none() | st.integers(0, 2**32).map(lambda second: datetime.fromtimestamp(second, UTC)),
    )
)
def check_round_trip(request: BridgeRequest) -> None:
    adapter = TypeAdapter(BridgeRequest)
    assert adapter.validate_json(adapter.dump_json(request)) == request


class TestOpenAPI:
    def test_the_components_have_the_models_names(self, components: dict[str, Any]) -> None:
        """Each model is one component, the same for what goes in and what comes out."""
        models = {"BridgeRequest", "ScheduledCall", "CallStatus", "CallState", "LegState"}
        outcomes = {"Scheduled", "Refused", "InDoubt", "CallError", "Done_CallStatus_"}
        fastapis = {"HTTPValidationError", "ValidationError"}
        assert set(components) == models | outcomes | fastapis

    def test_a_request_is_described(self, components: dict[str, Any]) -> None:
        """Types, formats, bounds and what is required are the model's."""
        schema = components["BridgeRequest"]
        fields = schema["properties"]
        assert schema["required"] == list(BODY)
        assert schema["additionalProperties"] is False
        assert list(fields) == [*BODY, "call_time"]
        assert all("description" in described for described in fields.values())
        assert fields["duration"]["type"] == "integer"
        assert fields["duration"]["minimum"] == 1
        assert fields["first_callee_name"]["maxLength"] == 250
        assert fields["call_time"]["anyOf"] == [
            {"type": "string", "format": "date-time"},
            {"type": "null"},
        ]

    def test_a_status_is_described(self, components: dict[str, Any]) -> None:
        """States are enums, durations have their format, and every field can be null."""
        fields = components["CallStatus"]["properties"]
        assert len(fields) == 12
        assert {"type": "null"} in fields["call_status"]["anyOf"]
        assert fields["call_duration"]["anyOf"][0] == {"type": "string", "format": "duration"}
        assert components["CallState"]["enum"] == [state.value for state in CallState]
        assert components["LegState"]["enum"] == [state.value for state in LegState]

    def test_an_outcome_says_which_it_is(self, components: dict[str, Any]) -> None:
        """`outcome` is in each of them, with one word, and is always written."""
        for name, word in OUTCOME_WORDS.items():
            assert components[name]["required"][0] == "outcome"
            assert components[name]["properties"]["outcome"]["const"] == word

    def test_a_tagged_outcome_has_a_discriminator(self) -> None:
        """The union is told apart by `outcome`, in what is read and in what is written."""
        tagged = FastAPI()

        @tagged.post("/")
        async def echo(outcomes: list[TaggedOutcome]) -> list[TaggedOutcome]:
            return outcomes

        refs = {word: f"#/components/schemas/{name}" for name, word in OUTCOME_WORDS.items()}
        union = {
            "oneOf": [{"$ref": ref} for ref in refs.values()],
            "discriminator": {"propertyName": "outcome", "mapping": refs},
        }
        with TestClient(tagged) as client:
            described = client.get("/openapi.json").json()
            operation = described["paths"]["/"]["post"]
            read = operation["requestBody"]["content"]["application/json"]["schema"]
            written = operation["responses"]["200"]["content"]["application/json"]["schema"]
            assert read["items"] == written["items"] == union
            assert set(OUTCOME_WORDS) <= set(described["components"]["schemas"])
            outcomes: list[Outcome] = [
                Scheduled(0, REQUEST, "id", 2),
                Refused(1, {"row": 7}, ValueError("odd")),
                InDoubt(2, REQUEST, OutcomeUnknownError("lost")),
            ]
            content = TypeAdapter(list[Outcome]).dump_python(outcomes)
            assert client.post("/", json=content).json() == content

    def test_the_schema_is_of_the_body(self, browser: TestClient) -> None:
        """FastAPI takes a model for the body, and not for a query."""
        operation = browser.get("/openapi.json").json()["paths"]["/requests"]["post"]
        assert operation["requestBody"]["content"]["application/json"]["schema"] == {
            "$ref": "#/components/schemas/BridgeRequest"
        }
        assert "parameters" not in operation


def test_a_field_of_a_users_own_model() -> None:
    """A model is a field of a pydantic model too, and a list of them."""

    class Campaign(pydantic.BaseModel):
        requests: list[BridgeRequest]

    campaign = Campaign.model_validate({"requests": [BODY, REQUEST]})
    assert campaign.requests == [REQUEST, REQUEST]
    assert Campaign.model_validate_json(campaign.model_dump_json()) == campaign
    late = evolve(REQUEST, call_time=datetime(2030, 4, 23, 10, tzinfo=CAIRO))
    assert '"2030-04-23T10:00:00+02:00"' in Campaign(requests=[late]).model_dump_json()


def test_the_core_imports_none_of_them() -> None:
    """`import innocalls_async` brings in no extra, but for what httpx itself imports."""
    program = """
import sys
import httpx
httpxs = set(sys.modules)
import innocalls_async
from innocalls_async import *
print({name.partition(".")[0] for name in set(sys.modules) - httpxs})
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    extras = "pydantic fastapi starlette typer rich uvicorn opentelemetry httptools pytest respx"
    for name in extras.split():
        assert repr(name) not in run.stdout
