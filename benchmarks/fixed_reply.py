"""The target server for machines without nginx: fixed replies on httptools' parser.

`python -m benchmarks.fixed_reply PORT TLS_PORT CERTIFICATE KEY`, on uvloop.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import cast

import uvloop
from httptools import HttpRequestParser

from benchmarks.replies import REPLIES

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_REPLIES = {path.encode(): _HEAD % len(body) + body.encode() for path, body in REPLIES.items()}


class _FixedReply(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = HttpRequestParser(self)
        self._path = b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_message_complete(self) -> None:
        self._transport.write(_REPLIES[self._path])


async def _serve(port: str, tls_port: str, certificate: str, key: str) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    await loop.create_server(_FixedReply, "127.0.0.1", int(port), backlog=1024)
    await loop.create_server(_FixedReply, "127.0.0.1", int(tls_port), ssl=tls, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(*sys.argv[1:]))
