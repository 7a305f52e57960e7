"""The sandbox as an httpx transport, without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
import anyio.lowlevel
import attrs
import httpx

from innocalls_async.sandbox.exchange import Ending, Reply, Request


@attrs.frozen
class SandboxTransport(httpx.AsyncBaseTransport):
    """Gives each request to `answer`, and fails as httpx's own transport would on a socket."""

    answer: Callable[[Request], Reply]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The reply, or the `httpx.TransportError` that stands for a broken connection."""
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        headers = {k.lower().decode("ascii"): v.decode("latin-1") for k, v in request.headers.raw}
        body = await request.aread()
        # As on a socket, a cancelled caller may find its request not sent, or carried out.
        await anyio.lowlevel.checkpoint()
        reply = self.answer(Request(request.method, path, query, headers, body))
        await _wait(reply.delay, request)
        if reply.ending is Ending.DROPPED:
            message = "Server disconnected without sending a response."
            raise httpx.RemoteProtocolError(message, request=request)
        return httpx.Response(
            reply.status, headers=reply.raw_headers, stream=_Body(reply), request=request
        )


async def _wait(delay: float, request: httpx.Request) -> None:
    limit = request.extensions.get("timeout", {}).get("read")
    if limit is not None and limit < delay:
        await anyio.sleep(limit)
        raise httpx.ReadTimeout("", request=request)
    await anyio.sleep(delay)


@attrs.frozen
class _Body(httpx.AsyncByteStream):
    reply: Reply

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.reply.sent_body
        if self.reply.ending is Ending.CUT:
            received, expected = len(self.reply.sent_body), len(self.reply.body)
            raise httpx.RemoteProtocolError(
                "peer closed connection without sending complete message body "
                f"(received {received} bytes, expected {expected})"
            )
