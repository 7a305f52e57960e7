"""No token and no whole number in anything that a person, a log or a pickle can come to see."""

from __future__ import annotations

import asyncio
import html
import json
import logging
import pickle
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from attrs import define, field
from servers import Peer, RawServer, Received, Script, black_hole, raw_reply, unused_port

from innocalls_async import (
    AsyncBridgeClient,
    BridgeRequest,
    InnoCallsError,
    RetryPolicy,
    Scheduled,
)
from innocalls_async.events import Event
from innocalls_async.transport import fast_transport

pytestmark = pytest.mark.anyio

# Every character that a token may hold and an encoder may escape.
TOKEN = """12|cAnArY/t0ken+Zz9==.~'"\\q"""
FIRST, SECOND = "201158230467", "966509417735"
REQUEST = BridgeRequest("flow", FIRST, "Ahmed", SECOND, "Mona", 2)


def shapes_of_the_token() -> list[str]:
    """The token as JSON, PHP's JSON, a Python repr and plain text write it."""
    in_json = json.dumps(TOKEN)[1:-1]
    return [
        TOKEN,
        in_json,
        in_json.replace("/", "\\/"),
        repr(TOKEN)[1:-1],
        repr(TOKEN.encode())[2:-1],
        html.escape(TOKEN),
        urllib.parse.quote(TOKEN, safe=""),
    ]


CANARIES = [
    *shapes_of_the_token(),
    "cAnArY",
    "12|cAn",
    "canary",
    FIRST,
    SECOND,
    FIRST[:-3],
    SECOND[:-3],
]


class Collector(logging.Handler):
    """Keeps every record of every logger, as text and in its parts."""

    def __init__(self) -> None:
        super().__init__(level=1)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts += [self.format(record), repr(record.msg), repr(record.args), repr(record)]
        if record.exc_info:
            self.texts += traceback.format_exception(*record.exc_info)


@pytest.fixture
def logs() -> Iterator[Collector]:
    """Everything at every level: the root's and that of each logger there is."""
    collector, levels = Collector(), {}
    names = ["httpx", "httpcore", "httpcore.http11", "httpcore.connection", "innocalls_async"]
    loggers = [logging.getLogger(), *map(logging.getLogger, names)]
    for logger in loggers:
        levels[logger] = logger.level
        logger.setLevel(1)
    logging.getLogger().addHandler(collector)
    yield collector
    logging.getLogger().removeHandler(collector)
    for logger, level in levels.items():
        logger.setLevel(level)


@define
class Shown:
    """All the texts that came of some operations."""

    texts: list[str] = field(factory=list, repr=False)

    def add(self, thing: object) -> None:
        self.texts += [repr(thing), str(thing), f"{thing}"]

    def add_error(self, error: BaseException, *, with_variables: bool = True) -> None:
        """`with_variables`: those of each frame, as error trackers and debuggers show them."""
        self.add(error)
        seen = traceback.TracebackException.from_exception(error, capture_locals=with_variables)
        self.texts += seen.format()
        for link in (error, error.__cause__, error.__context__, getattr(error, "cause", None)):
            if link is not None:
                self.add(link)
                self.texts.append(repr({**link.__dict__, "args": link.args}))
        for protocol in (0, pickle.HIGHEST_PROTOCOL):
            pickled = pickle.dumps(error, protocol)
            self.texts.append(pickled.decode("latin-1"))
            loaded = pickle.loads(pickled)  # noqa: S301 - ours
            assert type(loaded) is type(error)
            assert str(loaded) == str(error)
            self.texts.append(repr(loaded.__dict__))

    def check(self) -> None:
        everything = "\n".join(self.texts)
        for canary in CANARIES:
            found = everything.find(canary)
            around = everything[max(0, found - 100) : found + 100]
            assert found < 0, f"{canary!r} in ...{around!r}"


def echo(status: int, content_type: str = "application/json") -> Script:
    """A hostile server: it repeats all it was sent, in every place and in several encodings."""

    async def script(peer: Peer, request: Received) -> None:
        numbers = [FIRST, SECOND, f"+{FIRST}", f"tel:{SECOND}"]
        if is_form := FIRST.encode() in request.body:
            # Digits inside words stay where the request held no number: they are a call's id.
            numbers += [f"call_{FIRST}", f"x{SECOND}y", f"{FIRST}-{SECOND}"]
        what = [TOKEN, f"Bearer {TOKEN}", *numbers, request.body.decode(), request.target]
        in_json = json.dumps(
            {
                "status": status,
                "success": False,
                "message": f"{'x' * 440} no {TOKEN} for {FIRST} and {SECOND}",
                "error": what,
                "errors": {FIRST: what, TOKEN: what, "first_callee_number": [f"bad {FIRST}"]},
            }
        ).replace("/", "\\/")
        body = in_json if "json" in content_type else " ".join(what)
        headers = {
            "Content-Type": content_type,
            "X-Echo": f"{TOKEN} {FIRST}",
            "X-Request-Id": f"{FIRST} {TOKEN}",
            "X-Long": "x" * 480 + TOKEN,
            "Location": f"https://evil.invalid/?token={TOKEN}&number={FIRST}",
            "Set-Cookie": f"token={TOKEN}",
            "WWW-Authenticate": f'Bearer realm="{TOKEN}"',
            "Retry-After": "0",
            f"X-{FIRST if is_form else 0}": "1",
            "X-Html": html.escape(TOKEN),
            "X-Url": urllib.parse.quote(TOKEN, safe=""),
            "Content-Length": str(len(body.encode())),
        }
        await peer.send(raw_reply(status, body.encode(), headers, f"No {TOKEN} {FIRST}"))

    return script


async def echoes_as_a_broken_head(peer: Peer, request: Received) -> None:
    await peer.send(f"HTTP/1.1 200 OK\r\n{TOKEN} {FIRST}: x\r\n\r\n".encode())


async def echoes_as_a_status_line(peer: Peer, request: Received) -> None:
    await peer.send(f"{TOKEN} {FIRST} {SECOND}\r\n\r\n".encode())


async def echoes_as_a_chunk(peer: Peer, request: Received) -> None:
    head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    await peer.send(f"{head}{TOKEN} {FIRST}\r\n".encode())


async def echoes_as_a_length(peer: Peer, request: Received) -> None:
    await peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {TOKEN} {FIRST}\r\n\r\n".encode())


async def hangs_up(peer: Peer, request: Received) -> None:
    peer.close()


async def says_nothing(peer: Peer, request: Received) -> None:
    await asyncio.sleep(60)


SCRIPTS: dict[str, Script] = {
    **{str(code): echo(code) for code in (200, 301, 400, 401, 404, 422, 429, 500, 502, 503)},
    "400 as text": echo(400, "text/plain"),
    "422 as text": echo(422, "text/plain"),
    "500 as a web page": echo(500, "text/html"),
    "200 as text": echo(200, "text/plain"),
    "broken head": echoes_as_a_broken_head,
    "status line": echoes_as_a_status_line,
    "chunk": echoes_as_a_chunk,
    "length": echoes_as_a_length,
    "hung up": hangs_up,
    "nothing": says_nothing,
}

LANES: dict[str, Callable[[], dict[str, Any]]] = {
    "default": dict,
    "http_client": lambda: {"http_client": httpx.AsyncClient(trust_env=False)},
    "fast": lambda: {"transport": fast_transport()},
}


@pytest.fixture(
    params=[
        "default-asyncio",
        "default-trio",
        "http_client-asyncio",
        "fast-asyncio",
    ]
)
def lane(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def anyio_backend(lane: str) -> str:
    return lane.rpartition("-")[2]


async def carry_out_everything(url: str, lane: str, shown: Shown) -> None:
    options = LANES[lane.partition("-")[0]]()
    events: list[Event] = []
    async with AsyncBridgeClient(
        TOKEN,
        base_url=url,
        limiter=None,
        retry=RetryPolicy(attempts=2, initial=0, maximum=0, max_retry_after=0.05),
        timeout=0.1,
        on_event=events.append,
        **options,
    ) as client:
        shown.add(client)
        at = BridgeRequest(
            "flow", FIRST, "A", SECOND, "B", 1, call_time=datetime(2030, 1, 1, tzinfo=UTC)
        )
        for operation in (
            lambda: client.bridge(REQUEST),
            lambda: client.edit("id", at),
            lambda: client.delete("id"),
            lambda: client.status("id", "flow"),
            client.authorize,
        ):
            try:
                shown.add(await operation())
            except InnoCallsError as error:
                shown.add_error(error)
        async for outcome in client.bridge_many([REQUEST, REQUEST]):
            shown.add(outcome)
            if not isinstance(outcome, Scheduled):
                shown.add_error(outcome.error)
        shown.add(client)
    for event in events:
        shown.add(event)
    if http := options.get("http_client"):
        await http.aclose()


async def test_a_hostile_server(lane: str, logs: Collector) -> None:
    """A server that repeats token and numbers in every part of its reply gets them into no log,
    repr, message, traceback or pickle."""
    shown = Shown()
    with RawServer() as server:
        for script in SCRIPTS.values():
            server.script = script
            await carry_out_everything(server.url, lane, shown)
    assert any("cAnArY" in str(request.headers) for request in server.received)
    shown.texts += logs.texts
    shown.check()


async def test_no_connection(lane: str, logs: Collector) -> None:
    """The same where nothing could be sent."""
    shown = Shown()
    with black_hole() as silent:
        for url in (f"http://127.0.0.1:{unused_port()}", "https://x.invalid", silent):
            await carry_out_everything(url, lane, shown)
    shown.texts += logs.texts
    shown.check()


async def test_the_loggers_speak_at_all(logs: Collector) -> None:
    """The test above would notice: httpx and httpcore do log the exchange, and us too."""
    with RawServer() as server:
        async with httpx.AsyncClient(trust_env=False) as http:
            await http.get(server.url)
            async with AsyncBridgeClient(TOKEN, base_url=server.url, http_client=http) as client:
                await client.delete("id")
    said = "\n".join(logs.texts)
    for word in ("send_request_headers.started", "HTTP Request: DELETE", "OperationEnded"):
        assert word in said


@pytest.mark.parametrize("exception", [RuntimeError, OSError, httpx.ReadError, AssertionError])
async def test_a_transport_that_blurts_it_out(logs: Collector, exception: type[Exception]) -> None:
    """An exception of a caller's transport that quotes the request is masked, its chain too."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise exception(f"{request.headers} {request.content!r} {TOKEN} {FIRST}")

    shown = Shown()
    async with AsyncBridgeClient(
        TOKEN, transport=httpx.MockTransport(fail), retry=None, limiter=None
    ) as client:
        for operation in (client.bridge(REQUEST), client.delete("id")):
            with pytest.raises(InnoCallsError) as failed:
                await operation
            shown.add_error(failed.value)
    shown.texts += logs.texts
    shown.check()


async def test_a_limit_and_an_event_that_fail(logs: Collector) -> None:
    """A failing callback is logged, and what it was called with shows nothing."""
    shown = Shown()

    def fail(event: Event) -> None:
        raise ValueError(f"cannot take {event!r}")

    reply = httpx.Response(200, json={"success": True, "data": {"call_id": "1"}}).content
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=reply))
    async with AsyncBridgeClient(TOKEN, transport=transport, on_event=fail) as client:
        shown.add(await client.bridge(REQUEST))
    shown.texts += logs.texts
    assert any("on_event failed" in text for text in logs.texts)
    shown.check()


async def test_a_status_shows_no_number() -> None:
    """The repr and str of a status mask the numbers that the service gave."""
    status = {"firstRecipientNumber": FIRST, "secondRecipientNumber": SECOND, "callerId": FIRST}
    reply = {"success": True, "status": 200, "data": {"callStatus": status}}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=reply))
    shown = Shown()
    async with AsyncBridgeClient(TOKEN, transport=transport) as client:
        found = await client.status("id", "flow")
        shown.add(found)
        assert found.first_recipient_number == FIRST
    shown.check()


def test_refused_arguments_are_not_repeated() -> None:
    """A ValueError for a number or a token names the field and shows neither."""
    shown = Shown()
    for bad in (f"{FIRST}12345", f"{FIRST}x", f"0{FIRST}", f"{FIRST}(0)"):
        with pytest.raises(ValueError, match="first_callee_number") as refused:
            BridgeRequest("flow", bad, "A", SECOND, "B", 1)
        shown.add_error(refused.value, with_variables=False)
    with pytest.raises(ValueError, match="second_callee_number") as refused:
        BridgeRequest("flow", FIRST, "A", FIRST, "B", 1)
    shown.add_error(refused.value, with_variables=False)
    with pytest.raises(ValueError, match="token") as refused:
        AsyncBridgeClient(f"{TOKEN}\n")
    shown.add_error(refused.value, with_variables=False)
    shown.check()
