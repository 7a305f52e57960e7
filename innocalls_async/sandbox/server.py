"""The sandbox on a port: uvicorn in a thread, with its own event loop."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio
import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.h11_impl import H11Protocol

from innocalls_async.sandbox.asgi import CLOSE
from innocalls_async.sandbox.routes import PREFIX

Parser = Literal["auto", "h11"]

_BACKLOG = 2048  # uvicorn's own default
_KEEP_ALIVE_SECONDS = 75  # nginx's default


class _Closable(asyncio.Protocol):
    """Lets the application close its connection: the state is copied into every scope."""

    app_state: dict[str, Any]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.app_state = {CLOSE: transport.close}


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Abort what is open; uvicorn's own shutdown would wait for a stalled reply to end."""
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        while self.server_state.connections or self.server_state.tasks:
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)


@asynccontextmanager
async def serve(app: Starlette, *, host: str, port: int, http: Parser) -> AsyncIterator[str]:
    """Serve while the context lasts; enters with the API's base URL."""
    listener = _listen(host, port)
    server = _build_server(app, http)
    # Connections made before the thread accepts them wait in the listener's backlog.
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield _base_url(listener)
    finally:
        server.should_exit = True
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(thread.join)


def run(app: Starlette, *, host: str, port: int, on_ready: Callable[[str], object] | None) -> None:
    """Serve until a signal ends it."""
    listener = _listen(host, port)
    if on_ready is not None:
        on_ready(_base_url(listener))
    _build_server(app, "auto").run([listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def _base_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{PREFIX}"


def _build_server(app: Starlette, http: Parser) -> _Server:
    protocol = H11Protocol if http == "h11" else AutoHTTPProtocol
    config = uvicorn.Config(
        app,
        http=type("SandboxProtocol", (_Closable, protocol), {}),
        ws="none",
        interface="asgi3",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        log_level="warning",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
    return _Server(config)
