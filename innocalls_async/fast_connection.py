"""One connection of the fast transport: the bytes of one exchange after another."""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import httpx

try:
    from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
except ImportError:
    raise ImportError(
        'the fast transport needs httptools: pip install "innocalls-async[fast]"'
    ) from None

from innocalls_async.transport import MAX_BODY

if TYPE_CHECKING:
    from innocalls_async.fast import FastTransport

__all__ = ["FRAMING", "Answer", "Connection", "PlainConnection"]

_Headers: TypeAlias = list[tuple[bytes, bytes]]
Answer: TypeAlias = tuple[int, _Headers, bytes]

# For all the heads of one reply, the informational ones before it too. nginx and Apache send a
# few hundred bytes; h11 stops at 100 KiB a head.
_MAX_HEAD: Final = 64 * 1024
# What one read takes at most: far more than any documented reply.
_BUFFER: Final = 16 * 1024
# Idle for longer than this, a connection is looked at before it is used again (1.6 us).
_LOOK_AFTER: Final = 0.005
FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


class Connection(asyncio.Protocol):
    """One connection: the exchange under way on it, or how long it has been idle."""

    _transport: asyncio.Transport

    def __init__(
        self,
        pool: FastTransport,
        loop: asyncio.AbstractEventLoop,
        free: list[Connection],
    ) -> None:
        self.idle_since = loop.time()
        self._pool = pool
        self._loop = loop
        self._free = free
        self._is_connected = False
        self._waiting: asyncio.Future[Answer] | None = None
        self._answer: Answer | None = None
        self._is_head = False
        self._keep = False
        self._received = 0
        self._head: _Headers | None = None
        self._headers: _Headers = []
        self._body: list[bytes] = []
        # httptools calls this for each piece of a body; a built-in method costs the least.
        self.on_body = self._body.append
        self._parser = HttpResponseParser(self)

    async def exchange(
        self,
        data: bytes,
        seconds: float | None = None,
        *,
        is_head: bool = False,
        sending: Callable[[], None] | None = None,
    ) -> Answer:
        """Write `data` and return the reply. `sending` is called immediately before."""
        loop = self._loop
        waiting: asyncio.Future[Answer] = loop.create_future()
        self._waiting = waiting
        self._answer = self._head = None
        self._received = 0
        self._is_head = is_head
        timer = None if seconds is None else loop.call_later(seconds, self._expire)
        try:
            if sending is not None:
                sending()
            self._transport.write(data)
            return await waiting
        except BaseException:
            # After a reply the connection may already be someone else's.
            if self._waiting is waiting:
                self._waiting = None
                self.abort()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _expire(self) -> None:
        if self._transport.get_write_buffer_size():
            self.fail(httpx.WriteTimeout("the request was not sent in time"))
        self.fail(httpx.ReadTimeout("no whole reply in time"))

    @property
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def is_usable(self, now: float) -> bool:
        if self._transport.is_closing():
            return False
        # The loop reports an EOF in the turn after it came, so one that came while the program
        # was busy elsewhere is still unread. That takes a while to happen: requests in quick
        # succession need not pay for the look.
        return now - self.idle_since < _LOOK_AFTER or not _is_readable(self._transport)

    def abort(self) -> None:
        if self._is_connected:
            self._transport.abort()

    def fail(self, error: httpx.TransportError) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
        self.abort()

    def _finish(self) -> None:
        waiting, self._waiting = self._waiting, None
        # A reply that overtook its request leaves the rest of the request in the way.
        if self._keep and not self._transport.get_write_buffer_size():
            self.idle_since = self._loop.time()
            self._free.append(self)
            self._pool.wake()
        else:
            self.abort()
        if waiting is not None and self._answer is not None and not waiting.done():
            waiting.set_result(self._answer)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio and uvloop have set TCP_NODELAY.
        self._transport = cast(asyncio.Transport, transport)
        self._is_connected = True

    def data_received(self, data: bytes | memoryview) -> None:
        if self._waiting is None:
            return self.abort()  # nobody asked
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            return self.fail(httpx.RemoteProtocolError("the server switched protocols"))
        except HttpParserError as error:
            if self._answer is None:
                return self.fail(httpx.RemoteProtocolError(str(error)))
            self._keep = False
        if self._received > _MAX_HEAD and self._is_too_large():
            return self.fail(httpx.RemoteProtocolError("the reply is too large"))
        return None if self._answer is None else self._finish()

    def eof_received(self) -> None:
        if self._waiting is not None and self._ends_with_connection():
            self._complete(keep=False)
            self._finish()
        where = "within" if self._received else "before"
        self.fail(httpx.RemoteProtocolError(f"the server closed the connection {where} its reply"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._free:
            self._free.remove(self)
        kind = httpx.WriteError if isinstance(exc, BrokenPipeError) else httpx.ReadError
        self.fail(kind(str(exc or "the connection was closed")))
        self._pool.discard(self)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._answer is not None:
            self._keep = False  # bytes after the reply

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._answer is None:
            # What comes from now on are trailers, which nobody asked for.
            self._head, self._headers = self._headers, []
            if self._is_head and self._parser.get_status_code() >= 200:
                self._complete(keep=False)  # the parser would wait for a body

    def on_message_complete(self) -> None:
        self._headers.clear()
        if self._answer is not None:
            return
        if self._parser.get_status_code() < 200:
            self._head = None
        else:
            self._complete(keep=self._parser.should_keep_alive())

    def _complete(self, *, keep: bool) -> None:
        self._answer = (self._parser.get_status_code(), self._head or [], b"".join(self._body))
        self._keep = keep
        self._body.clear()

    def _is_too_large(self) -> bool:
        if self._answer is None:
            # Chunks of a byte, trailers and the like are counted, so this is an end to them all.
            return self._head is None or self._received > MAX_BODY + _MAX_HEAD
        _, head, body = self._answer
        return (
            len(body) > MAX_BODY or sum(len(name) + len(value) for name, value in head) > _MAX_HEAD
        )

    def _ends_with_connection(self) -> bool:
        """Whether an EOF now is the proper end of the reply (RFC 9112, 6.3 and 9.8)."""
        if self._head is None or self._parser.get_status_code() < 200:
            return False
        if any(name.lower() in FRAMING for name, _ in self._head):
            return False
        tls = self._transport.get_extra_info("ssl_object")
        return tls is None or _has_close_notify(tls)


class PlainConnection(Connection, asyncio.BufferedProtocol):
    """Without TLS the event loop reads into our buffer.

    Else asyncio allocates 256 KiB for each read, which costs more than all of the parsing. With
    TLS it must not: asyncio then reads one buffer of what was decrypted and, if the server closed
    the connection meanwhile, drops the rest (seen in 3.11 and 3.13).
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._buffer = memoryview(bytearray(_BUFFER))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self._buffer[:nbytes])


def _has_close_notify(tls: ssl.SSLObject) -> bool:
    try:
        return not tls.read(1)
    except ssl.SSLError:
        return False  # it would wait for more: the connection was cut


def _is_readable(transport: asyncio.Transport) -> bool:
    sock = transport.get_extra_info("socket").fileno()
    if not hasattr(select, "poll"):  # Windows, where `select` takes any socket
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
