"""Faults and attacks on real sockets: each ends as it must, in time, and takes no memory."""

from __future__ import annotations

import asyncio
import gzip
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import anyio
import httpx
import psutil
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
)

from innocalls_async import (
    AsyncBridgeClient,
    BridgeRequest,
    DeadlineExceededError,
    InnoCallsError,
    NotSentError,
    OutcomeUnknownError,
    RateLimitedError,
    RedirectError,
    ResponseError,
    RetryPolicy,
    ServiceUnavailableError,
    ValidationError,
)
from innocalls_async.transport import fast_transport

pytestmark = pytest.mark.anyio

TOKEN = "fault-token-0123456789"
REQUEST = BridgeRequest("flow", "201123456789", "Ahmed", "201098765432", "Mona", 2)
TIMEOUT = 0.6
AT_ONCE = RetryPolicy(initial=0, maximum=0)
MIB = 2**20


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
    options = {"limiter": None, "retry": None, "timeout": TIMEOUT, **options}
    async with AsyncBridgeClient(
        TOKEN, base_url=base_url, transport=transport(), **options
    ) as client:
        yield client


@contextmanager
def in_time_and_memory(seconds: float = 1.5 * TIMEOUT) -> Iterator[None]:
    before, began = psutil.Process().memory_info().rss, time.monotonic()
    yield
    assert time.monotonic() - began < seconds
    assert psutil.Process().memory_info().rss - before < 100 * MIB


def sends(data: bytes, *, times: int = 1) -> Script:
    """Answers with `data`, again and again, and hangs up."""

    async def script(peer: Peer, request: Received) -> None:
        for _ in range(times):
            await peer.send(data)
        peer.close()

    return script


async def says_nothing(peer: Peer, request: Received) -> None:
    await asyncio.sleep(60)


async def resets(peer: Peer, request: Received) -> None:
    peer.reset()


async def drips_a_body(peer: Peer, request: Received) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    await peer.drip(b" " * 100_000, 0.01)


async def drips_a_head(peer: Peer, request: Received) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nX: ")
    await peer.drip(b"x" * 100_000, 0.01)


async def informs_for_ever(peer: Peer, request: Received) -> None:
    while True:
        await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await asyncio.sleep(0.001)


async def informs_as_fast_as_it_can(peer: Peer, request: Received) -> None:
    while True:
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
        await asyncio.sleep(0.01)


async def never_ends_a_body(peer: Peer, request: Received) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await peer.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


def zipped(content: bytes, encoding: str) -> bytes:
    return raw_reply(200, content, {"Content-Encoding": encoding})


BOMB = gzip.compress(gzip.compress(bytes(20 * MIB)))
GOOD = b'{"status": 200, "success": true, "data": {"call_id": "x"}}'
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

LOST: dict[str, Script] = {
    "no answer": says_nothing,
    "closed after it was read": sends(b""),
    "reset after it was read": resets,
    "head cut": sends(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "head dripped": drips_a_head,
    "head huge": sends(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 8 * MIB),
    "head of many lines": sends(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * MIB),
    "head without an end": sends(b"x" * 65536, times=128),
    "no HTTP": sends(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "no status": sends(b"HTTP/1.1 OK\r\n\r\n"),
    "body cut": sends(LONG + b"{"),
    "body cut to nothing": sends(LONG),
    "body dripped": drips_a_body,
    "body endless": never_ends_a_body,
    "body of 1 MiB and one byte": sends(raw_reply(200, b" " * MIB + b"1")),
    "body announced at 100 GiB": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 107374182400\r\n\r\n1"),
    "close-delimited body of 4 MiB": sends(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 4 * MIB),
    "chunk size broken": sends(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"),
    "chunk size negative": sends(CHUNKED + b"-5\r\nabc\r\n0\r\n\r\n"),
    "chunk size huge": sends(CHUNKED + b"f" * 40 + b"\r\nabc"),
    "chunk cut": sends(CHUNKED + b"5\r\nab"),
    "chunk not ended": sends(CHUNKED + b"2\r\n{}"),
    "last chunk missing": sends(CHUNKED + b"3a\r\n" + GOOD + b"\r\n"),
    "two lengths": sends(
        b"HTTP/1.1 200 OK\r\nContent-Length: 58\r\nContent-Length: 9\r\n\r\n" + GOOD
    ),
    "length no number": sends(b"HTTP/1.1 200 OK\r\nContent-Length: +58\r\n\r\n" + GOOD),
    "1xx without end": informs_for_ever,
    "1xx as a flood": informs_as_fast_as_it_can,
    "protocol switched": sends(
        b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    ),
}


def answers(reply: bytes) -> Script:
    """Answers with `reply`, and keeps the connection."""

    async def script(peer: Peer, request: Received) -> None:
        await peer.send(reply)

    return script


UNREADABLE: dict[str, Script] = {
    "gzip": answers(zipped(gzip.compress(GOOD), "gzip")),
    "double gzip": answers(zipped(BOMB, "gzip, gzip")),
    "brotli that is none": answers(zipped(GOOD, "br")),
    "close-delimited body cut short": sends(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD[:-10]),
    "empty": answers(raw_reply(200, b"")),
    "204": answers(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "web page": answers(raw_reply(200, b"<html>", {"Content-Type": "text/html"})),
    "deep JSON": answers(raw_reply(200, b"[" * 200_000)),
    "deep and whole JSON": answers(raw_reply(200, b"[" * 50_000 + b"]" * 50_000)),
    "huge JSON": answers(raw_reply(200, b"[" + b"1," * 500_000 + b"1]")),
    "huge number": answers(
        raw_reply(200, b'{"success": true, "data": {"call_id": ' + b"9" * 9999 + b"}}")
    ),
    "duplicate keys": answers(
        raw_reply(200, b'{"success": true, "data": {"call_id": "a", "call_id": "b"}}')
    ),
    "success twice": answers(raw_reply(200, GOOD[:-1] + b', "success": false}')),
    "list": answers(raw_reply(200, [])),
    "success a word": answers(raw_reply(200, created() | {"success": "true"})),
    "no success": answers(raw_reply(200, {"status": 200})),
    "data a list": answers(raw_reply(200, created() | {"data": ["call_id"]})),
    "data null": answers(raw_reply(200, created() | {"data": None})),
    "call id null": answers(raw_reply(200, created() | {"data": {"call_id": None}})),
    "call id a list": answers(raw_reply(200, created() | {"data": {"call_id": ["x"]}})),
    "call id blank": answers(raw_reply(200, created("  "))),
    "not UTF-8": answers(raw_reply(200, b'{"success": true, "data": {"call_id": "\xff"}}')),
    "UTF-16": answers(raw_reply(200, GOOD.decode().encode("utf-16"))),
}


SLOW = ["no answer", "head dripped", "body dripped", "1xx without end"]


async def lose(client: AsyncBridgeClient, server: RawServer, fault: str) -> None:
    server.script, before = LOST[fault], len(server.received)
    with in_time_and_memory():
        error = await error_of(client.bridge(REQUEST))
        assert isinstance(error, OutcomeUnknownError), f"{fault}: {error!r}"
        assert isinstance(error.cause, ResponseError | DeadlineExceededError), fault
        assert error.request == REQUEST
        assert len(server.received) == before + 1, fault


async def error_of(operation: Awaitable[object]) -> InnoCallsError | None:
    try:
        await operation
    except InnoCallsError as error:
        return error
    return None


async def test_an_answer_that_never_ends(transport: Callable[[], Any]) -> None:
    """Within 1.5 x the timeout a create whose answer does not come, or not whole, is in doubt."""

    async def one(fault: str) -> None:
        with RawServer() as server:
            async with client_of(transport, server.url) as client:
                await lose(client, server, fault)

    async with anyio.create_task_group() as group:
        for fault in SLOW:
            group.start_soon(one, fault)


async def test_a_lost_answer(transport: Callable[[], Any]) -> None:
    """A create whose answer is lost is in doubt and not sent again, whatever broke it; for a
    status it is an error that says so."""
    with RawServer() as server:
        async with client_of(transport, server.url) as client:
            for fault in LOST.keys() - SLOW:
                await lose(client, server, fault)
                if fault != "1xx as a flood":
                    error = await error_of(client.status("id", "flow"))
                    assert isinstance(error, ResponseError), f"{fault}: {error!r}"


async def test_an_unreadable_success(transport: Callable[[], Any]) -> None:
    """A 200 that cannot be read leaves a create in doubt, is an error for an edit, is success
    enough for a delete, and is asked for once more by a status."""
    at = datetime(2030, 1, 1, tzinfo=UTC)
    later = BridgeRequest("flow", "201123456789", "A", "201098765432", "B", 1, at)
    with RawServer() as server:
        async with client_of(transport, server.url, retry=AT_ONCE, timeout=5.0) as client:
            for fault, script in UNREADABLE.items():
                server.script, before = script, len(server.received)
                with in_time_and_memory(7.5):
                    doubt = await error_of(client.bridge(REQUEST))
                    edited = await error_of(client.edit("id", later))
                    deleted = await error_of(client.delete("id"))
                    asked = await error_of(client.status("id", "flow"))
                assert isinstance(doubt, OutcomeUnknownError), fault
                assert isinstance(doubt.cause, ResponseError), fault
                # An edit needs nothing but `success: true`.
                is_enough = fault.startswith(("data", "call id"))
                assert isinstance(edited, type(None) if is_enough else ResponseError), fault
                assert deleted is None, fault
                assert isinstance(asked, ResponseError), fault
                assert len(server.received) == before + 5, fault


ODD_STATUSES: list[dict[str, Any]] = [
    {},
    {"scheduledDateTime": 5, "actualDateTime": [], "callDuration": {}, "callStatus": 7},
    {"actualDateTime": "9999-12-31T23:59:59+00:00", "scheduledDateTime": "0001-01-01T00:00+14:00"},
    {"actualDateTime": "9999-12-31 23:59:59", "scheduledDateTime": "0001-01-01 00:00:00"},
    {"actualDateTime": "9999-12-31T23:59:59-14:00", "scheduledDateTime": "0000-00-00 00:00:00"},
    {"callDuration": "99999999999999999999 hours", "callerId": 10**400},
    {"callDuration": 1e308},
    {"callDuration": -1, "callId": True, "firstRecipientStatus": "\ud800"},
    {"callStatus": "x" * 100_000, "raw": "mine", "self": 1, "unknown": {"a": [None]}},
    {"callStatus": None, "firstRecipientStatus": [], "secondRecipientNumber": 201123456789},
]


async def test_an_odd_status(transport: Callable[[], Any]) -> None:
    """A field of a status that is of a wrong type, or out of every range, is None and kept raw."""
    replies = iter(ODD_STATUSES)

    async def script(peer: Peer, request: Received) -> None:
        body = {"status": 200, "success": True, "data": {"callStatus": next(replies)}}
        await peer.reply(200, body)

    with RawServer(script) as server:
        async with client_of(transport, server.url, timeout=5.0) as client:
            for odd in ODD_STATUSES:
                status = await client.status("id", "flow")
                assert status.raw == odd
                assert not status.is_final
                assert "2011234" not in repr(status)


async def test_a_refusal_of_any_depth(transport: Callable[[], Any]) -> None:
    """However deep the details of a 422 are, it is a ValidationError and one request."""
    depths = [1, 50, 300, 600, *range(700, 1000, 10), 5000, 100_000]
    left = iter(depths)

    async def script(peer: Peer, request: Received) -> None:
        deep = b"[" * (depth := next(left)) + b"]" * depth
        await peer.reply(422, b'{"message": "no", "errors": {"field": ' + deep + b"}}")

    with RawServer(script) as server:
        async with client_of(transport, server.url, retry=AT_ONCE, timeout=5.0) as client:
            for _ in depths:
                with pytest.raises(ValidationError):
                    await client.bridge(REQUEST)
        assert len(server.received) == len(depths)


@pytest.mark.parametrize("token", ["a\nb", "a\r\nX: 1", "tökén", "a b", "a\x00b", "a\x7f", "٣٣"])
def test_a_token_that_is_no_header(token: str) -> None:
    """A token with a line end, a space or a character beyond ASCII is refused when the client is
    made, and is not repeated."""
    with pytest.raises(ValueError, match="token") as refused:
        AsyncBridgeClient(token)
    assert token not in f"{refused.value!r} {refused.value}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300, 304])
async def test_redirects_are_not_followed(transport: Callable[[], Any], status: int) -> None:
    """No redirect is followed, to no host: a RedirectError after one request, and the other host
    never hears of the token."""
    with RawServer() as other:
        targets = [other.url, other.url.replace("127.0.0.1", "localhost"), "//evil.invalid/", "/x"]
        left = iter(targets * 2)

        async def script(peer: Peer, request: Received) -> None:
            await peer.reply(status, b"", {"Location": next(left)})

        with RawServer(script) as server:
            async with client_of(transport, server.url, retry=AT_ONCE, timeout=5.0) as client:
                for _ in targets:
                    with pytest.raises(RedirectError):
                        await client.bridge(REQUEST)
                    with pytest.raises(RedirectError):
                        await client.status("id", "flow")
            assert len(server.received) == 8
        assert not other.everything_seen


@pytest.mark.parametrize(
    "url",
    ["http://service.example/api", "http://127.0.0.1.example/", "http://10.0.0.1", "http://[::2]/"],
)
def test_plain_http_is_for_loopback(url: str) -> None:
    """http:// to any host but loopback is refused unless asked for by name."""
    with pytest.raises(ValueError, match="allow_plain_http"):
        AsyncBridgeClient(TOKEN, base_url=url)


async def test_the_environment_is_ignored(
    transport: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither a proxy nor a netrc of the environment is used."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login mine password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with RawServer() as proxy, RawServer() as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with client_of(transport, server.url, timeout=5.0) as client:
            await client.bridge(REQUEST)
        assert server.received[0].header("Authorization") == f"Bearer {TOKEN}"
        assert not proxy.everything_seen


async def test_a_caller_closing_server(transport: Callable[[], Any]) -> None:
    """A server that closes idle connections costs no doubt: every create once, at any pace."""
    with RawServer(idle=0.2) as server:
        async with client_of(transport, server.url, timeout=5.0) as client:
            numbers = [f"2011{index:08}" for index in range(50)]

            async def five(batch: list[str], pause: float) -> None:
                for number in batch:
                    await client.bridge(BridgeRequest("f", number, "a", "201098765432", "b", 1))
                    await anyio.sleep(pause)

            async with anyio.create_task_group() as group:
                for start in range(0, 40, 5):
                    group.start_soon(five, numbers[start : start + 5], 0.23 + start / 200)
            for number in numbers[40:]:
                await client.bridge(BridgeRequest("f", number, "a", "201098765432", "b", 1))
        booked = [dict(request.form)["first_callee_number"] for request in server.received]
        assert sorted(booked) == numbers


async def test_a_program_that_was_busy(transport: Callable[[], Any]) -> None:
    """A connection that the server closed while the program had no time for its event loop is
    noticed before it is used."""
    with RawServer(idle=0.05) as server:
        async with client_of(transport, server.url, timeout=5.0) as client:
            for pause in (0.06, 0.1, 0.15, 0.2):
                await client.bridge(REQUEST)
                time.sleep(pause)  # noqa: ASYNC251 - that is the point
            await client.bridge(REQUEST)
        assert len(server.received) == 5


async def test_a_server_that_closes_after_each_reply(transport: Callable[[], Any]) -> None:
    """`Connection: close` is heeded: each of 20 creates on a connection of its own, none lost."""

    async def script(peer: Peer, request: Received) -> None:
        await peer.reply(200, documented(request), {"Connection": "close"})
        peer.close()

    with RawServer(script) as server:
        async with client_of(transport, server.url, timeout=5.0) as client:
            for _ in range(20):
                await client.bridge(REQUEST)
        assert len(server.received) == server.accepted == 20


async def test_a_reply_too_many(transport: Callable[[], Any]) -> None:
    """A second reply that nobody asked for is not taken for the answer to the next request."""

    async def script(peer: Peer, request: Received) -> None:
        spare = raw_reply(200, created("somebody else's"))
        await peer.send(raw_reply(200, documented(request)) + spare)

    with RawServer(script) as server:
        async with client_of(transport, server.url, timeout=5.0) as client:
            for _ in range(3):
                assert (await client.bridge(REQUEST)).call_id == "id-201123456789"


async def test_connections_that_cannot_be_made(transport: Callable[[], Any]) -> None:
    """Refused and unknown hosts are not sent, are tried again, and say so."""
    addresses = [f"http://127.0.0.1:{unused_port()}", "https://no-such-host.invalid/api"]
    for url in addresses:
        events: list[Any] = []
        retry = RetryPolicy(attempts=3, initial=0, maximum=0)
        async with client_of(
            transport, url, retry=retry, timeout=10.0, on_event=events.append
        ) as client:
            with pytest.raises(NotSentError) as unsent:
                await client.bridge(REQUEST)
            assert unsent.value.attempts == 3
            assert [type(event).__name__ for event in events].count("RetryPlanned") == 2


async def test_a_host_that_answers_nothing(transport: Callable[[], Any]) -> None:
    """A connection that is never made is not sent, within 1.5 x the timeout, and tried again."""
    with black_hole() as url:
        retry = RetryPolicy(attempts=2, initial=0, maximum=0)
        async with client_of(transport, url, retry=retry, timeout=0.3) as client:
            with in_time_and_memory(2 * 1.5 * 0.3), pytest.raises(NotSentError) as unsent:
                await client.bridge(REQUEST)
            assert unsent.value.attempts == 2


@pytest.mark.parametrize("name", ["127.0.0.1", "elsewhere.example"])
async def test_a_certificate_that_is_no_good(transport: Callable[[], Any], name: str) -> None:
    """A self-signed certificate, or one for another host, is refused before anything is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(name).configure_cert(context)
    with RawServer(tls=context) as server:
        async with client_of(
            transport, server.url, retry=RetryPolicy(attempts=2, initial=0, maximum=0), timeout=5.0
        ) as client:
            with pytest.raises(NotSentError, match=r"(?i)certificate") as unsent:
                await client.bridge(REQUEST)
            assert unsent.value.attempts == 2
        assert not server.everything_seen


async def test_a_certificate_for_another_host(
    lane: str, transport: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A certificate of a trusted authority is taken for the host it names, and no other."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name, is_good in (("127.0.0.1", True), ("elsewhere.example", False)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        trusted = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))

        def secure(trusted: ssl.SSLContext = trusted) -> Any:
            if lane.startswith("fast"):
                return fast_transport(verify=trusted)
            return httpx.AsyncHTTPTransport(verify=trusted, trust_env=False)

        with RawServer(tls=context) as server:
            async with client_of(secure, server.url, timeout=5.0) as client:
                if is_good:
                    await client.bridge(REQUEST)
                    assert len(server.received) == 1
                else:
                    with pytest.raises(NotSentError):
                        await client.bridge(REQUEST)
                    assert not server.everything_seen


PAST = formatdate(0, usegmt=True)
ODD_WAITS = ["-1", "nan", "inf", "1e9", PAST, "soon", "", "0x10", "9" * 400, "-0", "1;2", "\xff"]


@pytest.mark.parametrize("status", [429, 503])
async def test_an_odd_retry_after(transport: Callable[[], Any], status: int) -> None:
    """A Retry-After that is negative, past, or no time at all is no crash and no hang."""
    left = iter(ODD_WAITS)
    is_odd_turn = True

    async def script(peer: Peer, request: Received) -> None:
        nonlocal is_odd_turn
        if is_odd_turn:
            wait = next(left)
            headers = {"Retry-After": wait} if wait != PAST else {"Retry-After": wait, "Date": PAST}
            await peer.reply(status, {"message": "later"}, headers)
        else:
            await peer.reply(200, documented(request))
        is_odd_turn = not is_odd_turn

    with RawServer(script) as server:
        async with anyio.create_task_group() as group:
            retry = RetryPolicy(initial=0, maximum=0, max_retry_after=0.1)
            for _ in ODD_WAITS:
                async with client_of(transport, server.url, retry=retry, timeout=5.0) as client:
                    with anyio.fail_after(3):
                        try:
                            await client.bridge(REQUEST)
                        except (RateLimitedError, ServiceUnavailableError) as error:
                            assert "max_retry_after" in str(error)  # noqa: PT017
                            is_odd_turn = True
            group.cancel_scope.cancel()


@pytest.mark.parametrize("retry", [None, RetryPolicy(max_retry_after=0.3)], ids=["none", "short"])
async def test_a_retry_after_of_a_billion(
    transport: Callable[[], Any], retry: RetryPolicy | None
) -> None:
    """A 429 that asks for 30 years fails at once, and the client is of use again soon after."""
    waits = iter(["1000000000"])

    async def script(peer: Peer, request: Received) -> None:
        if wait := next(waits, None):
            await peer.reply(429, {"message": "Too Many Attempts."}, {"Retry-After": wait})
        else:
            await peer.reply(200, documented(request))

    with RawServer(script) as server:
        async with client_of(transport, server.url, retry=retry, timeout=5.0) as client:
            with in_time_and_memory(2), pytest.raises(RateLimitedError) as limited:
                await client.bridge(REQUEST)
            assert limited.value.retry_after is not None
            assert limited.value.retry_after >= 86_400  # a day at least, which is too long
            pause = client._pipeline._admission.pause_left
            assert pause <= 120
            if retry is not None:
                await client.bridge(REQUEST)


@pytest.mark.parametrize("jump", [-1e6, 1e6])
async def test_the_wall_clock_jumps(
    transport: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """A wall clock that jumps makes no wait longer or shorter."""
    waits = iter(["0.3", None])
    real = time.time

    async def script(peer: Peer, request: Received) -> None:
        if wait := next(waits, None):
            monkeypatch.setattr(time, "time", lambda: real() + jump * len(server.received))
            await peer.reply(429, {"message": "slow"}, {"Retry-After": wait})
        else:
            await peer.reply(200, documented(request))

    with RawServer(script) as server:
        async with client_of(transport, server.url, retry=AT_ONCE, timeout=5.0) as client:
            began = time.monotonic()
            await client.bridge(REQUEST)
            assert 0.3 <= time.monotonic() - began < 0.6
        first, second = (request.at for request in server.received)
        assert second - first >= 0.3


def test_this_process_left_nothing_open() -> None:
    """The tests above left no socket behind: what was broken off was closed."""
    assert psutil.Process(os.getpid()).num_fds() < 200
