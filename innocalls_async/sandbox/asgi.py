"""The sandbox as an ASGI application."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import attrs
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from innocalls_async.sandbox.exchange import Ending, Reply, Request

CLOSE = "innocalls.sandbox.close"
"""The key in a scope's state of a callable that closes the connection. ASGI has no such thing:
the sandbox's own server provides it, and under another server a dropped reply is a 500."""


def build_app(answer: Callable[[Request], Reply]) -> Starlette:
    """The application that hands every request to `answer`.

    One route takes all: the order of throttle, faults and routing is the service's own.
    """
    return Starlette(routes=[Route("/{path:path}", _Endpoint(answer))])


@attrs.frozen
class _Endpoint:
    answer: Callable[[Request], Reply]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        incoming = StarletteRequest(scope, receive)
        try:
            body = await incoming.body()
        except ClientDisconnect:
            return
        reply = self.answer(_read_request(incoming, body))
        if reply.delay and not await _stays(receive, reply.delay):
            return
        await _Carried(reply)(scope, receive, send)


class _Carried(Response):
    """Does with the connection what the reply says."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.body, reply.status, reply.headers)
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._reply.ending is Ending.WHOLE:
            await super().__call__(scope, receive, send)
            return
        if self._reply.ending is Ending.CUT:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            body = self._reply.sent_body
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await _close(scope, receive)


def _read_request(incoming: StarletteRequest, body: bytes) -> Request:
    path = incoming.scope["raw_path"].decode("latin-1")
    query = incoming.scope["query_string"].decode("latin-1")
    return Request(incoming.method, path, query, dict(incoming.headers), body)


async def _stays(receive: Receive, seconds: float) -> bool:
    """Wait; False when the client left meanwhile."""
    with anyio.move_on_after(seconds):
        await receive()
        return False
    return True


async def _close(scope: Scope, receive: Receive) -> None:
    close = scope.get("state", {}).get(CLOSE)
    if close is None:
        raise ConnectionAbortedError("this server cannot close a connection without a reply")
    close()
    # The server must see the connection gone before the application returns, or it would
    # answer a 500 of its own.
    await receive()
