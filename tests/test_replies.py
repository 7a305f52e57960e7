"""Replies become models or typed errors, and nothing else, whatever is in them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import FIRST, SECOND, TOKEN, a_request

import innocalls_async as api
from innocalls_async import CallState, CallStatus, LegState
from innocalls_async.replies import Reader, Reply, is_json
from innocalls_async.wire import DEFAULT_BASE_URL, Message, Wire

CAIRO = ZoneInfo("Africa/Cairo")
READER = Reader(CAIRO)
WIRE = Wire(base_url=DEFAULT_BASE_URL, token=TOKEN, zone=CAIRO)
MOMENT = datetime(2030, 4, 23, 10, 30, tzinfo=CAIRO)
MESSAGES: dict[str, Message] = {
    "authorize": WIRE.authorize(),
    "create": WIRE.create(a_request()),
    "status": WIRE.status("id-1", "flow"),
    "edit": WIRE.edit("id-1", a_request(call_time=MOMENT)),
    "delete": WIRE.delete("id-1"),
}

# The document's own samples, word for word.
CREATED = b"""{
"status": 200,
"success": true,
"data": {
"call_id": "f2281763-e58a-4817-bc34-4b120c230cfbas"
}
}"""
STATUS = b"""{
"status": 200,
"success": true,
"data": {
"callStatus": {
"scheduledDateTime": "2020-04-23 10:31:47",
"actualDateTime": "2020-04-23 10:31:47",
"callDuration": "5 Minutes",
"callerId": "XXXXXXX",
"firstRecipientName": "ahmed",
"firstRecipientNumber": "2010XXXXX",
"firstRecipientStatus": "answered",
"secondRecipientName": "kand",
"secondRecipientNumber": "13456",
"secondRecipientStatus": "not_answered",
"callStatus": "failed",
"callId": "f2281763-e58a-4817-bc34-4b120c230cfbas"
}
}
}"""
EDITED = b"""{
"status": 200,
"success": true,
"data": {
"message": "Call updated successfully"
}
}"""
DELETED = EDITED.replace(b"updated", b"deleted")


def read(name: str, body: object, status: int = 200, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lowered = {key.replace("_", "-"): value for key, value in headers.items()}
    return READER.read(MESSAGES[name], Reply(status, lowered, content))


def error_of(name: str, body: object, status: int = 200, **headers: str) -> api.APIError:
    with pytest.raises(api.APIError) as caught:
        read(name, body, status, **headers)
    return caught.value


class TestSamples:
    def test_a_create(self) -> None:
        """The sample's call id, beside the request that it answers."""
        call = read("create", CREATED)
        assert call == api.ScheduledCall("f2281763-e58a-4817-bc34-4b120c230cfbas", a_request())

    def test_a_status(self) -> None:
        """All twelve fields, typed, and the reply's own mapping untouched."""
        moment = datetime(2020, 4, 23, 10, 31, 47, tzinfo=CAIRO)
        assert read("status", STATUS) == CallStatus(
            scheduled_date_time=moment,
            actual_date_time=moment,
            call_duration=timedelta(minutes=5),
            caller_id="XXXXXXX",
            first_recipient_name="ahmed",
            first_recipient_number="2010XXXXX",
            first_recipient_status=LegState.ANSWERED,
            second_recipient_name="kand",
            second_recipient_number="13456",
            second_recipient_status=LegState.NOT_ANSWERED,
            call_status=CallState.FAILED,
            call_id="f2281763-e58a-4817-bc34-4b120c230cfbas",
            raw=json.loads(STATUS)["data"]["callStatus"],
        )

    @pytest.mark.parametrize(("name", "body"), [("edit", EDITED), ("delete", DELETED)])
    def test_an_edit_and_a_delete(self, name: str, body: bytes) -> None:
        """They have nothing to tell but that they went well."""
        assert read(name, body) is None


class TestErrorTable:
    @pytest.mark.parametrize("name", MESSAGES)
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, api.BadRequestError),
            (401, api.AuthenticationError),
            (403, api.PermissionDeniedError),
            (404, api.NotFoundError),
            (405, api.MethodNotAllowedError),
            (406, api.NotAcceptableError),
            (410, api.GoneError),
            (418, api.TeapotError),
            (429, api.RateLimitedError),
            (500, api.ServerError),
            (503, api.ServiceUnavailableError),
            (422, api.ValidationError),
            (302, api.RedirectError),
            (502, api.ServerError),
            (451, api.APIError),
        ],
    )
    def test_each_row_is_an_error_of_its_own(
        self, name: str, status: int, kind: type[api.APIError]
    ) -> None:
        """The class, the status and what the service said, by HTTP's status or the body's own."""
        body = {"status": status, "success": False, "message": "So it\n is"}
        for error in (error_of(name, body, status), error_of(name, body, 200)):
            assert type(error) is kind
            assert error.status_code == status
            told = f"{name}: the service answered {status}: So it is"
            assert str(error) == error.message == told + (kind.advice and f"; {kind.advice}")

    @pytest.mark.parametrize("status", [None, True, "no", 200, 99, 600])
    def test_a_refusal_in_a_200_without_a_status_of_its_own_is_an_api_error(
        self, status: object
    ) -> None:
        """A body's status that is none leaves HTTP's."""
        error = error_of("create", {"status": status, "success": False})
        assert type(error) is api.APIError
        assert error.status_code == 200

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_retry_after_is_read(self, status: int) -> None:
        """A 429 and the server errors say how long to wait, where they do."""
        error: Any = error_of("create", {}, status, retry_after="7")
        assert error.retry_after == 7.0
        error = error_of("create", {}, status)
        assert error.retry_after is None


class TestWhatWasSaid:
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ({"message": "a"}, ": a"),
            ({"error": "b"}, ": b"),
            ({"message": 5, "error": " ", "data": {"message": "c"}}, ": c"),
            ({"data": "d"}, ""),
            ([1], ""),
            (b"Too Many\nAttempts.", ": Too Many Attempts."),
            (b"", ""),
            (b"<p>no</p>", ""),
            (b"x" * 201, ""),
            (b"\xff\xfe", ": \ufffd\ufffd"),
        ],
    )
    def test_the_message_is_the_services_own(self, body: object, said: str) -> None:
        """JSON's message, or short plain text; never markup or a dump."""
        assert str(error_of("edit", body, 400)) == f"edit: the service answered 400{said}"

    def test_a_web_page_is_called_one(self) -> None:
        """A maintenance page is not pasted into the message."""
        error = error_of("edit", b"Down", 503, content_type="text/HTML; charset=utf-8")
        assert str(error) == "edit: the service answered 503: a web page"
        assert error.body == "Down"

    def test_field_errors_of_a_422_are_listed(self) -> None:
        """Laravel's `errors`, in the error and in its message."""
        said = {"duration": ["is missing", "is wrong"], "call_time": "is past", "x": [5]}
        error = error_of("create", {"message": "Invalid.", "errors": said}, 422)
        assert isinstance(error, api.ValidationError)
        assert error.errors == {
            "duration": ["is missing", "is wrong"],
            "call_time": ["is past"],
            "x": ["5"],
        }
        assert "Invalid.; duration: is missing is wrong; call_time: is past; x: 5" in str(error)

    def test_errors_that_are_no_mapping_are_none(self) -> None:
        """A 422 of another form is a ValidationError all the same."""
        error = error_of("create", {"errors": ["no"]}, 422)
        assert isinstance(error, api.ValidationError)
        assert error.errors == {}

    def test_body_and_headers_are_kept_without_secrets(self) -> None:
        """At most 4 KiB, masked before it is cut; no cookie, no credentials."""
        body = {"message": f"{FIRST} and {TOKEN}", "errors": {"a": [SECOND]}, "b": "x" * 9000}
        error = error_of(
            "create",
            body,
            422,
            x_request_id="r-1",
            set_cookie="session=1",
            www_authenticate="Bearer",
            x_echo=f"Bearer {TOKEN} {FIRST}",
        )
        assert len(error.body) == 4096
        assert error.headers == {"x-request-id": "r-1", "x-echo": "Bearer *** *********789"}
        assert error.request_id == "r-1"
        everything = f"{error!r} {vars(error)}"
        assert not any(secret in everything for secret in (FIRST, SECOND, TOKEN))

    @pytest.mark.parametrize("cut", range(4080, 4097))
    def test_a_number_at_the_cut_does_not_escape(self, cut: int) -> None:
        """A number that the 4 KiB cut in two is masked as a whole."""
        error = error_of("create", b"x" * cut + b" " + FIRST.encode() + b" end", 400)
        assert FIRST[:9] not in error.body

    @pytest.mark.parametrize("name", ["request_id", "x_correlation_id", "cf_ray"])
    def test_the_request_id_has_many_names(self, name: str) -> None:
        """What to tell the service's support is found under each usual name."""
        assert error_of("delete", {}, 500, **{name: "r-2"}).request_id == "r-2"


class TestUnreadable:
    def test_what_was_asked_for_is_enough_of_a_success(self) -> None:
        """A call id or a status says as much as `success: true`; an edit has nothing but that."""
        assert read("create", {"data": {"call_id": "id-1"}}).call_id == "id-1"
        assert read("status", {"data": {"callStatus": {}}}).call_status is None
        assert type(error_of("edit", {"data": {"message": "?"}})) is api.ResponseError
        assert type(error_of("edit", {"success": None, "data": {}})) is api.ResponseError

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"", "it is not JSON"),
            (b"\xff", "it is not JSON"),
            (b"<html>", "it is not JSON"),
            (b'{"success": true', "it is not JSON"),
            (b'{"success": true} and more', "something follows its JSON"),
            (b"[" * 100_000, "its JSON is too deep"),
            (b'{"success": true, "success": false}', "a key comes twice"),
            (b'{"success": true, "data": {"call_id": "a", "call_id": "b"}}', "a key comes twice"),
            (b"[]", "it is no JSON object"),
            (b"null", "it is no JSON object"),
            (b"{}", "it has no data"),
            (b'{"success": "true"}', "does not say whether"),
            (b'{"success": 1, "data": {"call_id": "a"}}', "does not say whether"),
            (b'{"success": true}', "it has no data"),
            (b'{"success": true, "data": []}', "it has no data"),
            (b'{"success": true, "data": {}}', "it has no call_id"),
            (b'{"success": true, "data": {"call_id": " "}}', "it has no call_id"),
            (b'{"success": true, "data": {"call_id": 5}}', "it has no call_id"),
        ],
    )
    def test_a_create_without_its_call_id_says_what_is_missing(
        self, body: bytes, reason: str
    ) -> None:
        """A 2xx that is not the document's is a ResponseError with the reason."""
        error = error_of("create", body)
        assert type(error) is api.ResponseError
        assert str(error).startswith("create: the reply cannot be read: ")
        assert reason in str(error)
        assert error.status_code == 200

    @pytest.mark.parametrize("call_status", [None, "failed", [], 5])
    def test_a_status_without_its_call_status_is_a_response_error(
        self, call_status: object
    ) -> None:
        """There is nothing to read a state from."""
        error = error_of("status", {"success": True, "data": {"callStatus": call_status}})
        assert type(error) is api.ResponseError

    @pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "deflate, gzip"])
    def test_a_compressed_reply_is_refused(self, encoding: str) -> None:
        """Nothing is unpacked: it was not asked for."""
        error = error_of("create", CREATED, content_encoding=encoding)
        assert "compressed" in str(error)

    @pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
    def test_identity_is_no_compression(self, encoding: str) -> None:
        """A server that says so is read."""
        assert read("create", CREATED, content_encoding=encoding)

    def test_a_byte_order_mark_is_no_fault(self) -> None:
        """Some backends write one before the JSON."""
        assert read("create", b"\xef\xbb\xbf" + CREATED)


class TestWhereThereIsNothingToRead:
    @pytest.mark.parametrize("body", [b"", b"ok", b"[]", b"{}", b'{"success": true}', EDITED])
    def test_a_delete_is_done_whatever_a_2xx_says(self, body: bytes) -> None:
        """Only an explicit `success: false` is a no."""
        assert read("delete", body, 204) is None
        assert read("authorize", body) is None

    def test_authorize_takes_no_web_page(self) -> None:
        """A captive portal answers 200 too."""
        error = error_of("authorize", b"<html>", content_type="text/html")
        assert type(error) is api.ResponseError

    def test_an_edit_must_say_that_it_is_a_success(self) -> None:
        """An empty 200 is no word that the call was changed."""
        assert type(error_of("edit", b"")) is api.ResponseError


class TestStatusFields:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("scheduledDateTime", "soon"),
            ("actualDateTime", None),
            ("actualDateTime", "0001-01-01T00:00:00+14:00"),
            ("callDuration", {}),
            ("callerId", True),
            ("callerId", 1.5),
            ("firstRecipientName", ["a"]),
            ("firstRecipientStatus", 5),
            ("secondRecipientStatus", " "),
            ("callStatus", None),
            ("callId", {}),
        ],
    )
    def test_a_field_that_cannot_be_read_is_none(self, field: str, value: object) -> None:
        """One odd field does not cost the others, and `raw` keeps it."""
        body = json.loads(STATUS)
        body["data"]["callStatus"][field] = value
        status, whole = read("status", body), read("status", STATUS)
        name = "".join(f"_{char.lower()}" if char.isupper() else char for char in field)
        assert getattr(status, name) is None
        assert status.raw[field] == value
        others = set(attrs.fields_dict(CallStatus)) - {name, "raw"}
        assert all(getattr(status, other) == getattr(whole, other) for other in others)

    def test_missing_fields_are_none_and_unknown_ones_are_kept(self) -> None:
        """A reply of another version is read as far as it goes."""
        status = read("status", {"success": True, "data": {"callStatus": {"raw": 1, "new": [2]}}})
        assert status == CallStatus(raw={"raw": 1, "new": [2]})

    def test_numbers_may_be_json_numbers(self) -> None:
        """A number without quotes is text all the same."""
        body = {"success": True, "data": {"callStatus": {"firstRecipientNumber": 13456}}}
        assert read("status", body).first_recipient_number == "13456"


WORDS = """
    status success data call_id callStatus message errors error callId callerId scheduledDateTime
    callDuration firstRecipientStatus raw
"""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS.split()) | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)
SUCCESSES = st.builds(
    lambda data: {"success": True, "data": data},
    st.builds(lambda status: {"callStatus": status, "call_id": status}, JSON) | JSON,
)
BODIES = st.binary(max_size=60) | (SUCCESSES | JSON).map(lambda value: json.dumps(value).encode())
HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "content-encoding", "retry-after", "date", "x-request-id"]),
    st.sampled_from(["text/html", "gzip", "5", "-1", FIRST]) | st.text(max_size=10),
    max_size=3,
)


@settings(deadline=None, max_examples=120)
@given(
    st.sampled_from(list(MESSAGES)),
    st.sampled_from([200, 204]) | st.integers(100, 999),
    HEADERS,
    BODIES,
)
def test_reading_gives_a_model_or_an_api_error(
    name: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    """No bytes, no headers and no JSON make reading raise anything else."""
    reply = Reply(status, headers, body)
    assert is_json(reply) in {True, False}
    try:
        result = READER.read(MESSAGES[name], reply)
    except api.APIError as error:
        result = error
    if isinstance(result, api.APIError):
        assert len(result.body) <= 4096
        texts = [result.message, result.body, *result.headers.values(), str(result.request_id)]
        assert not any(FIRST in text for text in texts)
    else:
        assert 200 <= status < 300
        assert result is None or isinstance(result, api.ScheduledCall | CallStatus)
