"""What the client says was sent is what a server saw, and decides what is sent again."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeAlias

import anyio
import pytest
import trustme
from servers import (
    Peer,
    RawServer,
    Received,
    Script,
    black_hole,
    created,
    documented,
    raw_reply,
    unused_port,
    well_behaved,
)

from innocalls_async import (
    APIError,
    AsyncBridgeClient,
    AuthenticationError,
    BadRequestError,
    BridgeRequest,
    DeadlineExceededError,
    GoneError,
    MethodNotAllowedError,
    NotAcceptableError,
    NotFoundError,
    NotSentError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitedError,
    RedirectError,
    ResponseError,
    RetryPolicy,
    ServerError,
    ServiceUnavailableError,
    TeapotError,
    ValidationError,
)
from innocalls_async.events import Event, OperationEnded
from innocalls_async.transport import fast_transport

pytestmark = pytest.mark.anyio

TOKEN = "evidence-token"
REQUEST = BridgeRequest(
    "flow", "201123456789", "Ahmed", "201098765432", "Mona", 2, datetime(2030, 1, 1, tzinfo=UTC)
)
ATTEMPTS = 3
Ending: TypeAlias = type[Exception] | None


@pytest.fixture(params=["default-asyncio", "default-trio", "fast-asyncio"])
def lane(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def anyio_backend(lane: str) -> str:
    return lane.rpartition("-")[2]


@pytest.fixture
def transport(lane: str) -> Callable[[], Any]:
    return fast_transport if lane.startswith("fast") else lambda: None


@asynccontextmanager
async def client_of(
    transport: Callable[[], Any], base_url: str, **options: Any
) -> AsyncIterator[AsyncBridgeClient]:
    retry = RetryPolicy(attempts=ATTEMPTS, initial=0, maximum=0)
    options = {"limiter": None, "retry": retry, "timeout": 5.0, **options}
    async with AsyncBridgeClient(
        TOKEN, base_url=base_url, transport=transport(), **options
    ) as client:
        yield client


OPERATIONS: dict[str, Callable[[AsyncBridgeClient], Any]] = {
    "create": lambda client: client.bridge(REQUEST),
    "edit": lambda client: client.edit("id", REQUEST),
    "delete": lambda client: client.delete("id"),
    "status": lambda client: client.status("id", "flow"),
}


def says(status: int, body: object, headers: dict[str, str] | None = None) -> Script:
    async def script(peer: Peer, request: Received) -> None:
        await peer.send(raw_reply(status, body, headers))

    return script


async def hangs_up(peer: Peer, request: Received) -> None:
    peer.close()


async def cuts_the_body(peer: Peer, request: Received) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
    peer.close()


DOWN = {"message": "Server Error"}
HTML = b"<h1>Sorry</h1>"
UNKNOWN = OutcomeUnknownError

# Design, section 4: for each evidence, how many requests the service sees when it always answers
# so, and what the operation ends in.
Cell: TypeAlias = tuple[int, Ending]
Row: TypeAlias = tuple[Script, Cell, Cell, Cell, Cell]  # create, edit, delete, status


def alike(script: Script, requests: int, ending: Ending) -> Row:
    return (script, *[(requests, ending)] * 4)  # type: ignore[return-value]


def gateway(status: int) -> Row:
    kind = ServerError if status >= 500 else APIError
    return (says(status, HTML), (1, UNKNOWN), (3, kind), (3, kind), (3, kind))


TABLE: dict[str, Row] = {
    "429": alike(says(429, DOWN, {"Retry-After": "0"}), 3, RateLimitedError),
    "500": alike(says(500, DOWN), 3, ServerError),
    "500 as a web page": alike(says(500, HTML), 3, ServerError),
    "503": alike(says(503, HTML), 3, ServiceUnavailableError),
    "503 by the document": alike(says(503, DOWN, {"Retry-After": "0"}), 3, ServiceUnavailableError),
    "502": gateway(502),
    "504": gateway(504),
    "408": gateway(408),
    "501": gateway(501),
    "520": gateway(520),
    "hung up": (hangs_up, (1, UNKNOWN), (3, ResponseError), (3, ResponseError), (3, ResponseError)),
    "cut": (
        cuts_the_body,
        (1, UNKNOWN),
        (3, ResponseError),
        (3, ResponseError),
        (3, ResponseError),
    ),
    "200 unreadable": (
        says(200, HTML),
        (1, UNKNOWN),
        (1, ResponseError),
        (1, None),
        (2, ResponseError),
    ),
    "200 without what it promises": (
        says(200, {"status": 200, "success": True, "data": {}}),
        (1, UNKNOWN),
        (1, None),
        (1, None),
        (2, ResponseError),
    ),
    "success false": alike(says(200, {"success": False, "status": 200}), 1, APIError),
    "success false, 401": alike(
        says(200, {"success": False, "status": 401, "message": "no"}), 1, AuthenticationError
    ),
    "success false, 422": alike(
        says(200, {"success": False, "status": 422, "errors": {"duration": ["no"]}}),
        1,
        ValidationError,
    ),
    "success false, 503": alike(
        says(200, {"success": False, "status": 503}), 1, ServiceUnavailableError
    ),
    "302": alike(says(302, b"", {"Location": "/login"}), 1, RedirectError),
    "304": alike(says(304, b"", {"Content-Length": "0"}), 1, RedirectError),
    "400": alike(says(400, DOWN), 1, BadRequestError),
    "401": alike(says(401, DOWN), 1, AuthenticationError),
    "402": alike(says(402, DOWN), 1, APIError),
    "403": alike(says(403, DOWN), 1, PermissionDeniedError),
    "404": alike(says(404, DOWN), 1, NotFoundError),
    "405": alike(says(405, DOWN), 1, MethodNotAllowedError),
    "406": alike(says(406, DOWN), 1, NotAcceptableError),
    "410": alike(says(410, DOWN), 1, GoneError),
    "418": alike(says(418, DOWN), 1, TeapotError),
    "422": alike(says(422, {"errors": {"duration": ["no"]}}), 1, ValidationError),
}
NEVER_TWICE: dict[str, Cell] = {
    "500": (1, UNKNOWN),
    "500 as a web page": (1, UNKNOWN),
    "503": (1, UNKNOWN),
}
ALWAYS: dict[str, Cell] = {
    **dict.fromkeys(("502", "504", "408", "501", "520", "hung up", "cut"), (3, UNKNOWN)),
    "200 unreadable": (2, UNKNOWN),
    "200 without what it promises": (2, UNKNOWN),
}


async def check(
    client: AsyncBridgeClient, server: RawServer, operation: str, cell: Cell, name: str
) -> None:
    requests, ending = cell
    before = len(server.received)
    error: Exception | None = None
    try:
        await OPERATIONS[operation](client)
    except Exception as raised:
        error = raised
    where = f"{operation} after {name}: {error!r}"
    assert type(error) is (type(None) if ending is None else ending), where
    assert len(server.received) - before == requests, where
    if isinstance(error, OutcomeUnknownError):
        assert operation == "create"
        assert error.request == REQUEST
        assert error.cause is not None


async def test_the_table(transport: Callable[[], Any]) -> None:
    """For each evidence and operation: so many requests, and that ending."""
    with RawServer() as server:
        async with client_of(transport, server.url) as client:
            for name, (script, *cells) in TABLE.items():
                for operation, cell in zip(OPERATIONS, cells, strict=True):
                    server.script = script
                    await check(client, server, operation, cell, name)
                    server.script = well_behaved  # or after so many 429 the pauses grow long,
                    for _ in range(15):  # and after so many retries the budget is spent
                        await client.authorize()


@pytest.mark.parametrize(("creates", "column"), [("never_twice", NEVER_TWICE), ("always", ALWAYS)])
async def test_the_first_column_moved(
    transport: Callable[[], Any], creates: Any, column: dict[str, Cell]
) -> None:
    """`creates` moves the cells of the first column that it names, and no other."""
    policy = RetryPolicy(attempts=ATTEMPTS, initial=0, maximum=0, creates=creates)
    with RawServer() as server:
        async with client_of(transport, server.url, retry=policy) as client:
            for name, (script, first, second, *_) in TABLE.items():
                server.script = script
                await check(client, server, "create", column.get(name, first), name)
                if name in column:
                    await check(client, server, "edit", second, name)
                server.script = well_behaved
                for _ in range(20):
                    await client.authorize()


def then(*scripts: Script) -> Script:
    """Answers with each of `scripts` in turn, and then as the document says."""
    left = iter(scripts)

    async def script(peer: Peer, request: Received) -> None:
        chosen = next(left, None)
        await (peer.reply(200, documented(request)) if chosen is None else chosen(peer, request))

    return script


async def test_gone_after_an_own_attempt(transport: Callable[[], Any]) -> None:
    """A 404 or 410 after an own attempt whose answer was lost is done for a delete, and an error
    for everything else; after any answer, for a delete too."""
    lost: list[Script] = [hangs_up, cuts_the_body]
    answers: list[Script] = [
        says(502, HTML),
        says(500, DOWN),
        says(429, DOWN, {"Retry-After": "0"}),
    ]
    with RawServer() as server:
        async with client_of(transport, server.url) as client:
            for gone, error in ((404, NotFoundError), (410, GoneError)):
                for first in lost:
                    for operation in ("delete", "edit", "status"):
                        server.script = then(first, says(gone, DOWN))
                        ending = None if operation == "delete" else error
                        await check(client, server, operation, (2, ending), f"{gone}, later")
                for first in answers:
                    server.script = then(first, says(gone, DOWN))
                    await check(client, server, "delete", (2, error), f"{gone} after an answer")


async def test_a_retry_that_goes_well(transport: Callable[[], Any]) -> None:
    """What may be sent again is, and its success counts; a create that always may be is not in
    doubt once it went well."""
    always = RetryPolicy(attempts=ATTEMPTS, initial=0, maximum=0, creates="always")
    with RawServer(then(says(503, HTML), says(500, DOWN))) as server:
        async with client_of(transport, server.url) as client:
            await check(client, server, "create", (3, None), "503, 500")
    with RawServer(then(hangs_up)) as server:
        async with client_of(transport, server.url, retry=always) as client:
            await check(client, server, "create", (2, None), "lost once")
    for last, ending in ((says(422, DOWN), UNKNOWN), (says(429, DOWN), UNKNOWN)):
        with RawServer(then(hangs_up, *[last] * 2)) as server:
            async with client_of(
                transport, server.url, retry=RetryPolicy(2, 0, 0, creates="always")
            ) as client:
                await check(client, server, "create", (2, ending), "lost, then refused")


def tls_that_nobody_trusts() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


async def test_not_sent_is_sound(transport: Callable[[], Any]) -> None:
    """Whenever the client says NotSentError, a server that keeps every byte has seen none, and
    every operation was tried again."""
    with RawServer(tls=tls_that_nobody_trusts()) as server, black_hole() as silent:
        refused = f"http://127.0.0.1:{unused_port()}"
        for url, timeout in ((refused, 5.0), (server.url, 5.0), (silent, 0.1)):
            for operation, carry_out in OPERATIONS.items():
                async with client_of(transport, url, timeout=timeout) as client:
                    with pytest.raises(NotSentError) as unsent:
                        await carry_out(client)
                    assert unsent.value.attempts == ATTEMPTS, operation
        assert not server.everything_seen
        assert not server.received


async def test_no_plain_bytes_to_a_broken_handshake(transport: Callable[[], Any]) -> None:
    """A server that hangs up in the middle of the TLS handshake was sent nothing."""
    seen = bytearray()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.read(100))
        writer.close()

    with RawServer() as server:
        assert server._loop is not None
        start = asyncio.start_server(hang_up, "127.0.0.1", 0)
        broken = asyncio.run_coroutine_threadsafe(start, server._loop).result(5)
        url = f"https://127.0.0.1:{broken.sockets[0].getsockname()[1]}/"
        async with client_of(transport, url) as client:
            with pytest.raises(NotSentError) as unsent:
                await client.bridge(REQUEST)
        assert unsent.value.attempts == ATTEMPTS
        server._loop.call_soon_threadsafe(broken.close)
    assert seen[:1] == b"\x16"  # a TLS record of handshake, and nothing of HTTP
    assert b"POST" not in seen


async def drips_the_answer(peer: Peer, request: Received) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
    await peer.drip(b" " * 9999, 0.005)


async def never(peer: Peer, request: Received) -> None:
    await asyncio.sleep(60)


async def stop(transport: Callable[[], Any], phase: str, ender: str) -> None:
    events: list[Event] = []
    # The first request of a client loads the certificates, which takes a while on a busy machine.
    seconds = 0.15 if phase == "connecting" else 1.2
    options: dict[str, Any] = {"on_event": events.append, "retry": None}
    if ender != "cancelled":
        options[ender] = seconds
    with RawServer(drips_the_answer if phase == "reading" else never) as server:
        with black_hole() as silent:
            url = silent if phase == "connecting" else server.url
            async with client_of(transport, url, **options) as client:
                if ender == "cancelled":
                    with anyio.move_on_after(seconds) as scope:
                        await client.bridge(REQUEST)
                    assert scope.cancelled_caught
                else:
                    unsent = DeadlineExceededError if ender == "deadline" else NotSentError
                    with pytest.raises(unsent if phase == "connecting" else OutcomeUnknownError):
                        await client.bridge(REQUEST)
        (ended,) = [event for event in events if isinstance(event, OperationEnded)]
        may_have_left = phase != "connecting"
        assert (ended.outcome == "in_doubt") is may_have_left
        assert bool(server.everything_seen) is may_have_left
        assert ended.outcome in {"in_doubt", "cancelled" if ender == "cancelled" else "refused"}


async def test_in_doubt_exactly_when_bytes_may_have_left(transport: Callable[[], Any]) -> None:
    """Stopped while it connects, a create is not in doubt; stopped later it is, and every ending
    says so: the event of a cancelled one, the error of a late one."""
    for phase in ("connecting", "waiting", "reading"):
        async with anyio.create_task_group() as group:
            for ender in ("cancelled", "deadline", "timeout"):
                group.start_soon(stop, transport, phase, ender)


async def test_cancelled_while_it_waits_its_turn(transport: Callable[[], Any]) -> None:
    """A create that is cancelled before it was admitted was never sent, and says so."""
    events: list[Event] = []

    async def slow(peer: Peer, request: Received) -> None:
        await asyncio.sleep(0.2)
        await peer.reply(200, documented(request))

    with RawServer(slow) as server:
        async with (
            client_of(transport, server.url, max_connections=1, on_event=events.append) as client,
            anyio.create_task_group() as group,
        ):
            group.start_soon(client.bridge, REQUEST)
            await anyio.sleep(0.05)
            with anyio.move_on_after(0.05):
                await client.bridge(REQUEST)
        outcomes = [event.outcome for event in events if isinstance(event, OperationEnded)]
        assert outcomes == ["cancelled", "done"]
        assert len(server.received) == 1


async def test_cancelled_at_any_moment(transport: Callable[[], Any]) -> None:
    """Cancelled after 0 to 20 ms, in whatever step: where the server saw a byte of the create, the
    client says in doubt or done."""
    endings: list[str] = []

    def keep(event: Event) -> None:
        if isinstance(event, OperationEnded):
            endings.append(event.outcome)

    async def soon(peer: Peer, request: Received) -> None:
        await asyncio.sleep(0.004)
        await peer.reply(200, created())

    with RawServer(soon) as server:
        async with client_of(transport, server.url, on_event=keep) as client:
            numbers = [f"2011{index:08}" for index in range(120)]
            for index, number in enumerate(numbers):
                with anyio.move_on_after(index / 120 * 0.02):
                    await client.bridge(BridgeRequest("f", number, "a", "201098765432", "b", 1))
            await anyio.sleep(0.05)
        seen = server.everything_seen
        for number, ending in zip(numbers, endings, strict=True):
            if number.encode() in seen:
                assert ending in {"in_doubt", "done"}, number
            else:
                assert ending != "done", f"{number} was never seen"
        assert {"cancelled", "in_doubt"} <= set(endings)
