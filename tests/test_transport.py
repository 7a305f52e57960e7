"""One attempt on the wire: what is proof that nothing was sent, and what is let through."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Self
from unittest.mock import create_autospec

import anyio
import anyio.lowlevel
import httpcore
import httpx
import pytest
from scripted import FIRST, TOKEN, Script, Step, a_client, a_request, created, reply
from servers import Peer, RawServer, Received, raw_reply, unused_port

from innocalls_async import (
    AsyncBridgeClient,
    DeadlineExceededError,
    NotSentError,
    OutcomeUnknownError,
    ResponseError,
    RetryPolicy,
    ValidationError,
)
from innocalls_async.clock import current_time
from innocalls_async.transport import (
    MAX_BODY,
    Attempt,
    ClientExchanger,
    Exchanger,
    Pool,
    TransportExchanger,
    fast_transport,
)

pytestmark = pytest.mark.anyio

ONCE = RetryPolicy(attempts=1)
SOON = datetime(2030, 4, 23, 10, 30, tzinfo=UTC)


def traced(*steps: str, error: Exception | None = None, method: bytes = b"POST") -> Step:
    """A transport's steps, as httpcore reports them, and how it ends."""

    async def play(request: httpx.Request) -> httpx.Response:
        for step in steps:
            sent = httpcore.Request(method, str(request.url))
            await request.extensions["trace"](step, {"request": sent})
        raise error or httpx.ReadError("reset")

    return play


CONNECTING = "connection.connect_tcp.started"
SENDING = "http11.send_request_headers.started"


class TestEvidence:
    @pytest.mark.parametrize(
        "step",
        [
            httpx.ConnectError("refused"),
            httpx.ConnectTimeout("slow"),
            httpx.PoolTimeout("full"),
            httpx.ProxyError("no"),
            httpx.UnsupportedProtocol("gopher"),
            traced(CONNECTING),
            traced(CONNECTING, "connection.start_tls.started"),
            traced(CONNECTING, error=OSError("no route")),
            traced(CONNECTING, SENDING, method=b"CONNECT"),
        ],
    )
    async def test_nothing_was_sent(self, step: Step) -> None:
        """By the exception's meaning, or because the connection was never there."""
        client, _ = a_client(step, retry=ONCE)
        async with client:
            with pytest.raises(
                NotSentError, match=r"^create: nothing was sent to https://api\S+: .*\w+: \w+"
            ):
                await client.bridge(a_request())

    @pytest.mark.parametrize(
        "step",
        [
            httpx.ReadError("reset"),
            httpx.WriteError("reset"),
            httpx.ReadTimeout("slow"),
            httpx.RemoteProtocolError("garbage"),
            httpx.TransportError(""),
            OSError("a transport's own"),
            AssertionError("a mock's own"),
            traced(CONNECTING, SENDING),
            traced(CONNECTING, "http2.send_request_headers.started"),
            traced(CONNECTING, SENDING, error=httpx.ConnectError("late")),
            traced(SENDING, CONNECTING),
        ],
    )
    async def test_something_may_have_been_sent(self, step: Step) -> None:
        """Wherever there is a doubt, there is one."""
        client, _ = a_client(step, retry=ONCE)
        async with client:
            with pytest.raises(OutcomeUnknownError) as caught:
                await client.bridge(a_request())
        is_timeout = isinstance(step, httpx.TimeoutException)
        assert isinstance(
            caught.value.cause, DeadlineExceededError if is_timeout else ResponseError
        )

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (httpx.ReadError(f"{FIRST} {TOKEN}"), "ReadError: *********789 ***"),
            (httpx.ReadError(""), "ReadError"),
            (OSError(5, "broken"), r"OSError: \[Errno 5\] broken"),
        ],
    )
    async def test_the_reason_is_fit_to_be_shown(self, error: Exception, said: str) -> None:
        """What the library said is repeated without secrets."""
        client, _ = a_client(error, retry=ONCE)
        async with client:
            with pytest.raises(ResponseError) as caught:
                await client.edit("id-1", a_request(call_time=SOON))
        assert str(caught.value).endswith(said.replace("\\", ""))

    async def test_a_silent_error_says_what_its_cause_said(self) -> None:
        """An exception without text is explained by the one behind it."""
        error = httpx.ConnectError("")
        error.__cause__ = OSError("")
        error.__cause__.__context__ = ValueError("certificate expired")
        client, _ = a_client(error, retry=ONCE)
        async with client:
            with pytest.raises(NotSentError, match=r"ConnectError: certificate expired$"):
                await client.delete("id-1")


async def chunks(size: int, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size
        await anyio.lowlevel.checkpoint()


class TestReplies:
    async def test_one_above_a_mebibyte_is_cut_off(self) -> None:
        """The rest of it is not read, and the answer counts as lost."""
        served = 0

        async def endless(request: httpx.Request) -> httpx.Response:
            async def stream() -> AsyncIterator[bytes]:
                nonlocal served
                async for chunk in chunks(2**16, 1000):
                    served += 1
                    yield chunk

            return httpx.Response(200, content=stream())

        client, _ = a_client(endless, retry=ONCE)
        async with client:
            with pytest.raises(ResponseError, match=f"larger than {MAX_BODY} bytes"):
                await client.delete("id-1")
        assert served <= 18

    async def test_one_without_end_that_never_waits_is_left(self) -> None:
        """No cancellation reaches it, so it is not read on and on."""

        class Endless(httpx.AsyncByteStream):
            served = 0

            def __aiter__(self) -> Self:
                return self

            async def __anext__(self) -> bytes:
                self.served += 1
                return b"x" * 2**16

        stream = Endless()

        async def endless(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, stream=stream)

        client, _ = a_client(endless, retry=ONCE)
        async with client:
            with pytest.raises(ResponseError, match="larger than"):
                await client.delete("id-1")
        assert stream.served < 50

    async def test_one_of_a_mebibyte_is_read(self) -> None:
        """The cap itself is no fault."""

        async def whole(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, content=chunks(MAX_BODY // 16, 16))

        client, _ = a_client(whole)
        async with client:
            await client.delete("id-1")

    async def test_a_hook_of_the_callers_may_have_read_it(self) -> None:
        """What an httpx event hook consumed is there all the same, and capped."""

        async def read(response: httpx.Response) -> None:
            await response.aread()

        script = Script([created("id-3"), reply(200, b"x" * (MAX_BODY + 1))])
        hooks: Any = {"response": [read]}
        async with (
            httpx.AsyncClient(transport=script, event_hooks=hooks) as http_client,
            AsyncBridgeClient(TOKEN, http_client=http_client, retry=ONCE) as client,
        ):
            assert (await client.bridge(a_request())).call_id == "id-3"
            with pytest.raises(OutcomeUnknownError, match="larger than"):
                await client.bridge(a_request())


class TestCallersClient:
    async def test_its_auth_redirects_and_defaults_are_left_out(self) -> None:
        """The token goes to the configured origin only, and with our headers."""
        script = Script([reply(302, b"", {"Location": "https://elsewhere.example/"})])
        async with (
            httpx.AsyncClient(
                transport=script, follow_redirects=True, auth=("a", "b"), headers={"X-Own": "1"}
            ) as http_client,
            AsyncBridgeClient(TOKEN, http_client=http_client) as client,
        ):
            with pytest.raises(Exception, match="answered 302"):
                await client.bridge(a_request())
        (request,) = script.requests
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        assert "X-Own" not in request.headers

    async def test_a_hook_that_raises_for_a_status_hides_no_answer(self) -> None:
        """The service said 422, and so do we; the body stayed with the hook."""

        async def check(response: httpx.Response) -> None:
            response.raise_for_status()

        transport = Script([reply(422, {"message": "no"})])
        hooks = {"response": [check]}
        async with (
            httpx.AsyncClient(transport=transport, event_hooks=hooks) as http_client,
            AsyncBridgeClient(TOKEN, http_client=http_client) as client,
        ):
            with pytest.raises(ValidationError):
                await client.bridge(a_request())
        assert len(transport.requests) == 1

    async def test_a_status_raised_with_its_body_on_the_way_is_timed(self) -> None:
        """A transport that raises for a status may leave the body to be read; it may never end."""

        class Stuck(httpx.AsyncByteStream):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                await anyio.sleep_forever()
                yield b""

        async def raising(request: httpx.Request) -> httpx.Response:
            httpx.Response(422, request=request, stream=Stuck()).raise_for_status()
            raise AssertionError("a 422 is raised")

        client, _ = a_client(raising, retry=ONCE, timeout=2.0)
        async with client:
            began = current_time()
            with pytest.raises(OutcomeUnknownError, match="no whole answer in time"):
                await client.bridge(a_request())
            assert current_time() - began == pytest.approx(2.0, abs=0.5)

    async def test_a_hook_may_trace_too(self) -> None:
        """One that wraps our trace is told of every step."""
        steps: list[str] = []

        async def wrap(request: httpx.Request) -> None:
            ours = request.extensions["trace"]

            async def both(step: str, info: Any) -> None:
                steps.append(step)
                await ours(step, info)

            request.extensions = {**request.extensions, "trace": both}

        with RawServer() as server:
            async with (
                httpx.AsyncClient(event_hooks={"request": [wrap]}) as http_client,
                AsyncBridgeClient(TOKEN, base_url=server.url, http_client=http_client) as client,
            ):
                await client.bridge(a_request())
        assert steps[-1] == "http11.response_closed.complete"

    async def test_a_closed_one_is_a_mistake(self) -> None:
        """It is said to be closed, at once, and the create is not in doubt."""
        http_client = httpx.AsyncClient(transport=Script([created()]))
        await http_client.aclose()
        async with AsyncBridgeClient(TOKEN, http_client=http_client, retry=ONCE) as client:
            with pytest.raises(RuntimeError, match=r"http_client .* is closed"):
                await client.bridge(a_request())


class TestPool:
    async def test_connections_are_used_again(self) -> None:
        """One after the other, all go over the same connection."""
        with RawServer() as server:
            async with AsyncBridgeClient(TOKEN, base_url=server.url, limiter=None) as client:
                for _ in range(5):
                    await client.bridge(a_request())
        assert server.accepted == 1

    async def test_no_more_are_opened_than_allowed(self) -> None:
        """Forty at once over four connections."""
        with RawServer() as server:
            async with (
                AsyncBridgeClient(
                    TOKEN, base_url=server.url, limiter=None, max_connections=4
                ) as client,
                anyio.create_task_group() as group,
            ):
                for _ in range(40):
                    group.start_soon(client.bridge, a_request())
        assert server.accepted == server.most_open == 4

    async def test_a_connection_that_broke_is_not_used_again(self) -> None:
        """Whatever state it is in, no other request meets it."""

        async def first_is_reset(peer: Peer, request: Received) -> None:
            if peer.number == 1:
                peer.reset()
            else:
                await peer.send(raw_reply(200, {"success": True}))

        with RawServer(first_is_reset) as server:
            async with AsyncBridgeClient(TOKEN, base_url=server.url, limiter=None) as client:
                await client.delete("id-1")
        assert server.accepted == 2

    async def test_more_than_a_reply_ends_the_connection(self) -> None:
        """Bytes behind a reply never answer the next request."""

        async def twice(peer: Peer, request: Received) -> None:
            await peer.send(raw_reply(200, {"success": True}) + raw_reply(500, {}))

        with RawServer(twice) as server:
            async with AsyncBridgeClient(TOKEN, base_url=server.url, limiter=None) as client:
                await client.delete("id-1")
                await client.delete("id-2")
        assert server.accepted == 2

    async def test_idle_connections_are_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a volley, those that were idle for long are closed by the next one's end."""
        monkeypatch.setattr("innocalls_async.transport.IDLE_SECONDS", 0.05)
        with RawServer() as server:
            async with AsyncBridgeClient(TOKEN, base_url=server.url, limiter=None) as client:
                async with anyio.create_task_group() as group:
                    for _ in range(6):
                        group.start_soon(client.bridge, a_request())
                await anyio.sleep(0.1)
                await client.bridge(a_request())
                await anyio.sleep(0.02)
                assert server.open_connections == 1

    async def test_a_client_closed_under_a_request_leaves_no_connection(self) -> None:
        """The one that is on its way back is closed as it ends."""

        async def slow(peer: Peer, request: Received) -> None:
            await asyncio.sleep(0.1)
            await peer.send(raw_reply(200, {"success": True}))

        with RawServer(slow) as server:
            client = AsyncBridgeClient(TOKEN, base_url=server.url, limiter=None)
            async with anyio.create_task_group() as group:
                group.start_soon(client.delete, "id-1")
                await anyio.sleep(0.05)
                await client.aclose()
            await anyio.sleep(0.02)
            assert server.open_connections == 0

    async def test_refused_is_not_sent(self) -> None:
        """A port where nobody listens is the plainest case."""
        url = f"http://127.0.0.1:{unused_port()}"
        async with AsyncBridgeClient(TOKEN, base_url=url, retry=ONCE) as client:
            with pytest.raises(NotSentError):
                await client.bridge(a_request())


class TestLoggers:
    async def test_what_httpx_logs_of_us_is_masked(self, caplog: pytest.LogCaptureFixture) -> None:
        """A reply that repeats our headers is not logged as it is."""
        caplog.set_level(logging.DEBUG)

        async def echo(peer: Peer, request: Received) -> None:
            sent = request.header("Authorization") or ""
            headers = {"X-Echo": f"{sent} {FIRST}"}
            await peer.send(raw_reply(200, {"success": True, "data": {"call_id": "a"}}, headers))

        with RawServer(echo) as server:
            async with AsyncBridgeClient(TOKEN, base_url=server.url) as client:
                await client.bridge(a_request())
        assert any(record.name.startswith("httpcore") for record in caplog.records)
        assert "X-Echo" in caplog.text
        assert TOKEN not in caplog.text
        assert FIRST not in caplog.text

    async def test_other_peoples_requests_are_left_alone(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The program's own use of httpx is logged as ever."""
        caplog.set_level(logging.INFO)
        transport = httpx.MockTransport(lambda request: httpx.Response(200))
        async with httpx.AsyncClient(transport=transport) as http_client:
            await http_client.get(f"https://example.com/{FIRST}")
        assert FIRST in caplog.text


def test_an_attempt_may_be_nobodys() -> None:
    """Without an admission behind it, its first byte is noted all the same."""
    attempt = Attempt(timeout=1.0)
    attempt.sending()
    assert attempt.sent


def test_the_three_ways_to_send_are_exchangers() -> None:
    """What the client is built on is the protocol, and nothing of httpx."""
    exchangers = Pool(), TransportExchanger(Script()), ClientExchanger(httpx.AsyncClient())
    assert all(isinstance(exchanger, Exchanger) for exchanger in exchangers)


def test_the_fast_transport_is_an_httpx_transport() -> None:
    """It is made without I/O, and takes a TLS context."""
    transport = fast_transport(max_connections=3, verify=ssl.create_default_context())
    assert isinstance(transport, httpx.AsyncBaseTransport)


async def test_an_exchanger_of_ours_is_used_as_it_is() -> None:
    """A transport that carries messages itself is not wrapped."""

    class Direct(httpx.AsyncBaseTransport):
        exchanges = 0

        async def exchange(self, origin: str, message: Any, attempt: Any) -> Any:
            self.exchanges += 1
            script = TransportExchanger(Script([created("direct")]))
            return await script.exchange(origin, message, attempt)

    direct = Direct()
    async with AsyncBridgeClient(TOKEN, transport=direct) as client:
        assert (await client.bridge(a_request())).call_id == "direct"
    assert direct.exchanges == 1


class TestClock:
    async def test_it_is_the_event_loops(self) -> None:
        """On asyncio and on trio, what anyio says."""
        assert current_time() == pytest.approx(anyio.current_time(), abs=0.1)

    async def test_on_a_loop_with_a_coarse_clock_it_is_the_monotonic_one(self) -> None:
        """A loop that is none of asyncio's own (uvloop) may stand still for a whole turn."""
        loop = create_autospec(asyncio.AbstractEventLoop)
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(loop)
        try:
            assert current_time() == pytest.approx(time.monotonic(), abs=0.1)
        finally:
            asyncio._set_running_loop(before)
