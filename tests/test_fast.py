"""The fast transport against real sockets: what it takes for a reply, and what it proves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from types import SimpleNamespace
from typing import cast
from zoneinfo import ZoneInfo

import httpx
import psutil
import pytest
import trio
import trustme

from innocalls_async import fast, fast_connection, fast_dial
from innocalls_async.fast import FastTransport
from innocalls_async.models import BridgeRequest
from innocalls_async.replies import Reply
from innocalls_async.transport import MAX_BODY, Attempt, ExchangeError, fast_transport
from innocalls_async.wire import Message, Wire

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Seen: Yes\r\n\r\n{}"
TOKEN = "s3cret-token"
REQUEST = BridgeRequest("flow", "201123456789", "Ali", "201123456780", "Mona", 5)

LOOPS = [pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")]
if find_spec("uvloop"):
    LOOPS.append(pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"))


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


class Peer(asyncio.Protocol):
    """The server's end of one connection."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.server.peers.append(self)
        self.server.opened += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.peers.remove(self)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if end and len(body) >= int(length or 0):
            self.server.requests.append(self.received)
            self.received = b""
            self.server.answer(self)

    def reset(self) -> None:
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Server:
    def __init__(self, answer: Callable[[Peer], None]) -> None:
        self.answer = answer
        self.peers: list[Peer] = []
        self.requests: list[bytes] = []
        self.opened = 0
        self.origin = ""


@asynccontextmanager
async def serving(
    answer: bytes | Callable[[Peer], None] = OK,
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[Server]:
    said = answer
    server = Server((lambda peer: peer.transport.write(said)) if isinstance(said, bytes) else said)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Peer(server), host, 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    name = "localhost" if tls else f"[{host}]" if ":" in host else host
    server.origin = f"{'https' if tls else 'http'}://{name}:{port}"
    unhandled: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    try:
        yield server
    finally:
        listening.close()
        for peer in list(server.peers):
            peer.transport.abort()
        await asyncio.sleep(0.005)
    # A server that is refused says so in asyncio's debug mode.
    assert not [said for said in unhandled if "incoming" not in str(said["message"])]


def message(origin: str = "http://127.0.0.1") -> Message:
    wire = Wire(base_url=origin, token=TOKEN, zone=ZoneInfo("Africa/Cairo"))
    return wire.create(REQUEST)


async def ask(
    transport: FastTransport, origin: str, attempt: Attempt | None = None, seconds: float = 5
) -> Reply:
    async with asyncio.timeout(seconds):
        return await transport.exchange(origin, message(origin), attempt or Attempt(seconds))


async def fails(origin: str, transport: FastTransport | None = None) -> tuple[str, bool]:
    """The text of the error that an exchange must end in, and whether the attempt was sent."""
    attempt = Attempt(5)
    async with transport or FastTransport() as transport:  # noqa: PLR1704
        with pytest.raises(ExchangeError) as caught:
            await ask(transport, origin, attempt)
    return str(caught.value), attempt.sent


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.001)


def then_close(reply: bytes) -> Callable[[Peer], None]:
    def answer(peer: Peer) -> None:
        peer.transport.write(reply)
        peer.transport.close()

    return answer


def then_reset(reply: bytes) -> Callable[[Peer], None]:
    def answer(peer: Peer) -> None:
        peer.transport.write(reply)
        # Later, so that the reply is not lost with the connection.
        asyncio.get_running_loop().call_later(0.01, peer.reset)

    return answer


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


# What is a reply.


async def test_exchange_reuses_its_connection() -> None:
    """Exchanges in a row take one connection, and header names come in lower case."""
    async with serving() as server, fast_transport() as transport:
        for _ in range(3):
            reply = await ask(transport, server.origin)
            assert reply == Reply(200, {"content-length": "2", "x-seen": "Yes"}, b"{}")
        assert server.opened == 1


async def test_request_on_the_wire() -> None:
    """The request is its head, the length of its body, and its body."""
    async with serving() as server, FastTransport() as transport:
        sent = message(server.origin)
        await transport.exchange(server.origin, sent, Attempt(5))
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /call/bridge HTTP/1.1"
    assert lines[1:-1] == [b"%b: %b" % header for header in sent.headers]
    assert lines[-1] == b"Content-Length: %d" % len(body)
    assert body == sent.body


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "status", "body", "reused"),
    [
        pytest.param(CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", 200, b"{}", True, id="chunked"),
        pytest.param(CHUNKED + b"2\r\n{}\r\n0\r\nX-T: 1\r\n\r\n", 200, b"{}", True, id="trailer"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True, id="204"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, b"", True, id="304"),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
            200,
            b"{}",
            True,
            id="informational",
        ),
        pytest.param(then_close(b"HTTP/1.1 200 OK\r\n\r\n{}"), 200, b"{}", False, id="until-eof"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
            200,
            b"{}",
            False,
            id="connection-close",
        ),
        pytest.param(OK.replace(b"/1.1", b"/1.0"), 200, b"{}", False, id="http-1.0"),
        pytest.param(OK + b"H", 200, b"{}", False, id="bytes-after"),
        pytest.param(OK + OK, 200, b"{}", False, id="second-reply"),
        pytest.param(OK + b"garbage", 200, b"{}", False, id="garbage-after"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (MAX_BODY, b"x" * MAX_BODY),
            200,
            b"x" * MAX_BODY,
            True,
            id="largest",
        ),
    ],
)
async def test_whole_replies(
    answer: bytes | Callable[[Peer], None], status: int, body: bytes, reused: bool
) -> None:
    """Every form of a whole reply is read, and a connection is used again only where it can be."""
    async with serving(answer) as server, FastTransport() as transport:
        for _ in range(2):
            reply = await ask(transport, server.origin)
            assert (reply.status, reply.body) == (status, body)
            assert not {"x-t", "link"} & reply.headers.keys()
        assert server.opened == (1 if reused else 2)


BIG = b"x" * (MAX_BODY + 1)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(then_close(b""), id="closed-before"),
        pytest.param(then_reset(b""), id="reset-before"),
        pytest.param(then_close(b"HTTP/1.1 200 OK\r\nX-"), id="closed-in-head"),
        pytest.param(then_close(OK[:-1]), id="closed-in-body"),
        pytest.param(then_close(CHUNKED + b"2\r\n{}\r\n"), id="closed-in-chunks"),
        pytest.param(then_close(b"HTTP/1.1 100 Continue\r\n\r\n"), id="closed-after-100"),
        pytest.param(then_reset(b"HTTP/1.1 200 OK\r\n\r\n{}"), id="reset-until-eof"),
        pytest.param(
            then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}"), id="no-chunked"
        ),
        pytest.param(CHUNKED + b"zz\r\n", id="broken-chunk"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", id="no-http"),
        pytest.param(then_close(b"HTTP/1.1 099 No\r\n\r\n"), id="status-99"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", id="2-lengths"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            id="length-and-chunked",
        ),
        pytest.param(
            b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", id="upgrade"
        ),
        pytest.param(b"HTTP/1.1 101 Switching\r\n\r\n", id="bare-101"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, id="endless-head"),
        pytest.param(b"HTTP/1.1 204 No\r\nX: %b\r\n\r\n" % (b"x" * 65_600), id="huge-head"),
        pytest.param(b"HTTP/1.1 103 Hints\r\nX: y\r\n\r\n" * 3000, id="endless-103"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BIG), BIG), id="huge-body"
        ),
        pytest.param(CHUNKED + b"1\r\nx\r\n" * 200_000, id="huge-chunked"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + BIG + b"x" * 70_000, id="huge-until-eof"),
    ],
)
async def test_anything_less_is_an_error(answer: bytes | Callable[[Peer], None]) -> None:
    """What is not a whole proper reply is an error, the attempt was sent, the connection ends."""
    async with serving(answer) as server:
        text, sent = await fails(server.origin)
        assert sent
        assert TOKEN not in text
        await until(lambda: not server.peers)


async def test_drip_fed_reply() -> None:
    """A reply that comes a byte at a time is the same reply."""

    def drip(peer: Peer) -> None:
        async def write() -> None:
            for byte in CHUNKED + b"2\r\n{}\r\n0\r\n\r\n":
                peer.transport.write(bytes([byte]))
                await asyncio.sleep(0)

        tasks.append(asyncio.create_task(write()))

    tasks: list[asyncio.Task[None]] = []
    async with serving(drip) as server, FastTransport() as transport:
        assert (await ask(transport, server.origin)).body == b"{}"
        await asyncio.gather(*tasks)


# What was sent.


async def test_refused_is_not_sent() -> None:
    """A connection that is refused, or has nowhere to go, sent nothing."""
    origins = (
        f"http://127.0.0.1:{closed_port()}",
        "http://no-such-host.invalid",
        f"http://{'x' * 70}.example",
        "http://",
        "ftp://127.0.0.1",
        "http://127.0.0.1:99999",
    )
    for origin in origins:
        attempt = Attempt(5)
        async with FastTransport() as transport:
            with pytest.raises(ExchangeError):
                await transport.exchange(origin, message(), attempt)
        assert not attempt.sent


async def test_line_ends_are_refused() -> None:
    """No header, target or method can smuggle a line into the request."""
    async with serving() as server, FastTransport() as transport:
        for text in ("a\r\nX: y", "a\nb", "a\rb", "a\0b"):
            attempt = Attempt(5)
            evil = message(server.origin)
            evil.headers = [*evil.headers, (b"X-Id", text.encode())]
            with pytest.raises(ExchangeError, match="line end"):
                await transport.exchange(server.origin, evil, attempt)
            evil = message(server.origin)
            evil.target += text
            with pytest.raises(ExchangeError, match="line end"):
                await transport.exchange(server.origin, evil, attempt)
            assert not attempt.sent
        assert server.opened == 0


async def test_cancelled_while_connecting_is_not_sent() -> None:
    """An attempt cancelled before it had a connection sent nothing."""
    with socket.socket() as silent:  # takes the connection, never answers the TLS greeting
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        attempt = Attempt(5)
        origin = f"https://127.0.0.1:{silent.getsockname()[1]}"
        async with FastTransport() as transport:
            with pytest.raises(TimeoutError):
                await ask(transport, origin, attempt, seconds=0.05)
    assert not attempt.sent


async def test_error_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error's text holds neither the token nor a number, whatever it was made from."""
    secrets = (TOKEN, REQUEST.first_callee_number, "4915112345678")

    async def leak(*_: object) -> None:
        raise httpx.ConnectError(" ".join(secrets))

    async with FastTransport() as transport:
        monkeypatch.setattr(transport, "_connect", leak)
        with pytest.raises(ExchangeError) as caught:
            await transport.exchange("http://127.0.0.1", message(), Attempt(5))
    assert not any(secret in str(caught.value) for secret in secrets)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_failing_callback_loses_no_connection() -> None:
    """Should what is told of the sending fail, nothing is sent and the connection ends."""

    def fail() -> None:
        raise LookupError

    async with serving() as server, FastTransport(1) as transport:
        with pytest.raises(LookupError):
            await ask(transport, server.origin, Attempt(5, on_sending=fail))
        assert (await ask(transport, server.origin)).status == 200
        assert len(server.requests) == 1


# Connections.


async def test_stale_connection_is_not_used() -> None:
    """A connection that the server closed while it was idle is never used."""
    async with serving() as server, FastTransport() as transport:
        await ask(transport, server.origin)
        server.peers[0].transport.close()
        await until(lambda: not server.peers)
        await ask(transport, server.origin)
        assert (server.opened, len(server.requests)) == (2, 2)


async def test_unsolicited_bytes_close_the_connection() -> None:
    """A connection on which the server speaks unasked is closed, not used."""
    async with serving() as server, FastTransport() as transport:
        await ask(transport, server.origin)
        server.peers[0].transport.write(OK)
        await until(lambda: not server.peers)
        await ask(transport, server.origin)
        assert server.opened == 2


async def test_old_connections_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection idle for too long is closed at the next use, one in use lately is kept."""
    async with serving() as server, FastTransport() as transport:
        await asyncio.gather(ask(transport, server.origin), ask(transport, server.origin))
        await ask(transport, server.origin)  # the last in is the first out
        assert server.opened == 2
        monkeypatch.setattr(fast, "IDLE_SECONDS", 0.02)
        await asyncio.sleep(0.03)
        await ask(transport, server.origin)
        await until(lambda: len(server.peers) == 1)
        assert server.opened == 3


async def test_eof_that_the_loop_has_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection closed while the program was busy elsewhere is found out before its use."""
    monkeypatch.setattr(fast_connection, "_LOOK_AFTER", 0.01)
    listening = socket.create_server(("127.0.0.1", 0))
    requests: list[bytes] = []

    def serve() -> None:
        for _ in range(2):
            peer = listening.accept()[0]
            with peer:
                requests.append(peer.recv(65536))
                peer.sendall(OK)

    server = threading.Thread(target=serve)
    server.start()
    async with FastTransport() as transport:
        origin = f"http://127.0.0.1:{listening.getsockname()[1]}"
        await ask(transport, origin)
        time.sleep(0.02)  # noqa: ASYNC251 - the loop must not see the EOF
        await ask(transport, origin)
    server.join()
    listening.close()
    assert len(requests) == 2


async def test_no_delay_is_set() -> None:
    """Small requests are not held back (TCP_NODELAY)."""
    async with serving() as server, FastTransport() as transport:
        await ask(transport, server.origin)
        (connection,) = transport._open
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_ipv6_literal() -> None:
    """An origin may be an IPv6 address in brackets."""
    try:
        async with serving(host="::1") as server, FastTransport() as transport:
            assert (await ask(transport, server.origin)).status == 200
    except OSError:
        pytest.skip("this machine has no IPv6")


def open_sockets(server: Server) -> int:
    """How many of ours are connected to it, as the kernel has it."""
    port = int(server.origin.rpartition(":")[2])
    found = psutil.Process().net_connections("tcp")
    return sum(1 for one in found if one.raddr and one.raddr.port == port)


async def test_cancelled_exchanges_lose_nothing() -> None:
    """After 500 cancellations at random moments 500 exchanges work, within the limit."""
    limit, randomly, most = 20, random.Random(7), 0

    def answer(peer: Peer) -> None:
        nonlocal most
        if randomly.random() < 0.05:
            most = max(most, open_sockets(server))
        loop.call_later(randomly.random() * 0.004, say, peer)

    def say(peer: Peer) -> None:
        if not peer.transport.is_closing():
            peer.transport.write(OK)

    async def cancelled() -> None:
        async with gate:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(randomly.random() * 0.006):
                    while True:
                        await transport.exchange(server.origin, sent, Attempt(5))

    loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(limit)
    async with serving(answer) as server, FastTransport(limit) as transport:
        sent = message(server.origin)
        await asyncio.gather(*(cancelled() for _ in range(500)))
        replies = await asyncio.gather(*(ask(transport, server.origin) for _ in range(500)))
        assert {reply.status for reply in replies} == {200}
        assert 0 < most <= limit
        assert len(transport._open) <= limit
        assert not transport._waiters


async def test_addresses_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Families alternate, and neither a dead nor a silent address keeps the next one waiting."""
    tried: list[tuple[str, int]] = []

    async def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        found = [
            (socket.AF_INET, ("127.0.0.1", closed_port())),
            (socket.AF_INET, ("silent", 1)),
            (socket.AF_INET, ("127.0.0.1", port)),
            (socket.AF_INET6, ("::1", closed_port())),
        ]
        return [(family, socket.SOCK_STREAM, 6, "", where) for family, where in found]

    async def sock_connect(sock: socket.socket, where: tuple[str, int]) -> None:
        tried.append(where)
        if where[0] == "silent":
            await asyncio.Event().wait()
        await running.sock_connect(sock, where)

    running = asyncio.get_running_loop()
    loop = SimpleNamespace(
        getaddrinfo=getaddrinfo, create_task=running.create_task, sock_connect=sock_connect
    )
    monkeypatch.setattr(fast_dial, "_NEXT_ADDRESS_AFTER", 0.02)
    async with serving() as server:
        port = int(server.origin.rpartition(":")[2])
        (await fast_dial.dial(cast(asyncio.AbstractEventLoop, loop), "some.example", 1)).close()
    assert [where[0] for where in tried] == ["127.0.0.1", "::1", "silent", "127.0.0.1"]
    assert tried[-1][1] == port


async def test_cancelled_exchange_never_meets_the_next() -> None:
    """The late reply to a cancelled exchange is not the reply to the next one."""
    replies = iter([b"", OK])
    async with (
        serving(lambda peer: peer.transport.write(next(replies))) as server,
        FastTransport() as transport,
    ):
        attempt = Attempt(5)
        task = asyncio.create_task(ask(transport, server.origin, attempt))
        await until(lambda: bool(server.requests))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert attempt.sent
        await until(lambda: not server.peers)
        await ask(transport, server.origin)
        assert server.opened == 2


async def test_reply_before_the_request_was_sent() -> None:
    """A reply that overtakes its request counts, and the connection is not used again."""

    def refuse(peer: Peer) -> None:
        peer.transport.pause_reading()
        peer.transport.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")

    async with serving() as server, FastTransport() as transport:
        server.answer = refuse
        huge = message(server.origin)
        huge.body = b"x" * 20_000_000
        exchange = asyncio.create_task(transport.exchange(server.origin, huge, Attempt(5)))
        await until(lambda: bool(server.peers and server.peers[0].received))
        refuse(server.peers[0])
        assert (await exchange).status == 413
        server.peers[0].transport.abort()
        server.answer = lambda peer: peer.transport.write(OK)
        await ask(transport, server.origin)
        assert server.opened == 2


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_tls(authority: trustme.CA) -> None:
    """Over TLS exchanges take one connection too, and a large reply arrives whole."""
    body = b"x" * 300_000
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with (
        serving(reply, tls=server_tls(authority)) as server,
        FastTransport(verify=client_tls(authority)) as transport,
    ):
        for _ in range(2):
            assert (await ask(transport, server.origin)).body == body
        assert server.opened == 1


@pytest.mark.parametrize("trusted", [True, False], ids=["wrong-name", "self-signed"])
async def test_certificate_is_checked(authority: trustme.CA, trusted: bool) -> None:
    """A certificate for another name, or of nobody we trust, is refused before the request."""
    tls = server_tls(authority, "example.org" if trusted else "localhost")
    transport = FastTransport(verify=client_tls(authority) if trusted else None)
    async with serving(tls=tls) as server:
        text, sent = await fails(server.origin, transport)
        assert not sent
        assert "certificate verify failed" in text
        assert server.requests == []


async def test_tls_large_reply_then_close(authority: trustme.CA) -> None:
    """A large reply is whole although the server hung up before any of it was read."""
    body, tls = b"x" * 200_000, server_tls(authority)

    def serve() -> None:
        with tls.wrap_socket(listening.accept()[0], server_side=True) as peer:
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve)
        server.start()
        origin, attempt = f"https://localhost:{listening.getsockname()[1]}", Attempt(5)
        async with FastTransport(verify=client_tls(authority)) as transport:
            task = asyncio.create_task(ask(transport, origin, attempt))
            await until(lambda: attempt.sent)
            time.sleep(0.03)  # noqa: ASYNC251 - the loop must find all of it, and the EOF
            assert (await task).body == body
        server.join()


async def test_tls_reply_until_eof(authority: trustme.CA) -> None:
    """A reply without a length is whole if TLS was closed properly."""
    async with (
        serving(then_close(b"HTTP/1.1 200 OK\r\n\r\n{}"), tls=server_tls(authority)) as server,
        FastTransport(verify=client_tls(authority)) as transport,
    ):
        assert (await ask(transport, server.origin)).body == b"{}"


async def test_tls_reply_cut_short(authority: trustme.CA) -> None:
    """A reply without a length is cut if the connection ended and TLS did not."""

    def cut(peer: Peer) -> None:
        peer.transport.write(b"HTTP/1.1 200 OK\r\n\r\n{}")
        # uvloop does not let its own socket be shut down.
        with socket.socket(fileno=os.dup(peer.transport.get_extra_info("socket").fileno())) as own:
            own.shutdown(socket.SHUT_WR)

    async with serving(cut, tls=server_tls(authority)) as server:
        assert (await fails(server.origin, FastTransport(verify=client_tls(authority))))[1]


# The httpx face.


async def test_httpx_client() -> None:
    """It works in an httpx client: queries, bodies, repeated headers, streams."""
    reply = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\n{}"
    async with serving(reply) as server, httpx.AsyncClient(transport=FastTransport()) as client:
        got = await client.get(server.origin, params={"q": "a b"})
        assert got.json() == {}
        assert got.headers.get_list("set-cookie") == ["a=1", "b=2"]

        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"two"

        await client.put(server.origin, content=parts())
        async with client.stream("POST", server.origin) as streamed:
            assert await streamed.aread() == b"{}"
    assert server.requests[0].startswith(b"GET /?q=a+b HTTP/1.1\r\nHost: ")
    assert server.requests[1].endswith(b"\r\nContent-Length: 6\r\n\r\nonetwo")
    assert b"chunked" not in server.requests[1]
    assert server.requests[2].endswith(b"\r\nContent-Length: 0\r\n\r\n")


async def test_httpx_head() -> None:
    """A HEAD's reply has the length of a body that does not come."""
    async with serving(OK[:-2]) as server, httpx.AsyncClient(transport=FastTransport()) as client:
        for _ in range(2):
            assert (await client.head(server.origin)).headers["content-length"] == "2"
        assert server.opened == 2


async def send(transport: FastTransport, origin: str, **seconds: float) -> httpx.Response:
    request = httpx.Request("POST", origin, content=b"x", extensions={"timeout": seconds})
    return await transport.handle_async_request(request)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (then_close(b""), httpx.RemoteProtocolError),
        (then_close(OK[:-1]), httpx.RemoteProtocolError),
        (then_reset(b""), httpx.ReadError),
        (b"nonsense", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\n\r\n" + BIG + b"x" * 70_000, httpx.RemoteProtocolError),
        (b"", httpx.ReadTimeout),
    ],
)
async def test_httpx_exceptions(
    answer: bytes | Callable[[Peer], None], kind: type[Exception]
) -> None:
    """Each fault is httpx's own exception for it."""
    async with serving(answer) as server, FastTransport() as transport:
        with pytest.raises(kind) as caught:
            await send(transport, server.origin, read=0.05 if kind is httpx.ReadTimeout else 5)
        assert type(caught.value) is kind


async def test_httpx_exceptions_before_sending() -> None:
    """So is each of those that come before the request."""
    async with FastTransport() as transport:
        with pytest.raises(httpx.ConnectError):
            await send(transport, f"http://127.0.0.1:{closed_port()}")
        with pytest.raises(httpx.UnsupportedProtocol):
            await send(transport, "ftp://127.0.0.1")
        with pytest.raises(httpx.LocalProtocolError):
            await transport.handle_async_request(
                httpx.Request("GET", "http://127.0.0.1", headers={"X": "a\nb"})
            )


async def test_httpx_connect_timeout() -> None:
    """A connection that is not there in time is a ConnectTimeout."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        origin = f"https://127.0.0.1:{silent.getsockname()[1]}"
        async with FastTransport() as transport:
            with pytest.raises(httpx.ConnectTimeout):
                await send(transport, origin, connect=0.05)


async def test_httpx_write_timeout() -> None:
    """A server that takes no more of the request is a WriteTimeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with FastTransport() as transport:
            request = httpx.Request(
                "POST",
                f"http://127.0.0.1:{silent.getsockname()[1]}",
                content=b"x" * 20_000_000,
                extensions={"timeout": {"read": 0.05}},
            )
            with pytest.raises(httpx.WriteTimeout):
                await transport.handle_async_request(request)


async def test_httpx_pool_timeout() -> None:
    """With every connection in use, one who cannot wait gets a PoolTimeout, another his turn."""
    async with serving(b"") as server, FastTransport(1) as transport:
        first = asyncio.create_task(send(transport, server.origin))
        await until(lambda: bool(server.requests))
        with pytest.raises(httpx.PoolTimeout):
            await send(transport, server.origin, pool=0.02)
        second = asyncio.create_task(send(transport, server.origin))
        await asyncio.sleep(0.01)
        server.answer = lambda peer: peer.transport.write(OK)
        server.answer(server.peers[0])
        assert [(await task).status_code for task in (first, second)] == [200, 200]
        assert server.opened == 1


async def test_cancelled_turn_goes_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """One who is cancelled just as his turn comes hands it on."""

    def wake_and_cancel() -> None:
        wake()
        second.cancel()

    async with serving(b"") as server, FastTransport(1) as transport:
        wake = transport.wake
        first, second, third = (
            asyncio.create_task(ask(transport, server.origin)) for _ in range(3)
        )
        await until(lambda: len(transport._waiters) == 2 and bool(server.requests))
        monkeypatch.setattr(transport, "wake", wake_and_cancel)
        server.answer = lambda peer: peer.transport.write(OK)
        server.answer(server.peers[0])
        assert [(await task).status for task in (first, third)] == [200, 200]
        with pytest.raises(asyncio.CancelledError):
            await second


async def test_idle_connection_makes_room_for_another_origin() -> None:
    """At the limit an idle connection is closed for one to another origin."""
    async with serving() as one, serving() as other, FastTransport(1) as transport:
        for server in (one, other, one):
            await asyncio.gather(*(ask(transport, server.origin) for _ in range(3)))
        assert (one.opened, other.opened) == (2, 1)


# Its life.


async def test_use_after_closing() -> None:
    """Closing ends every exchange under way and every wait; use after it raises."""
    async with serving(b"") as server:
        transport = FastTransport(1)
        tasks = [asyncio.create_task(ask(transport, server.origin)) for _ in range(2)]
        await until(lambda: bool(server.requests))
        await transport.aclose()
        under_way, waiting = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(under_way, ExchangeError)
        assert isinstance(waiting, RuntimeError)
        with pytest.raises(RuntimeError, match="closed"):
            await ask(transport, server.origin)
        await transport.aclose()
        await until(lambda: not server.peers)


async def test_closing_while_connecting(authority: trustme.CA) -> None:
    """A connection that is ready only after the closing is not used."""
    async with serving(tls=server_tls(authority)) as server:
        transport = FastTransport(verify=client_tls(authority))
        attempt = Attempt(5)
        task = asyncio.create_task(ask(transport, server.origin, attempt))
        await asyncio.sleep(0)
        await transport.aclose()
        with pytest.raises(ExchangeError):
            await task
        assert not attempt.sent
        await until(lambda: not server.peers)


def test_one_event_loop_after_another() -> None:
    """The idle connections of a loop that ended are dropped, and new ones opened."""

    async def once() -> int:
        async with serving() as server:
            return (await ask(transport, server.origin)).status

    transport = FastTransport()
    assert [asyncio.run(once()), asyncio.run(once())] == [200, 200]
    asyncio.run(transport.aclose())


async def test_two_event_loops_at_once() -> None:
    """A second loop cannot use it while the first one runs."""

    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(ask(transport, server.origin))

    async with serving() as server, FastTransport() as transport:
        await ask(transport, server.origin)
        await asyncio.to_thread(elsewhere)


def test_trio_is_refused() -> None:
    """On trio its first use says that it needs asyncio."""
    transport = FastTransport()

    async def use() -> None:
        with pytest.raises(RuntimeError, match="asyncio only"):
            await transport.exchange("http://127.0.0.1", message(), Attempt(5))
        await transport.aclose()

    trio.run(use)


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without httptools the error names what to install."""
    monkeypatch.setitem(sys.modules, "httptools", None)
    for name in ("fast", "fast_connection"):
        monkeypatch.delitem(sys.modules, f"innocalls_async.{name}")
    with pytest.raises(ImportError, match=r"pip install \"innocalls-async\[fast\]\""):
        fast_transport()
