"""The sandbox follows the API document, in each profile, on asyncio and on trio."""

from __future__ import annotations

import math
from typing import Any

import attrs
import httpx
import pytest

from innocalls_async.sandbox import PROFILES, Sandbox

pytestmark = pytest.mark.anyio

FORM = {
    "call_flow_id": "5f0c1d2e3a4b5c6d7e8f9a0b",
    "first_callee_number": "201123456789",
    "first_callee_name": "Ahmed",
    "second_callee_number": "201098765432",
    "second_callee_name": "منى",
    "duration": "5",
}
EDIT = FORM | {"call_time": "2040-04-23 10:31:47"}
UNKNOWN = {"call_id": "none-such", "call_flow_id": FORM["call_flow_id"]}


def connect(
    sandbox: Sandbox, *, auth: str = "Bearer t", accept: str = "application/json"
) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=sandbox.transport(),
        base_url="http://127.0.0.1/api/v1",
        headers={"Authorization": auth, "Accept": accept},
    )


async def create(client: httpx.AsyncClient, **changes: str) -> str:
    reply = await client.post("/call/bridge", data=FORM | changes)
    assert reply.status_code == 200, reply.text
    call_id = reply.json()["data"]["call_id"]
    assert isinstance(call_id, str)
    return call_id


async def ask(client: httpx.AsyncClient, call_id: str) -> httpx.Response:
    return await client.get("/call/status", params=UNKNOWN | {"call_id": call_id})


@attrs.define
class FakeClock:
    """Monotonic seconds that only a test moves."""

    seconds: float = 100.0

    def __call__(self) -> float:
        return self.seconds


class TestOperations:
    async def test_authorize(self) -> None:
        """Authorize answers the document's envelope, with and without the last slash."""
        async with connect(Sandbox()) as client:
            for url in ("", "/"):
                reply = await client.get(url)
                assert reply.status_code == 200
                assert reply.json() | {"data": {}} == {"status": 200, "success": True, "data": {}}

    @pytest.mark.parametrize("form_as", ["multipart", "urlencoded"])
    async def test_create(self, form_as: str) -> None:
        """A create of either form type answers an id and is on the books as it was sent."""
        sandbox = Sandbox()
        fields: Any = {name: (None, value) for name, value in FORM.items()}
        body: Any = {"files": fields} if form_as == "multipart" else {"data": FORM}
        async with connect(sandbox) as client:
            reply = await client.post("/call/bridge", **body)
        (record,) = sandbox.account.calls.values()
        assert reply.json() == {
            "status": 200,
            "success": True,
            "data": {"call_id": record.call_id},
        }
        assert record.form.second_callee_name == "منى"
        assert record.pair == ("201123456789", "201098765432")

    async def test_status_has_the_documents_twelve_fields(self) -> None:
        """A status has the names, the order and the formats of the document's sample."""
        async with connect(Sandbox()) as client:
            call_id = await create(client, call_time="2040-04-23 10:31:47")
            reply = await ask(client, call_id)
        assert list(reply.json()["data"]["callStatus"].items()) == [
            ("scheduledDateTime", "2040-04-23 10:31:47"),
            ("actualDateTime", None),
            ("callDuration", "5 Minutes"),
            ("callerId", "20235550100"),
            ("firstRecipientName", "Ahmed"),
            ("firstRecipientNumber", "201123456789"),
            ("firstRecipientStatus", "not_sent"),
            ("secondRecipientName", "منى"),
            ("secondRecipientNumber", "201098765432"),
            ("secondRecipientStatus", "not_sent"),
            ("callStatus", "pending"),
            ("callId", call_id),
        ]

    async def test_edit_replaces_every_field(self) -> None:
        """An edit answers the document's message and replaces the call's fields."""
        sandbox = Sandbox()
        async with connect(sandbox) as client:
            call_id = await create(client)
            change = EDIT | {"first_callee_name": "Omar", "duration": "7"}
            reply = await client.put(f"/call/bridge/{call_id}", data=change)
            status = (await ask(client, call_id)).json()["data"]["callStatus"]
        assert reply.json()["data"] == {"message": "Call updated successfully"}
        assert status["firstRecipientName"] == "Omar"
        assert status["callDuration"] == "7 Minutes"
        assert status["scheduledDateTime"] == EDIT["call_time"]

    async def test_a_deleted_call_stays_listed_and_is_gone(self) -> None:
        """A deleted call's status says so, and editing or deleting it again is a 410."""
        async with connect(Sandbox()) as client:
            call_id = await create(client)
            reply = await client.delete(f"/call/bridge/{call_id}")
            again = await client.delete(f"/call/bridge/{call_id}")
            edit = await client.put(f"/call/bridge/{call_id}", data=EDIT)
            status = await ask(client, call_id)
        assert reply.json()["data"] == {"message": "Call deleted successfully"}
        assert (again.status_code, edit.status_code) == (410, 410)
        assert status.json()["data"]["callStatus"]["callStatus"] == "deleted"

    async def test_an_id_is_one_path_segment(self) -> None:
        """An id with an encoded slash is an unknown call, and a bare slash is no path at all."""
        sandbox = Sandbox()
        async with connect(sandbox) as client:
            encoded = await client.delete("/call/bridge/..%2Fstatus")
            bare = await client.delete("/call/bridge/a/b")
        assert (encoded.status_code, bare.status_code) == (404, 404)
        assert sandbox.account.operations == {"delete": 1, "other": 1}


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "url", "status"),
        [
            ("GET", "/kitten", 404),
            ("GET", "http://127.0.0.1/api/v2/", 404),
            ("GET", "/call/bridge", 405),
            ("POST", "/call/status", 405),
            ("GET", "/call/bridge/x", 405),
            ("DELETE", "/call/bridge/x", 404),
            ("PUT", "/call/bridge/x", 404),
            ("POST", "/call/bridge", 400),
            ("GET", "/call/status", 400),
        ],
    )
    async def test_seed_wording(self, method: str, url: str, status: int) -> None:
        """The seed profile words each error as status, success and message, nothing else."""
        async with connect(Sandbox()) as client:
            reply = await client.request(method, url)
        assert reply.status_code == status
        assert reply.json() | {"message": ""} == {
            "status": status,
            "success": False,
            "message": "",
        }
        assert ("allow" in reply.headers) == (status == 405)

    @pytest.mark.parametrize("profile", PROFILES)
    async def test_a_base_url_without_its_path_is_told(self, profile: Any) -> None:
        """Who forgot the path of the API's address reads what it is."""
        async with connect(Sandbox(profile=profile)) as client:
            reply = await client.get("http://127.0.0.1/call/status")
        assert "the base URL ends in /api/v1" in reply.text

    async def test_status_of_another_flow(self) -> None:
        """A call is not found under another flow's id."""
        async with connect(Sandbox()) as client:
            call_id = await create(client)
            other = {"call_id": call_id, "call_flow_id": "other"}
            assert (await client.get("/call/status", params=other)).status_code == 404

    @pytest.mark.parametrize(
        ("authorization", "status"),
        [("Bearer right", 200), ("bearer right", 200), ("Bearer wrong", 401), ("right", 401)],
    )
    async def test_one_token(self, authorization: str, status: int) -> None:
        """With a token set, only that bearer token is accepted."""
        async with connect(Sandbox(token="right")) as client:
            reply = await client.get("/", headers={"Authorization": authorization})
        assert reply.status_code == status

    async def test_no_token(self) -> None:
        """Without a token set, any bearer token is accepted but not an empty one."""
        async with connect(Sandbox()) as client:
            assert (await client.get("/", headers={"Authorization": ""})).status_code == 401
            assert (await client.get("/")).status_code == 200

    @pytest.mark.parametrize(
        ("accept", "status"),
        [
            ("text/html", 406),
            ("", 200),
            ("application/json;q=0", 406),
            ("*/*", 200),
            ("text/*, */*", 200),
        ],
    )
    async def test_not_acceptable(self, accept: str, status: int) -> None:
        """The document's 406 answers an Accept that leaves no room for JSON."""
        async with connect(Sandbox(), accept=accept) as client:
            assert (await client.get("/")).status_code == status


class TestValidation:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("call_flow_id", " "),
            ("first_callee_number", "123456"),
            ("first_callee_number", "+201123456789"),
            ("first_callee_number", "1" * 16),
            ("first_callee_number", "٢٠١١٢٣٤٥٦٧٨٩"),
            ("second_callee_number", FORM["first_callee_number"]),
            ("first_callee_name", ""),
            ("second_callee_name", "n" * 251),
            ("duration", "0"),
            ("duration", "1.5"),
            ("duration", "-1"),
            ("duration", "9" * 5000),
            ("call_time", "2030-04-23T10:31:47"),
            ("call_time", "2030-4-23 1:31:47"),
            ("call_time", "2030-02-30 10:31:47"),
            ("call_time", "0001-01-01 00:00:00"),
        ],
    )
    async def test_bad_field(self, field: str, value: str) -> None:
        """A bad field is refused by name, and nothing is on the books."""
        sandbox = Sandbox(profile="laravel")
        async with connect(sandbox) as client:
            reply = await client.post("/call/bridge", data=FORM | {field: value})
        assert reply.status_code == 422
        assert list(reply.json()["errors"]) == [field]
        assert sandbox.account.created == 0

    @pytest.mark.parametrize("field", list(EDIT))
    async def test_edit_requires_every_field(self, field: str) -> None:
        """An edit without one of its seven fields is refused."""
        async with connect(Sandbox(profile="laravel")) as client:
            call_id = await create(client)
            fields = {name: value for name, value in EDIT.items() if name != field}
            reply = await client.put(f"/call/bridge/{call_id}", data=fields)
        assert list(reply.json()["errors"]) == [field]

    async def test_lenient_edges(self) -> None:
        """Spaces are trimmed, a name may be one character, and the last of two fields counts."""
        sandbox = Sandbox()
        async with connect(sandbox) as client:
            await create(client, first_callee_name=" A ", duration=" 5", call_time=" ")
            body = "duration=1&" + str(httpx.QueryParams(FORM))
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            await client.post("/call/bridge", content=body, headers=kind)
        first, second = sandbox.account.calls.values()
        assert (first.form.first_callee_name, first.form.call_time) == ("A", None)
        assert second.form.duration == 5

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("application/json", b"{}"),
            ("text/plain", b"x"),
            ("multipart/form-data", b"--x--"),
            ("multipart/form-data; boundary=x", b"--y\r\n\r\n--y--"),
            ("multipart/form-data; boundary=x", b"--x\r\n"),
            ("multipart/form-data; boundary=x", b"--x\r\nno: name\r\n\r\n1\r\n--x--\r\n"),
            ("application/x-www-form-urlencoded", "é".encode()),
        ],
    )
    async def test_a_body_that_is_no_form(self, content_type: str, body: bytes) -> None:
        """A body that is not a form is a 400."""
        async with connect(Sandbox()) as client:
            kind = {"Content-Type": content_type}
            reply = await client.post("/call/bridge", content=body, headers=kind)
        assert reply.status_code == 400

    async def test_the_farthest_times(self) -> None:
        """The first and the last times that are accepted can be read back in any zone."""
        for zone in ("Africa/Cairo", "Pacific/Kiritimati", "Pacific/Pago_Pago"):
            async with connect(Sandbox(timezone=zone)) as client:
                for when in ("0002-01-01 00:00:00", "9998-12-31 23:59:59"):
                    status = await ask(client, await create(client, call_time=when))
                    assert status.json()["data"]["callStatus"]["scheduledDateTime"] == when


class TestLaravel:
    async def test_json_errors(self) -> None:
        """To a client that wants JSON, Laravel's errors are a message and the fields' errors."""
        async with connect(Sandbox(profile="laravel", token="right")) as client:
            unknown = await client.get("/call/status")
            bad = {"Authorization": "Bearer right"}
            invalid = await client.post("/call/bridge", data={"duration": "x"}, headers=bad)
        assert (unknown.status_code, unknown.json()) == (401, {"message": "Unauthenticated."})
        assert invalid.status_code == 422
        assert set(invalid.json()) == {"message", "errors"}
        assert invalid.json()["message"].endswith("field is required. (and 5 more errors)")
        assert len(invalid.json()["errors"]) == 6

    @pytest.mark.parametrize(
        ("method", "url", "token", "status", "location"),
        [
            ("POST", "/call/bridge", "right", 302, "/"),
            ("GET", "/", "wrong", 302, "/login"),
            ("GET", "/kitten", "right", 404, None),
            ("GET", "/call/bridge", "right", 405, None),
        ],
    )
    async def test_other_clients_get_pages(
        self, method: str, url: str, token: str, status: int, location: str | None
    ) -> None:
        """To a client that accepts anything, bad input is a redirect and an error a page."""
        sandbox = Sandbox(profile="laravel", token="right")
        async with connect(sandbox, auth=f"Bearer {token}", accept="*/*") as client:
            reply = await client.request(method, url)
        assert (reply.status_code, reply.headers.get("location")) == (status, location)
        assert reply.headers["content-type"].startswith("text/html")

    async def test_server_error(self) -> None:
        """A 500 is Laravel's own message, and a 502 the page of the proxy before it."""
        async with connect(Sandbox(profile="laravel", script=["500", "502"])) as client:
            server_error, bad_gateway = await client.get("/"), await client.get("/")
        assert server_error.json() == {"message": "Server Error"}
        assert "502 Bad Gateway" in bad_gateway.text


async def test_envelope200_says_errors_in_a_200() -> None:
    """In profile envelope200 an error is an HTTP 200 whose body has the status."""
    async with connect(Sandbox(profile="envelope200", token="right")) as client:
        for headers, status in (({}, 401), ({"Authorization": "Bearer right"}, 400)):
            reply = await client.post("/call/bridge", headers=headers)
            assert (reply.status_code, reply.json()["status"]) == (200, status)
            assert reply.json()["success"] is False


class TestLimit:
    async def test_no_window_holds_more_than_the_rate(self) -> None:
        """Of steady requests at three times the rate, no window lets more than the rate pass."""
        clock = FakeClock()
        passed: list[float] = []
        async with connect(Sandbox(rate=5, per=2.0, clock=clock)) as client:
            for _ in range(60):
                if (await client.get("/")).status_code == 200:
                    passed.append(clock.seconds)
                clock.seconds += 0.13
        assert len(passed) > 15
        pairs = zip(passed, passed[5:], strict=False)
        assert all(later - earlier >= 2.0 - 1e-9 for earlier, later in pairs)

    async def test_a_429_says_when(self) -> None:
        """A 429 has a Retry-After, whole and rounded up, after which a request passes."""
        clock = FakeClock()
        sandbox = Sandbox(rate=1, per=2.5, clock=clock)
        async with connect(sandbox) as client:
            ok, refused = await client.get("/"), await client.get("/")
            clock.seconds += 2.5
            after = await client.get("/")
        assert [ok.status_code, refused.status_code, after.status_code] == [200, 429, 200]
        assert refused.headers["retry-after"] == "3"
        assert not [name for name in refused.headers if name.startswith("x-ratelimit")]
        account = sandbox.account
        assert (account.accepted, account.rejected, account.highest_window) == (2, 1, 2)

    async def test_laravel_shows_its_limit(self) -> None:
        """Laravel shows limit and remaining on every reply, and the reset on a 429."""
        async with connect(Sandbox(profile="laravel", rate=2, clock=FakeClock())) as client:
            first, error, refused = [await client.get(url) for url in ("/", "/kitten", "/")]
        assert [r.headers["x-ratelimit-remaining"] for r in (first, error, refused)] == [*"100"]
        assert {r.headers["x-ratelimit-limit"] for r in (first, error, refused)} == {"2"}
        assert refused.json() == {"message": "Too Many Attempts."}
        assert refused.headers["x-ratelimit-reset"].isdigit()
        assert "x-ratelimit-reset" not in first.headers


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"profile": "django"}, "unknown profile 'django'"),
        ({"rate": 0}, "rate must be"),
        ({"rate": 1.5}, "rate must be"),
        ({"per": 0}, "per must be"),
        ({"speed": -1}, "speed must be"),
        ({"stall_seconds": math.nan}, "stall_seconds must be"),
        ({"timezone": "Egypt/Nowhere"}, "timezone: 'Egypt/Nowhere' is no IANA time zone"),
        ({"faults": {"meteor": 0.1}}, "unknown fault 'meteor'; the faults are 400, "),
        ({"faults": {"503": 1.5}}, "'503' must be 0 to 1"),
        ({"faults": {"503": math.nan}}, "'503' must be 0 to 1"),
        ({"faults": {"503": 0.6, "drop": 0.5}}, r"sum to 1\.1"),
        ({"script": ["meteor"]}, "unknown fault"),
    ],
)
def test_bad_options(options: dict[str, Any], error: str) -> None:
    """An option that makes no sense is a ValueError that says why."""
    with pytest.raises(ValueError, match=error):
        Sandbox(**options)


def test_repr_has_no_token() -> None:
    """A sandbox's repr tells its options and not its token."""
    assert "seed" in repr(Sandbox(token="secret"))
    assert "secret" not in repr(Sandbox(token="secret"))
    assert set(PROFILES) == {"seed", "laravel", "envelope200"}
