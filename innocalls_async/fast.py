"""HTTP/1.1 on an `asyncio.Protocol` and httptools' parser: the fast transport.

One engine with two faces. `exchange` is the seam that the client's pipeline uses; it builds no
httpx objects. `handle_async_request` makes the same engine an httpx transport like any other.

A connection (`Connection`) carries one exchange at a time. The request leaves in one write, the
awaiting task sleeps on one future, and the parser's callbacks gather the reply. When it is whole,
the future gets it and the connection goes on its origin's list of free ones, before the task even
wakes. The list is last in, first out, so the ones at its bottom grow old and are dropped.

Whatever else happens to a connection ends it: a fault, a cancellation, an EOF, bytes that nobody
asked for. There is no state in which it could be repaired, so `abort` is the only way out. What
the parser checks (llhttp, strict): heads, chunks, and that Content-Length is single and never
beside Transfer-Encoding. What it leaves to us: sizes, trailers, replies that end with the
connection, and bytes after a reply.

A connection holds its place under `max_connections` from before it is begun until its socket is
closed, so that the server never sees one more.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable
from typing import Final

import anyio.lowlevel
import httpx

from innocalls_async.fast_connection import FRAMING, Connection, PlainConnection
from innocalls_async.fast_dial import dial
from innocalls_async.masking import mask_text
from innocalls_async.replies import Reply
from innocalls_async.transport import IDLE_SECONDS, Attempt, ExchangeError, ExchangeTimeoutError
from innocalls_async.wire import Message

__all__ = ["FastTransport"]

_METHODS_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


class FastTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 with keep-alive, over TLS and plain, for asyncio (uvloop too).

    At most `max_connections` are open at once. `verify` is the TLS context to use instead of
    httpx's default one. A reply is read whole, up to 1 MiB. Proxies are not supported, those of
    the environment are ignored, and redirects are the caller's.

    Raises RuntimeError on trio, after `aclose()`, and while another event loop uses it.
    """

    def __init__(self, max_connections: int = 100, *, verify: ssl.SSLContext | None = None) -> None:
        self._max_connections = max_connections
        self._context = verify
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._forget()

    def _forget(self) -> None:
        self._open: set[Connection] = set()
        self._free: dict[str, list[Connection]] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def exchange(self, origin: str, message: Message, attempt: Attempt) -> Reply:
        """The reply to `message`; `ExchangeError` for anything but a whole one."""
        seconds = attempt.timeout
        try:
            data = _encode(message.operation.method, message.target, message.headers, message.body)
            connection = self._reuse(origin)
            if connection is None:
                connection, seconds = await self._admit_within(origin, seconds)
            status, headers, body = await connection.exchange(
                data, seconds, sending=attempt.sending
            )
        except httpx.TimeoutException:
            raise ExchangeTimeoutError from None
        except httpx.TransportError as error:
            said = mask_text(str(error), message.secrets)[:500]
            raise ExchangeError(f"{type(error).__name__}: {said}") from None
        return Reply(
            status,
            {name.lower().decode("latin1"): value.decode("latin1") for name, value in headers},
            body,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As httpx has it, but that the `read` timeout is for the whole reply, not a part."""
        url, body = request.url, await request.aread()
        headers = [pair for pair in request.headers.raw if pair[0].lower() not in FRAMING]
        data = _encode(request.method, url.raw_path.decode("ascii"), headers, body)
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        limits = request.extensions.get("timeout", {})
        connection = self._reuse(origin) or await self._admit(
            origin, limits.get("pool"), limits.get("connect")
        )
        status, raw, content = await connection.exchange(
            data, limits.get("read"), is_head=request.method == "HEAD"
        )
        return httpx.Response(status, headers=raw, stream=httpx.ByteStream(content))

    async def aclose(self) -> None:
        """Close every connection, those in use too; their exchanges end with an error."""
        self._closed = True
        if self._loop is None or self._loop.is_closed():
            return self._forget()
        for connection in list(self._open):
            connection.fail(httpx.ReadError("the transport was closed"))
        while self._waiters:
            self.wake()
        # The loop closes the sockets one turn later.
        return await asyncio.sleep(0)

    def _reuse(self, origin: str) -> Connection | None:
        """A free connection that can be written to this moment."""
        loop = _running_loop()
        if loop is not self._loop:
            self._adopt(loop)
        if self._closed:
            raise RuntimeError("the transport is closed")
        free = self._free.get(origin)
        if not free:
            return None
        now = loop.time()
        while free and now - free[0].idle_since > IDLE_SECONDS:
            free.pop(0).abort()
        while free:
            connection = free.pop()
            if connection.is_usable(now):
                return connection
            connection.abort()
        return None

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None and self._loop.is_running():
            raise RuntimeError("the transport is in use in another event loop")
        # A loop that has ended cannot close its connections any more: they are only dropped.
        self._forget()
        self._loop = loop

    async def _admit_within(self, origin: str, seconds: float) -> tuple[Connection, float]:
        """A connection, and what is left of `seconds`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(seconds):
                connection = await self._admit(origin)
        except TimeoutError:
            raise ExchangeTimeoutError from None
        return connection, seconds - (loop.time() - began)

    async def _admit(
        self, origin: str, pool: float | None = None, connect: float | None = None
    ) -> Connection:
        """A new connection as soon as there may be one more, or one that became free."""
        try:
            async with asyncio.timeout(pool):
                while len(self._open) >= self._max_connections:
                    await self._room()
                    if connection := self._reuse(origin):
                        return connection
        except TimeoutError:
            raise httpx.PoolTimeout("no connection became free in time") from None
        return await self._connect(origin, connect)

    async def _room(self) -> None:
        """Return when a connection became free or was closed."""
        if idle := next(filter(None, self._free.values()), None):
            idle.pop(0).abort()  # of another origin: it makes room
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self.wake()  # it was our turn: the next one's now
            raise

    def wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter.set_result(None)
        return None

    async def _connect(self, origin: str, seconds: float | None) -> Connection:
        scheme, host, port = _address(origin)
        loop = asyncio.get_running_loop()
        is_tls = scheme == "https"
        context = self._tls() if is_tls else None
        kind = Connection if is_tls else PlainConnection
        connection = kind(self, loop, self._free.setdefault(origin, []))
        self._open.add(connection)
        try:
            async with asyncio.timeout(seconds):
                await loop.create_connection(
                    lambda: connection,
                    sock=await dial(loop, host, port),
                    ssl=context,
                    server_hostname=host if is_tls else None,
                )
        except BaseException as error:
            # Later, because the loop closes the socket only then.
            loop.call_soon(self.discard, connection)
            if isinstance(error, TimeoutError):
                raise httpx.ConnectTimeout("no connection in time") from None
            if isinstance(error, OSError | ValueError):  # ValueError: a host that is no name
                raise httpx.ConnectError(str(error)) from None
            raise
        try:
            # anyio holds a cancellation back while the task is about to wake: it would come behind
            # the first bytes.
            await anyio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            connection.abort()
            raise
        # Not looked at: over TLS the server's session tickets may be there to be read.
        if self._closed or connection.is_closing:
            connection.abort()
            raise httpx.ConnectError("the connection was closed as soon as it was there")
        return connection

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            # Reads the certificates from disk: once, and not before it is needed.
            self._context = httpx.create_ssl_context()
            self._context.set_alpn_protocols(["http/1.1"])
        return self._context

    def discard(self, connection: Connection) -> None:
        """Its socket is closed: give its place to the next."""
        self._open.discard(connection)
        self.wake()


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError("the fast transport runs on asyncio only, not on trio") from None


def _encode(method: str, target: str, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    lines = [f"{method} {target} HTTP/1.1".encode()]
    lines += map(b": ".join, headers)
    if body or method in _METHODS_WITH_BODY:
        lines.append(b"Content-Length: %d" % len(body))
    lines += b"", b""
    head = b"\r\n".join(lines)
    ends = len(lines) - 1
    if head.count(b"\r") != ends or head.count(b"\n") != ends or b"\0" in head:
        raise httpx.LocalProtocolError("a header or the target holds a line end or a NUL")
    return head + body


def _address(origin: str) -> tuple[str, str, int]:
    try:
        url = httpx.URL(origin)
    except httpx.InvalidURL as error:
        raise httpx.UnsupportedProtocol(str(error)) from None
    port = url.port or (443 if url.scheme == "https" else 80)
    if url.scheme not in {"http", "https"} or not url.host or port > 65535:
        raise httpx.UnsupportedProtocol("an http:// or https:// address with a host is needed")
    return url.scheme, url.raw_host.decode("ascii"), port
