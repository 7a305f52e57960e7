"""Fixtures for pytest, under pytest-asyncio, anyio or none.

They are plain functions, so no async plugin has to agree to run them, and nothing is imported
before a test asks for one: pytest loads this module in every run, of every project.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import respx

    from innocalls_async import AsyncBridgeClient
    from innocalls_async.sandbox import Sandbox
    from innocalls_async.testing import SandboxServer


@pytest.fixture
def innocalls_sandbox() -> Sandbox:
    """A local service that follows the API document: `.account` is what really happened,
    `.fail_next("503")` breaks the next request, `.advance(seconds)` moves its clock.

    Override it to have another: the client and the server fixture are on this one.
    """
    from innocalls_async.sandbox import Sandbox

    return Sandbox()


@pytest.fixture
def innocalls_client(innocalls_sandbox: Sandbox) -> Iterator[AsyncBridgeClient]:
    """A client on `innocalls_sandbox`, in process: no limiter, and retries that do not wait."""
    from innocalls_async.testing import sandbox_client

    client = sandbox_client(innocalls_sandbox)
    yield client
    _finish(client.aclose())


@pytest.fixture
def innocalls_server(
    innocalls_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SandboxServer]:
    """`innocalls_sandbox` on a port: `.base_url`, `.token`, `.sandbox`. The environment says so
    too, so that a client which the program under test makes by itself goes there."""
    from anyio.from_thread import start_blocking_portal

    from innocalls_async.testing import TEST_TOKEN, SandboxServer

    token = innocalls_sandbox.token or TEST_TOKEN
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(innocalls_sandbox.serve()) as base_url,
    ):
        monkeypatch.setenv("INNOCALLS_BASE_URL", base_url)
        monkeypatch.setenv("INNOCALLS_TOKEN", token)
        yield SandboxServer(innocalls_sandbox, base_url, token)


@pytest.fixture
def innocalls_router(monkeypatch: pytest.MonkeyPatch) -> Iterator[respx.MockRouter]:
    """A respx router with the document's replies, on the service's own address, and a token in
    the environment; see `innocalls_async.testing.document_router`."""
    from innocalls_async.testing import TEST_TOKEN, document_router

    monkeypatch.setenv("INNOCALLS_TOKEN", TEST_TOKEN)
    monkeypatch.delenv("INNOCALLS_BASE_URL", raising=False)
    with document_router() as router:
        yield router


def _finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run what never waits to its end: closing a client that has no socket needs no loop."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("closing the client in process had to wait, which it must not")
