"""Small servers for tests, on raw sockets: they parse requests, and misbehave, by themselves.

Each runs an asyncio loop in a thread, so that tests on asyncio and on trio meet the same one. They
share no code with the sandbox or the wire module: what they say a request was is a second opinion.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from email.message import Message
from email.parser import BytesParser
from typing import Any, Self, TypeAlias
from urllib.parse import parse_qsl, unquote

from attrs import define, field

__all__ = [
    "Peer",
    "RawServer",
    "Received",
    "Script",
    "black_hole",
    "created",
    "documented",
    "parse_form",
    "raw_reply",
    "unused_port",
    "well_behaved",
]

CREATED_ID = "f2281763-e58a-4817-bc34-4b120c230cfbas"


@define
class Received:
    """One request as it stood on the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    at: float
    connection: int

    def header(self, name: str) -> str | None:
        """The one header of that name; None without one, ValueError if it comes twice."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        if len(found) > 1:
            raise ValueError(f"{name} comes {len(found)} times")
        return found[0] if found else None

    @property
    def segments(self) -> list[str]:
        """The decoded segments of the path, split where a server splits them."""
        return [unquote(part) for part in self.target.partition("?")[0].split("/")[1:]]

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True, strict_parsing=True)

    @property
    def form(self) -> list[tuple[str, str]]:
        return parse_form(self.header("Content-Type") or "", self.body)


def parse_form(content_type: str, body: bytes) -> list[tuple[str, str]]:
    """The fields of a form body, read by the standard library's own parsers."""
    if content_type.startswith("application/x-www-form-urlencoded"):
        return parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    head = f"MIME-Version: 1.0\r\nContent-Type: {content_type}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + body)
    assert message.is_multipart(), content_type
    fields = []
    for part in message.get_payload():
        assert isinstance(part, Message)
        assert part.get_content_disposition() == "form-data"
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        fields.append((str(part.get_param("name", header="content-disposition")), content.decode()))
    return fields


@define
class Peer:
    """The server's end of one connection, for a script to misbehave with."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    server: RawServer
    pending: bytearray = field(factory=bytearray)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(
        self,
        status: int = 200,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        reason: str = "Said",
    ) -> None:
        await self.send(raw_reply(status, body, headers, reason))

    async def drip(self, data: bytes, seconds: float) -> None:
        """Send `data` a byte at a time, for ever if it is long enough."""
        for byte in data:
            await self.send(bytes([byte]))
            await asyncio.sleep(seconds)

    def reset(self) -> None:
        """Close so that the other side meets a connection reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


Script: TypeAlias = Callable[[Peer, Received], Awaitable[None]]


def raw_reply(
    status: int = 200,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    reason: str = "Said",
) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Content-Type": "application/json", "Content-Length": str(len(content))}
    lines |= dict(headers or {})
    head = f"HTTP/1.1 {status} {reason}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return head.encode("latin-1") + b"\r\n" + content


def created(call_id: str = CREATED_ID) -> dict[str, Any]:
    """The document's reply to a create."""
    return {"status": 200, "success": True, "data": {"call_id": call_id}}


def documented(request: Received) -> dict[str, Any]:
    """A success of the document's form for any operation."""
    if request.method == "POST":
        return created(f"id-{dict(request.form)['first_callee_number']}")
    if "/call/status" in request.target:
        status = {"callStatus": "completed", "callId": dict(request.query)["call_id"]}
        return {"status": 200, "success": True, "data": {"callStatus": status}}
    return {"status": 200, "success": True, "data": {"message": "Call deleted successfully"}}


async def well_behaved(peer: Peer, request: Received) -> None:
    await peer.reply(200, documented(request))


@define
class RawServer:
    """A server on 127.0.0.1 that lets `script` answer each request it has read whole.

    `received` has the requests, `seen` every byte by connection (those of unfinished requests
    too), `most_open` the most connections that were open at once, by the kernel's account.
    `idle` closes a connection that has had no request for so many seconds.
    """

    script: Script = well_behaved
    tls: ssl.SSLContext | None = None
    idle: float | None = None
    received: list[Received] = field(factory=list)
    seen: dict[int, bytearray] = field(factory=dict)
    accepted: int = 0
    most_open: int = 0
    port: int = 0
    failures: list[BaseException] = field(factory=list)
    _peers: dict[int, Peer] = field(factory=dict)
    _started: threading.Event = field(factory=threading.Event)
    _loop: asyncio.AbstractEventLoop | None = None
    _stopped: asyncio.Event | None = None
    _thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/api/v1"

    @property
    def everything_seen(self) -> bytes:
        return b"".join(bytes(data) for data in self.seen.values())

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stopped is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
        if self.failures:
            raise self.failures[0]

    async def _run(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, backlog=1024, ssl=self.tls, limit=2**20
        )
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stopped.wait()
        server.close()
        await asyncio.sleep(0.01)  # a connection that was just accepted gets its task
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        peer = Peer(reader, writer, self.accepted, self)
        self._peers[peer.number] = peer
        self.seen[peer.number] = bytearray()
        self.most_open = max(self.most_open, self.open_connections)
        try:
            while (request := await self._read(peer)) is not None:
                self.received.append(request)
                await self.script(peer, request)
                if writer.is_closing():
                    break
        except (OSError, EOFError, ssl.SSLError, asyncio.CancelledError):
            pass
        except BaseException as failure:
            self.failures.append(failure)
        finally:
            del self._peers[peer.number]
            writer.transport.abort()

    @property
    def open_connections(self) -> int:
        """Connections that the client has not closed: a hang-up that this server has not read yet
        counts as closed."""
        poll = select.poll()
        for peer in self._peers.values():
            sock = peer.writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                poll.register(sock.fileno(), select.POLLRDHUP)
        return len(self._peers) - len(poll.poll(0))

    async def _read(self, peer: Peer) -> Received | None:
        pending = peer.pending
        while (end := pending.find(b"\r\n\r\n")) < 0:
            if not await self._more(peer):
                return None
        lines = pending[:end].decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ")
        assert version == "HTTP/1.1"
        pairs = (line.partition(":") for line in lines[1:])
        headers = [(name, value.strip()) for name, _, value in pairs]
        request = Received(method, target, headers, b"", time.monotonic(), peer.number)
        assert request.header("Transfer-Encoding") is None
        del pending[: end + 4]
        length = int(request.header("Content-Length") or 0)
        while len(pending) < length:
            if not await self._more(peer):
                return None
        request.body = bytes(pending[:length])
        del pending[:length]
        return request

    async def _more(self, peer: Peer) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(None if peer.pending else self.idle):
                data = await peer.reader.read(2**16)
                peer.pending += data
                self.seen[peer.number] += data
                return bool(data)
        return False


def unused_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def black_hole() -> Iterator[str]:
    """The address of a host that drops every packet: a listener whose backlog is full, so that
    the kernel answers no further connection."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1"
