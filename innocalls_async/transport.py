"""One attempt on the wire: the only module that touches httpx's machinery.

An `Exchanger` carries one message out and brings the whole reply back. What it must know better
than anyone is whether anything of the request can have left this machine, because a create that
was not sent may be sent again and one that may have been must not. That is `Attempt.sent`, and it
is True whenever there is a doubt.

The evidence, for httpx's transports: httpcore reports each step through the `trace` extension, so
an attempt that began to connect and never began to send its headers sent nothing, however it
ended (refused, timed out, cancelled). Where nothing was traced (a mock, an ASGI app, a caller's
transport), only the exceptions that by their definition come before the request prove it.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeAlias, runtime_checkable

import anyio
import anyio.lowlevel
import httpx
from attrs import define

from innocalls_async.clock import current_time
from innocalls_async.masking import mask_text
from innocalls_async.replies import Reply
from innocalls_async.wire import Message

if TYPE_CHECKING:
    from innocalls_async.fast import FastTransport

__all__ = [
    "Attempt",
    "ClientExchanger",
    "ExchangeError",
    "ExchangeTimeoutError",
    "Exchanger",
    "Pool",
    "TransportExchanger",
    "fast_transport",
]

# More than any documented reply by far, and little enough for thousands at once.
MAX_BODY: Final = 1024 * 1024
# Servers close idle connections after 5 s (Apache, uvicorn, Node) to 75 s (nginx). A connection
# that we drop first can never be closed under a request on its way out.
IDLE_SECONDS: Final = 4.0

_Send: TypeAlias = Callable[[httpx.Request], Awaitable[httpx.Response]]

# By their definition these come before the first byte of a request.
_BEFORE_SENDING = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


@define
class Attempt:
    """What is known of one exchange under way. `timeout` is seconds for all of it; `on_sending`
    is called as its first byte leaves."""

    timeout: float
    on_sending: Callable[[], object] | None = None
    sent: bool = False

    def sending(self) -> None:
        """The next thing done is the first write of the request."""
        self.sent = True
        if self.on_sending is not None:
            self.on_sending()


class ExchangeError(Exception):
    """The exchange broke off before a whole reply was there. Its text is fit to be shown."""


class ExchangeTimeoutError(ExchangeError):
    """`attempt.timeout` was over first."""


@runtime_checkable
class Exchanger(Protocol):
    """Carries messages out, each within its attempt's timeout. Anything but a whole reply is an
    `ExchangeError`; `attempt.sent` is False, then and on cancellation, only if nothing of the
    request can have left."""

    async def exchange(self, origin: str, message: Message, attempt: Attempt) -> Reply: ...

    async def aclose(self) -> None: ...


def fast_transport(
    max_connections: int = 100, *, verify: ssl.SSLContext | None = None
) -> FastTransport:
    """An httpx transport several times as fast as httpx's own: HTTP/1.1, TLS and plain, asyncio.

    Needs the extra `fast` (ImportError says so). Proxies are not supported, and those
    of the environment are ignored; on trio its first use is a
    RuntimeError. `verify` is the TLS context to use instead of the default one.
    """
    from innocalls_async.fast import FastTransport  # noqa: PLC0415 - an extra

    return FastTransport(max_connections, verify=verify)


class TransportExchanger:
    """Over a caller's httpx transport. It is closed with us, as httpx does with its own."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        if not callable(getattr(transport, "handle_async_request", None)):
            raise TypeError(
                f"transport: an asynchronous httpx transport, not {type(transport).__name__}"
            )
        self._transport = transport

    async def exchange(self, origin: str, message: Message, attempt: Attempt) -> Reply:
        send = self._transport.handle_async_request
        return await _exchange(send, origin, message, attempt, _timeouts(attempt))

    async def aclose(self) -> None:
        await self._transport.aclose()


class ClientExchanger:
    """Over a caller's `httpx.AsyncClient`, which stays the caller's to close."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        if not isinstance(client, httpx.AsyncClient):
            raise TypeError(f"http_client: an httpx.AsyncClient, not {type(client).__name__}")
        self._client = client

    async def exchange(self, origin: str, message: Message, attempt: Attempt) -> Reply:
        if self._client.is_closed:
            raise RuntimeError("the http_client that this AsyncBridgeClient was given is closed")
        return await _exchange(self._send, origin, message, attempt, _timeouts(attempt))

    async def _send(self, request: httpx.Request) -> httpx.Response:
        # Its own auth and redirects would carry the token where it must not go.
        return await self._client.send(request, stream=True, auth=None, follow_redirects=False)

    async def aclose(self) -> None:
        """Nothing: the client is the caller's."""


class Pool:
    """The default: httpx transports of one connection each, and a list of the free ones.

    httpcore's pool looks through all its connections and waiters for every request, so with 100
    connections it costs five times what it costs with 4; it also loses a connection for good when
    a waiter is cancelled. Asked for one connection at a time it does neither. Whoever uses this
    keeps to so many exchanges at once: the pool itself has no limit and no queue.
    """

    def __init__(self) -> None:
        self._free: deque[tuple[float, httpx.AsyncHTTPTransport]] = deque()  # the oldest first
        self._context: ssl.SSLContext | None = None
        self._closed = False

    async def exchange(self, origin: str, message: Message, attempt: Attempt) -> Reply:
        idle_since = current_time() - IDLE_SECONDS
        if self._free and self._free[0][0] < idle_since:
            # Before the exchange, so that no reply waits for it.
            await self._close_idle(idle_since)
        transport = self._free.pop()[1] if self._free else self._open()
        try:
            reply = await _exchange(transport.handle_async_request, origin, message, attempt)
        except BaseException:
            # Whatever state it is in, no other request shall meet it.
            with anyio.CancelScope(shield=True):
                await transport.aclose()
            raise
        if _has_spare_bytes(transport):
            await transport.aclose()
            return reply
        self._free.append((current_time(), transport))
        if self._closed:
            await self._close_idle(math.inf)
        return reply

    async def _close_idle(self, since: float) -> None:
        while self._free and self._free[0][0] < since:
            _, transport = self._free.popleft()
            with anyio.CancelScope(shield=True):
                await transport.aclose()

    def _open(self) -> httpx.AsyncHTTPTransport:
        if self._context is None:
            # Reads the certificates from disk: once, and not before a client is used.
            self._context = httpx.create_ssl_context()
        limits = httpx.Limits(
            max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_SECONDS
        )
        return httpx.AsyncHTTPTransport(verify=self._context, limits=limits, trust_env=False)

    async def aclose(self) -> None:
        self._closed = True
        await self._close_idle(math.inf)


def _has_spare_bytes(transport: httpx.AsyncHTTPTransport) -> bool:
    """Whether more came than the reply: httpcore would take it for the answer to the next request,
    so that a create would be given another's call_id. Nothing public tells."""
    for connection in transport._pool.connections:
        state = getattr(getattr(connection, "_connection", None), "_h11_state", None)
        if state is not None and state.trailing_data[0]:
            return True
    return False


async def _exchange(
    send: _Send,
    origin: str,
    message: Message,
    attempt: Attempt,
    timeouts: Mapping[str, float] = MappingProxyType({}),
) -> Reply:
    """`timeouts` are httpx's, each for one read or write: only a second line, because a reply
    that drips never exceeds them."""
    attempt.sent = True  # until something shows otherwise
    evidence = _Evidence(attempt)
    mark = _secrets.set(message.secrets)
    with anyio.move_on_after(attempt.timeout):
        try:
            response = await send(_request(origin, message, timeouts, evidence))
            try:
                return await _read(response)
            finally:
                await response.aclose()
        except ExchangeError:
            raise
        except httpx.HTTPStatusError as error:
            # A caller's hook that raises for a status: its reply came, but for the body it kept.
            return await _read(error.response)
        except httpx.HTTPError as error:
            if isinstance(error, _BEFORE_SENDING) and not evidence.sending:
                attempt.sent = False
            is_late = isinstance(error, httpx.TimeoutException)
            kind = ExchangeTimeoutError if is_late else ExchangeError
            # Not chained: httpx's exceptions carry the request, and with it the token.
            raise kind(_reason(error, message)) from None
        except Exception as error:
            # A transport that raises what httpx does not know: an OSError, a bug, a failed
            # assertion in a test's mock. It is as much of a doubt as a lost reply, and it is
            # chained.
            raise ExchangeError(_reason(error, message)) from error
        finally:
            _secrets.reset(mark)
    raise ExchangeTimeoutError


@define
class _Evidence:
    """Listens to httpcore's trace for the two steps that prove what was sent."""

    attempt: Attempt
    sending: bool = False

    async def __call__(self, step: str, info: Any) -> None:
        if step.endswith("send_request_headers.started"):
            request = info.get("request")
            if getattr(request, "method", None) == b"CONNECT":
                return  # it asks a proxy for the way; the request itself comes after
            # Else a cancellation that met the new connection on its way would be delivered behind
            # the first bytes, and leave a doubt for nothing.
            await anyio.lowlevel.checkpoint_if_cancelled()
            self.sending = True
            self.attempt.sending()
            # The steps that follow prove nothing more, and to be told of them costs 20 us. A trace
            # that a caller's hook has put in place of ours is the caller's.
            extensions = getattr(request, "extensions", {})
            if extensions.get("trace") is self:
                del extensions["trace"]
        elif step == "connection.connect_tcp.started" and not self.sending:
            self.attempt.sent = False


def _request(
    origin: str, message: Message, timeouts: Mapping[str, float], evidence: _Evidence
) -> httpx.Request:
    headers, body = message.headers, message.body
    if body:
        headers = [*headers, (b"Content-Length", b"%d" % len(body))]
    # Given `content`, or an address as text, httpx takes ten times as long for the same request.
    request = httpx.Request(
        message.operation.method,
        _url(origin + message.target),
        headers=headers,
        stream=_Body(body),
        extensions={"trace": evidence, "timeout": timeouts},
    )
    request.read()  # for transports that look at its `content`
    return request


_url = lru_cache(maxsize=64)(httpx.URL)


def _timeouts(attempt: Attempt) -> Mapping[str, float]:
    return dict.fromkeys(("connect", "read", "write", "pool"), attempt.timeout)


class _Body(httpx.ByteStream):
    """httpx's own is an async generator: when a write is cancelled it is dropped half way, and
    trio warns of it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._content = content

    def __aiter__(self) -> Self:
        self._chunks = iter((self._content,) if self._content else ())
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration


async def _read(response: httpx.Response) -> Reply:
    headers = {
        name.decode("latin-1").lower(): value.decode("latin-1")
        for name, value in response.headers.raw
    }
    if response.is_closed:  # a caller's hook has read it, or it failed before that
        content = response.content if response.is_stream_consumed else b""
        if len(content) > MAX_BODY:
            raise _too_large()
        return Reply(response.status_code, headers, content)
    body, chunks = bytearray(), aiter(response.stream)  # type: ignore[arg-type]
    async for chunk in chunks:  # the raw stream: nothing is decompressed
        body += chunk
        if len(body) > MAX_BODY:
            await _end(chunks)
            raise _too_large()
    return Reply(response.status_code, headers, bytes(body))


async def _end(chunks: AsyncIterator[bytes]) -> None:
    """Left by an exception, httpx's generators would be dropped half way, and trio warns of each:
    so they are ended from within."""
    left = MAX_BODY
    with anyio.CancelScope() as scope:
        scope.cancel()
        async for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                break  # it never waits, so nothing is delivered to it


def _too_large() -> ExchangeError:
    return ExchangeError(f"the reply is larger than {MAX_BODY} bytes")


def _reason(error: Exception, message: Message) -> str:
    said, cause = str(error), error.__cause__
    while not said and cause is not None:  # on trio only the innermost cause says why TLS failed
        said, cause = str(cause), cause.__cause__ or cause.__context__
    said = mask_text(said, message.secrets)[:500]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


_secrets: ContextVar[tuple[str, ...]] = ContextVar("innocalls_secrets", default=())


def _mask_record(record: logging.LogRecord) -> bool:
    """A filter for httpx's and httpcore's loggers: what they log of our exchanges (a hostile
    reply can repeat our headers) is masked. Other people's requests are left alone."""
    if secrets := _secrets.get():
        record.msg, record.args = mask_text(record.getMessage(), secrets), None
    return True


for _name in (
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
):
    logging.getLogger(_name).addFilter(_mask_record)
