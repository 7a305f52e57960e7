"""What goes over the wire is what the document says, by the account of a server of our own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx
import pytest
import respx
from attrs import define, field
from servers import Peer, RawServer, Received, raw_reply

from innocalls_async import AsyncBridgeClient, BridgeRequest, CallState, LegState
from innocalls_async.transport import fast_transport
from innocalls_async.wire import BodyFormat

pytestmark = pytest.mark.anyio

TOKEN = "ds76sd76XXXXXXXXXXXXXXXXXXXXXXXX"
FLOW = "XXXXXXXXXXXXXXXXX"
CALL_ID = "f2281763-e58a-4817-bc34-4b120c230cfbas"
CAIRO = ZoneInfo("Africa/Cairo")
REQUEST = BridgeRequest(
    FLOW,
    "+20 112 345 6789",
    "first name",
    "0020 112 345 6780",
    " second name",
    2,
    call_time=datetime(2020, 4, 23, 0, 57, tzinfo=CAIRO),
)

# Word for word from the API document.
CREATED = """{
"status": 200,
"success": true,
"data": {
"call_id": "f2281763-e58a-4817-bc34-4b120c230cfbas"
}
}"""
STATUS = """{
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
UPDATED = """{
"status": 200,
"success": true,
"data": {
"message": "Call updated successfully"
}
}"""
DELETED = """{
"status": 200,
"success": true,
"data": {
"message": "Call deleted successfully"
}
}"""

FORM_OF_THE_SAMPLE = {
    "call_flow_id": FLOW,
    "first_callee_number": "201123456789",
    "first_callee_name": "first name",
    "second_callee_number": "201123456780",
    "second_callee_name": " second name",
    "call_time": "2020-04-23 00:57:00",
    "duration": "2",
}


def reply_of_the_document(request: Received) -> str:
    """The document's sample for the request's method and path."""
    if request.method == "GET":
        return STATUS if "/call/status?" in request.target else '{"status": 200, "success": true}'
    return {"POST": CREATED, "PUT": UPDATED, "DELETE": DELETED}[request.method]


@define
class Rig:
    """A client, and what the service behind it received."""

    received: list[Received]
    options: dict[str, Any]
    stack: AsyncExitStack = field(factory=AsyncExitStack)

    async def client(self, **options: Any) -> AsyncBridgeClient:
        client = AsyncBridgeClient(TOKEN, limiter=None, retry=None, **(self.options | options))
        return await self.stack.enter_async_context(client)


Lane: TypeAlias = Callable[[], Any]


@asynccontextmanager
async def over_a_socket(**options: Any) -> AsyncIterator[Rig]:
    async def answer(peer: Peer, request: Received) -> None:
        await peer.send(raw_reply(200, reply_of_the_document(request).encode()))

    with RawServer(answer) as server:
        rig = Rig(server.received, {"base_url": server.url, **options})
        async with rig.stack:
            yield rig


@asynccontextmanager
async def over_a_clients_client() -> AsyncIterator[Rig]:
    async with httpx.AsyncClient(trust_env=False) as http, over_a_socket(http_client=http) as rig:
        yield rig
        assert not http.is_closed


def handler_into(received: list[Received]) -> Callable[[httpx.Request], httpx.Response]:
    def handle(request: httpx.Request) -> httpx.Response:
        headers = [(name.decode(), value.decode()) for name, value in request.headers.raw]
        target = request.url.raw_path.decode()
        received.append(Received(request.method, target, headers, request.content, 0.0, 0))
        return httpx.Response(200, text=reply_of_the_document(received[-1]))

    return handle


@asynccontextmanager
async def over_a_mock() -> AsyncIterator[Rig]:
    received: list[Received] = []
    transport = httpx.MockTransport(handler_into(received))
    rig = Rig(received, {"base_url": "https://service.example/api/v1", "transport": transport})
    async with rig.stack:
        yield rig


@asynccontextmanager
async def over_respx() -> AsyncIterator[Rig]:
    received: list[Received] = []
    with respx.mock(base_url="https://service.example", assert_all_called=False) as router:
        router.route().mock(side_effect=handler_into(received))
        rig = Rig(received, {"base_url": "https://service.example/api/v1"})
        async with rig.stack:
            yield rig


@asynccontextmanager
async def over_asgi() -> AsyncIterator[Rig]:
    received: list[Received] = []

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        target = scope["raw_path"].decode()
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode()
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        received.append(Received(scope["method"], target, headers, body, 0.0, 0))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        reply = reply_of_the_document(received[-1]).encode()
        await send({"type": "http.response.body", "body": reply})

    transport = httpx.ASGITransport(app)
    rig = Rig(received, {"base_url": "http://localhost/api/v1", "transport": transport})
    async with rig.stack:
        yield rig


LANES: dict[str, Lane] = {
    "default": over_a_socket,
    "httpx": lambda: over_a_socket(transport=httpx.AsyncHTTPTransport(trust_env=False)),
    "http_client": over_a_clients_client,
    "mock": over_a_mock,
    "respx": over_respx,
    "asgi": over_asgi,
    "fast": lambda: over_a_socket(transport=fast_transport()),
}
BOTH_LOOPS = [(name, loop) for name in LANES for loop in ("asyncio", "trio")]


@pytest.fixture(params=[pair for pair in BOTH_LOOPS if pair != ("fast", "trio")], ids="-".join)
def lane(request: pytest.FixtureRequest) -> tuple[str, str]:
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
def anyio_backend(lane: tuple[str, str]) -> str:
    return lane[1]


@pytest.fixture
def rig(lane: tuple[str, str]) -> Any:
    return LANES[lane[0]]


BODY_FORMATS: list[BodyFormat] = ["multipart", "urlencoded"]
body_formats = pytest.mark.parametrize("body_format", BODY_FORMATS)


def check_headers(request: Received, content_type: str | None) -> None:
    assert request.header("Authorization") == f"Bearer {TOKEN}"
    assert request.header("Accept") == "application/json"
    assert request.header("Accept-Encoding") == "identity"
    assert request.header("Host") in {"service.example", "localhost"} or (
        request.header("Host") or ""
    ).startswith("127.0.0.1:")
    said = request.header("Content-Type")
    assert said == content_type or (said or "").startswith(f"{content_type}; boundary=")
    assert request.header("Cookie") is None
    if request.body:
        assert request.header("Content-Length") == str(len(request.body))


def content_type_of(body_format: BodyFormat) -> str:
    if body_format == "multipart":
        return "multipart/form-data"
    return "application/x-www-form-urlencoded"


@body_formats
async def test_create(rig: Lane, body_format: BodyFormat) -> None:
    """A create is POST /call/bridge with the document's fields, and gives the reply's call id."""
    async with rig() as rig_:
        client = await rig_.client(body_format=body_format)
        call = await client.bridge(REQUEST)
        assert call.call_id == CALL_ID
        assert call.request == REQUEST
        (request,) = rig_.received
        assert (request.method, request.target) == ("POST", "/api/v1/call/bridge")
        check_headers(request, content_type_of(body_format))
        assert dict(request.form) == FORM_OF_THE_SAMPLE
        assert len(request.form) == 7


@body_formats
async def test_create_now(rig: Lane, body_format: BodyFormat) -> None:
    """A create without a time sends no call_time at all."""
    now = BridgeRequest(FLOW, "201123456789", "a", "201123456780", "b", 1)
    async with rig() as rig_:
        await (await rig_.client(body_format=body_format)).bridge(now)
        assert [name for name, _ in rig_.received[0].form] == [
            "call_flow_id",
            "first_callee_number",
            "first_callee_name",
            "second_callee_number",
            "second_callee_name",
            "duration",
        ]


@body_formats
async def test_edit(rig: Lane, body_format: BodyFormat) -> None:
    """An edit is PUT /call/bridge/{call_uuid} with all seven fields."""
    async with rig() as rig_:
        await (await rig_.client(body_format=body_format)).edit(CALL_ID, REQUEST)
        (request,) = rig_.received
        assert (request.method, request.target) == ("PUT", f"/api/v1/call/bridge/{CALL_ID}")
        check_headers(request, content_type_of(body_format))
        assert dict(request.form) == FORM_OF_THE_SAMPLE


async def test_status(rig: Lane) -> None:
    """A status is GET /call/status with both ids in the query, and never goes to the path that
    dials; the sample reply is read whole."""
    async with rig() as rig_:
        status = await (await rig_.client()).status(CALL_ID, FLOW)
        (request,) = rig_.received
        assert (request.method, request.target.partition("?")[0]) == ("GET", "/api/v1/call/status")
        assert request.query == [("call_id", CALL_ID), ("call_flow_id", FLOW)]
        assert request.body == b""
        check_headers(request, None)
    assert status.scheduled_date_time == datetime(2020, 4, 23, 10, 31, 47, tzinfo=CAIRO)
    assert status.scheduled_date_time == datetime(2020, 4, 23, 8, 31, 47, tzinfo=UTC)
    assert status.actual_date_time == status.scheduled_date_time
    assert status.call_duration == timedelta(minutes=5)
    assert status.caller_id == "XXXXXXX"
    assert (status.first_recipient_name, status.first_recipient_number) == ("ahmed", "2010XXXXX")
    assert status.first_recipient_status is LegState.ANSWERED
    assert (status.second_recipient_name, status.second_recipient_number) == ("kand", "13456")
    assert status.second_recipient_status is LegState.NOT_ANSWERED
    assert status.call_status is CallState.FAILED
    assert status.call_id == CALL_ID
    assert status.is_final
    assert status.raw == json.loads(STATUS)["data"]["callStatus"]


async def test_delete(rig: Lane) -> None:
    """A delete is DELETE /call/bridge/{call_uuid} with neither query nor body."""
    async with rig() as rig_:
        await (await rig_.client()).delete(CALL_ID)
        (request,) = rig_.received
        assert (request.method, request.target) == ("DELETE", f"/api/v1/call/bridge/{CALL_ID}")
        assert request.body == b""
        check_headers(request, None)


async def test_authorize(rig: Lane) -> None:
    """Authorize is GET / with the content type of the document's sample."""
    async with rig() as rig_:
        await (await rig_.client()).authorize()
        (request,) = rig_.received
        assert (request.method, request.target) == ("GET", "/api/v1/")
        assert request.body == b""
        check_headers(request, "application/x-www-form-urlencoded")


TEXTS = [
    "أحمد عبد الله",
    'say "hi" & it\'s 50% + 1=2; \\ ok',
    "line\r\nX-Evil: 1\r\n\r\nGET / HTTP/1.1",
    "😀 👩‍👩‍👧 \u202eright to left",
    '"; filename="x.php',
    "--boundary--\r\n--",
    "tab\tand nul \x00 and \x7f",
    "a\nb",
    "trailing line end\r\n",
    "é\u0301 combining",
]


@body_formats
async def test_text_arrives_as_it_was(rig: Lane, body_format: BodyFormat) -> None:
    """Text that needs escaping arrives unchanged, and adds neither a field nor a header."""
    async with rig() as rig_:
        client = await rig_.client(body_format=body_format)
        for text in TEXTS:
            await client.bridge(BridgeRequest(text, "201123456789", text, "201123456780", text, 1))
        for text, request in zip(TEXTS, rig_.received, strict=True):
            form = dict(request.form)
            assert form["call_flow_id"] == form["first_callee_name"] == text
            assert form["second_callee_name"] == text
            assert len(request.form) == 6
            assert request.header("X-Evil") is None


IDS = [
    "a/b",
    "../../admin",
    "..",
    "a?b=c&d",
    "a#b",
    "100%",
    "%2e%2e%2f",
    "two words",
    "crlf\r\nX-Evil: 1",
    "أحمد",
    "a;b,c:d@e",
    "\\..\\x",
    "\x00",
    "+",
]


async def test_ids_are_one_path_segment(rig: Lane) -> None:
    """Whatever an id holds, it is one segment of the path and one value of the query; what cannot
    be is refused before anything is sent."""
    async with rig() as rig_:
        client = await rig_.client()
        for call_id in IDS:
            if call_id == "..":
                with pytest.raises(ValueError, match="call_id"):
                    await client.delete(call_id)
                continue
            await client.delete(call_id)
            await client.edit(call_id, REQUEST)
            await client.status(call_id, call_id)
            *calls, status = rig_.received[-3:]
            for request in calls:
                assert request.segments == ["api", "v1", "call", "bridge", call_id]
                assert request.target == "/api/v1/call/bridge/" + quote(call_id, safe="")
            assert status.query == [("call_id", call_id), ("call_flow_id", call_id)]
            assert all(request.header("X-Evil") is None for request in rig_.received)
        assert len(rig_.received) == 3 * (len(IDS) - 1)


async def test_a_base_url_with_another_path_is_kept(rig: Lane) -> None:
    """The operations are below the base URL's own path, with or without its last slash."""
    async with rig() as rig_:
        for ending in ("", "/"):
            base_url = rig_.options.get("base_url", "").replace("/api/v1", "/proxy/x") + ending
            client = await rig_.client(base_url=base_url)
            await client.authorize()
            await client.delete("1")
        assert [request.target for request in rig_.received] == [
            "/proxy/x/",
            "/proxy/x/call/bridge/1",
        ] * 2


over_http_clients = pytest.mark.parametrize(
    "lane", [("http_client", "asyncio"), ("http_client", "trio")], indirect=True, ids="-".join
)


async def read_and_log(response: httpx.Response) -> None:
    await response.aread()


@over_http_clients
async def test_an_http_client_whose_hook_reads_the_reply() -> None:
    """A caller's response hook that reads the body, as httpx's own example does, costs nothing."""
    hooks = {"response": [read_and_log]}
    async with (
        httpx.AsyncClient(trust_env=False, event_hooks=hooks) as http,
        over_a_socket(http_client=http) as rig,
    ):
        client = await rig.client()
        assert (await client.bridge(REQUEST)).call_id == CALL_ID
        assert (await client.status(CALL_ID, FLOW)).call_id == CALL_ID


@over_http_clients
async def test_an_http_client_of_its_own_habits() -> None:
    """A caller's client with auth, cookies, headers, a base URL and redirects of its own sends
    our request and nothing of these."""
    async with (
        httpx.AsyncClient(
            trust_env=False,
            auth=("user", "password"),
            cookies={"session": "1"},
            headers={"X-Mine": "1", "Authorization": "Basic x"},
            params={"extra": "1"},
            base_url="http://elsewhere.invalid",
            follow_redirects=True,
        ) as http,
        over_a_socket(http_client=http) as rig,
    ):
        await (await rig.client()).bridge(REQUEST)
        (request,) = rig.received
        check_headers(request, "multipart/form-data")
        assert request.target == "/api/v1/call/bridge"
        assert request.header("X-Mine") is None
