"""The clients that are compared, each written as its own documentation says.

A peer is a context manager that opens its client and gives a `Call`: one call put on the books,
from the seven fields to the id read out of the JSON reply. Over TLS all of them trust what
`SSL_CERT_FILE` names, by their own defaults.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from attrs import frozen

from benchmarks.replies import TWILIO_ACCOUNT
from benchmarks.target import Target
from innocalls_async import AsyncBridgeClient, BridgeRequest, TokenBucket
from innocalls_async.transport import fast_transport

__all__ = ["PEERS", "Call", "Peer", "Setup", "ours", "requests"]

Call: TypeAlias = Callable[[], Awaitable[str]]

_PATH: Final = "/api/v1/call/bridge"
_TOKEN: Final = "0123456789abcdef"  # noqa: S105 - of no account
_HEADERS: Final = {"Authorization": f"Bearer {_TOKEN}", "Accept": "application/json"}
_NOON: Final = datetime(2030, 1, 1, 12, tzinfo=UTC)
# More than any client here reaches: every attempt goes through the limiter and none waits.
_NOT_BINDING: Final = 50_000


@frozen
class Setup:
    """What a peer is opened with."""

    target: Target
    connections: int = 100
    over_tls: bool = False

    @property
    def url(self) -> str:
        return self.target.url(over_tls=self.over_tls)


Peer: TypeAlias = Callable[[Setup], AbstractAsyncContextManager[Call]]


def _forms() -> Iterator[dict[str, str]]:
    for number in itertools.count(20_1120_000_000):
        yield {
            "call_flow_id": "5f2b8c1d9e3a4b6c7d8e9f0a",
            "first_callee_number": str(number),
            "first_callee_name": "Ahmed Hassan",
            "second_callee_number": "201234567890",
            "second_callee_name": "Mona Adel",
            "call_time": "2030-01-01 14:00:00",
            "duration": "5",
        }


def arguments() -> Iterator[dict[str, Any]]:
    """The same calls as what a `BridgeRequest` is made of, without end."""
    for form in _forms():
        yield {**form, "call_time": _NOON, "duration": 5}


def requests() -> Iterator[BridgeRequest]:
    """The same calls as models, without end."""
    return (BridgeRequest(**values) for values in arguments())


@asynccontextmanager
async def _httpx(setup: Setup, module: str = "httpx", *, multipart: bool) -> AsyncIterator[Call]:
    httpx: Any = __import__(module)
    limits = httpx.Limits(
        max_connections=setup.connections, max_keepalive_connections=setup.connections
    )
    url, forms = setup.url + _PATH, _forms()
    async with httpx.AsyncClient(limits=limits, timeout=30, headers=_HEADERS) as client:

        async def call() -> str:
            form = next(forms)
            body = (
                {"files": {k: (None, v) for k, v in form.items()}} if multipart else {"data": form}
            )
            reply = await client.post(url, **body)
            reply.raise_for_status()
            return str(reply.json()["data"]["call_id"])

        yield call


def _httpx_by_hand(setup: Setup) -> AbstractAsyncContextManager[Call]:
    return _httpx(setup, multipart=False)


def _httpx_multipart(setup: Setup) -> AbstractAsyncContextManager[Call]:
    return _httpx(setup, multipart=True)


def _httpx2_by_hand(setup: Setup) -> AbstractAsyncContextManager[Call]:
    return _httpx(setup, "httpx2", multipart=False)


@asynccontextmanager
async def _aiohttp(setup: Setup, *, multipart: bool) -> AsyncIterator[Call]:
    import aiohttp  # noqa: PLC0415 - a peer is imported only where it is measured

    url, forms = setup.url + _PATH, _forms()
    connector = aiohttp.TCPConnector(limit=setup.connections)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=_HEADERS
    ) as session:

        async def call() -> str:
            form: Any = next(forms)
            if multipart:
                form = aiohttp.FormData(form, default_to_multipart=True)
            async with session.post(url, data=form) as reply:
                reply.raise_for_status()
                return str((await reply.json())["data"]["call_id"])

        yield call


def _aiohttp_by_hand(setup: Setup) -> AbstractAsyncContextManager[Call]:
    return _aiohttp(setup, multipart=False)


def _aiohttp_multipart(setup: Setup) -> AbstractAsyncContextManager[Call]:
    return _aiohttp(setup, multipart=True)


@asynccontextmanager
async def _twilio(setup: Setup) -> AsyncIterator[Call]:
    # Its client takes no connection limit: aiohttp's default is 100.
    from twilio.http.async_http_client import (  # type: ignore[import-untyped]  # noqa: PLC0415
        AsyncTwilioHttpClient,
    )
    from twilio.rest import Client  # type: ignore[import-untyped]  # noqa: PLC0415

    forms = _forms()
    async with AsyncTwilioHttpClient(timeout=30) as http_client:
        client = Client(TWILIO_ACCOUNT, _TOKEN, http_client=http_client)
        client.api.base_url = setup.url

        async def call() -> str:
            form = next(forms)
            made = await client.calls.create_async(
                to=form["first_callee_number"],
                from_=form["second_callee_number"],
                url="https://example.com/flow",
                caller_id=form["second_callee_name"],
                call_token=form["first_callee_name"],
                call_reason=form["call_flow_id"],
                time_limit=int(form["duration"]),
            )
            return str(made.sid)

        yield call


@asynccontextmanager
async def _telnyx(setup: Setup) -> AsyncIterator[Call]:
    import httpx  # noqa: PLC0415
    from telnyx import AsyncTelnyx, DefaultAsyncHttpxClient  # noqa: PLC0415

    forms = _forms()
    limits = httpx.Limits(
        max_connections=setup.connections, max_keepalive_connections=setup.connections
    )
    http_client = DefaultAsyncHttpxClient(limits=limits, timeout=30)
    async with AsyncTelnyx(
        api_key=_TOKEN, base_url=setup.url + "/v2", http_client=http_client
    ) as client:

        async def call() -> str:
            form = next(forms)
            made = await client.calls.dial(
                connection_id=form["call_flow_id"],
                from_=form["second_callee_number"],
                to=form["first_callee_number"],
                from_display_name=form["second_callee_name"],
                client_state=form["first_callee_name"],
                time_limit_secs=int(form["duration"]) * 60,
                timeout_secs=30,
            )
            assert made.data is not None
            return str(made.data.call_control_id)

        yield call


def ours(setup: Setup, *, fast: bool) -> AsyncBridgeClient:
    """Our client with limiter and retry on, over the default path or the fast one."""
    return AsyncBridgeClient(
        _TOKEN,
        base_url=setup.url + "/api/v1",
        limiter=TokenBucket(_NOT_BINDING),
        max_connections=setup.connections,
        transport=fast_transport(setup.connections) if fast else None,
    )


@asynccontextmanager
async def _ours(setup: Setup, *, fast: bool) -> AsyncIterator[Call]:
    wanted = requests()
    async with ours(setup, fast=fast) as client:

        async def call() -> str:
            return (await client.bridge(next(wanted))).call_id

        yield call


def _ours_default(setup: Setup) -> AbstractAsyncContextManager[Call]:
    return _ours(setup, fast=False)


def _ours_fast(setup: Setup) -> AbstractAsyncContextManager[Call]:
    return _ours(setup, fast=True)


PEERS: Final[Mapping[str, Peer]] = {
    "httpx": _httpx_by_hand,
    "httpx multipart": _httpx_multipart,
    "httpx2": _httpx2_by_hand,
    "aiohttp": _aiohttp_by_hand,
    "aiohttp multipart": _aiohttp_multipart,
    "twilio": _twilio,
    "telnyx": _telnyx,
    "ours default": _ours_default,
    "ours fast": _ours_fast,
}
