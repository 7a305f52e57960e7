"""Callers that leave and applications that stop: no create is lost by it."""

from __future__ import annotations

import asyncio
import json
import logging
import runpy
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from fastapi import BackgroundTasks, FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse
from test_fastapi import FAST, backend, body, raising

from innocalls_async import (
    AsyncBridgeClient,
    BridgeRequest,
    Done,
    InDoubt,
    NotFoundError,
    NotSentError,
    Outcome,
    Refused,
    Scheduled,
    ScheduledCall,
)
from innocalls_async.integrations.fastapi import CancelOnDisconnect, bridge_lifespan
from innocalls_async.sandbox import Sandbox
from innocalls_async.testing import TEST_TOKEN, assert_nobody_twice


@contextmanager
def serving(app: Any, *, patience: int | None = None) -> Iterator[tuple[str, Callable[[], None]]]:
    """The application under uvicorn, on a port; its address, and a function that stops it.
    `patience` is uvicorn's seconds for requests under way at shutdown."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=patience)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)

    def stop() -> None:
        server.should_exit = True
        thread.join()

    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", stop
    finally:
        stop()


def hang_up(address: str, request: bytes, *, after: Callable[[], bool]) -> None:
    """Send a request as a browser does, and go away once `after` is true."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request)
        until(after)


def until(condition: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(1000):
        if condition():
            return
        done.wait(0.01)
    raise AssertionError("it did not come to that within 10 s")


def post(path: str, content: dict[str, Any]) -> bytes:
    text = json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text


class TestGoingAway:
    def test_a_create_on_the_wire_is_accounted_for(self, caplog: pytest.LogCaptureFixture) -> None:
        """A browser leaves while its create is on the wire: the create ends by itself, and its
        outcome is logged and handed to `on_abandoned`."""
        sandbox = Sandbox(latency=0.3)
        abandoned: list[Outcome] = []
        app = backend(
            bridge_lifespan(on_abandoned=abandoned.append, transport=sandbox.transport(), **FAST)
        )
        app.add_middleware(CancelOnDisconnect)
        with caplog.at_level(logging.WARNING, "innocalls_async"), serving(app) as (address, _):
            hang_up(address, post("/calls", body()), after=lambda: sandbox.account.created == 1)
            until(lambda: bool(abandoned))
        (outcome,) = abandoned
        assert isinstance(outcome, Scheduled)
        assert outcome.request == BridgeRequest(**body())
        assert outcome.call_id in sandbox.account.calls
        assert f"on the books as {outcome.call_id}" in caplog.text

    def test_a_failing_callback_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """An `on_abandoned` that raises harms nobody but itself."""

        def fail(_outcome: Outcome) -> None:
            raise LookupError("the callback's own")

        sandbox = Sandbox(latency=0.2)
        sandbox.fail_next("500")
        lifespan = bridge_lifespan(
            on_abandoned=fail, transport=sandbox.transport(), **FAST | {"retry": None}
        )
        app = backend(lifespan)
        app.add_middleware(CancelOnDisconnect)
        with caplog.at_level(logging.WARNING, "innocalls_async"), serving(app) as (address, _):
            seen = sandbox.account.operations
            hang_up(address, post("/calls", body()), after=lambda: seen["create"] == 1)
            until(lambda: "on_abandoned failed" in caplog.text)
        assert "this outcome: refused: create: the service answered 500" in caplog.text
        assert "the callback's own" in caplog.text

    def test_a_long_wait_ends(self) -> None:
        """A handler that polls for minutes stops polling when its browser has left."""
        sandbox = Sandbox()
        app = backend(bridge_lifespan(transport=sandbox.transport(), **FAST))
        app.add_middleware(CancelOnDisconnect)
        with serving(app) as (address, _):
            call_id = httpx.post(f"{address}/calls", json=body()).json()["call_id"]
            path = f"/calls/{call_id}/end?call_flow_id=flow"
            polls = sandbox.account.operations
            hang_up(
                address,
                f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
                after=lambda: polls["status"] > 2,
            )

            def has_stopped() -> bool:
                before = polls["status"]
                threading.Event().wait(0.1)
                return polls["status"] == before

            until(has_stopped)

    def test_background_tasks_are_left_alone(self) -> None:
        """What comes after the response is not cancelled, although the caller is gone by then."""
        done = threading.Event()
        app = FastAPI()

        @app.get("/")
        async def work(tasks: BackgroundTasks) -> str:
            tasks.add_task(later)
            return "started"

        async def later() -> None:
            await anyio.sleep(0.1)
            done.set()

        app.add_middleware(CancelOnDisconnect)
        with serving(app) as (address, _):
            assert httpx.get(address).json() == "started"
            assert done.wait(5)

    def test_errors_and_sockets_pass_the_middleware(self) -> None:
        """The middleware raises what the application raises, and leaves WebSockets to it."""
        app = raising(LookupError("own"))
        app.add_middleware(CancelOnDisconnect)
        with pytest.raises(LookupError, match="own"), TestClient(app) as browser:
            browser.get("/")


CHUNKS = [b"%08d" % number * 8192 for number in range(128)]  # 8 MiB: no buffer holds them


async def chunks() -> AsyncIterator[bytes]:
    for chunk in CHUNKS:
        yield chunk


@pytest.mark.anyio
class TestStreams:
    """A response that is sent piece by piece, through the middleware."""

    async def _serve(self, app: Any, *, says_all_was_sent: bool) -> bytes:
        """What a server sends that is slow, and may call it a disconnect when all is on its way,
        as ASGI lets it."""
        sent: list[bytes] = []
        received: list[dict[str, Any]] = [{"type": "http.request", "body": b""}]
        complete = anyio.Event()

        async def receive() -> dict[str, Any]:
            if received:
                return received.pop()
            await complete.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if says_all_was_sent and not message.get("more_body", True):
                complete.set()
            await anyio.sleep(0.001)
            sent.append(message.get("body", b""))

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "asgi": {}}
        await CancelOnDisconnect(app)(scope, receive, send)  # type: ignore[arg-type]
        return b"".join(sent)

    @pytest.mark.parametrize("says_all_was_sent", [False, True])
    async def test_it_is_sent_whole(self, says_all_was_sent: bool) -> None:
        """Every piece arrives from a server whose `send` waits, and what follows is done."""
        done: list[str] = []

        async def later() -> None:
            await anyio.sleep(0.01)
            done.append("later")

        response = StreamingResponse(chunks(), background=BackgroundTask(later))
        sent = await self._serve(response, says_all_was_sent=says_all_was_sent)
        assert sent == b"".join(CHUNKS)
        assert done == ["later"]

    async def test_afterwards_the_caller_is_gone(self) -> None:
        """Whoever still listens once all was sent hears of a disconnect, as from a server."""
        heard: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"all"})
            await send({"type": "http.response.trailers", "headers": []})
            heard.extend([(await receive())["type"] for _ in range(3)])

        assert await self._serve(app, says_all_was_sent=False) == b"all"
        assert heard == ["http.request", "http.disconnect", "http.disconnect"]


def test_a_slow_reader_gets_everything(caplog: pytest.LogCaptureFixture) -> None:
    """A caller that reads slowly gets the whole of a stream, and the server meets no error."""
    done = threading.Event()
    app = FastAPI()

    @app.get("/")
    async def stream(tasks: BackgroundTasks) -> StreamingResponse:
        return StreamingResponse(chunks(), background=BackgroundTask(done.set))

    app.add_middleware(CancelOnDisconnect)
    got = 0
    with serving(app) as (address, _), httpx.stream("GET", address) as reply:
        for chunk in reply.iter_raw(2**18):
            got += len(chunk)
            threading.Event().wait(0.005)
        assert done.wait(5)
    assert got == sum(map(len, CHUNKS))
    assert "Exception in ASGI application" not in caplog.text


@asynccontextmanager
async def service_client(
    sandbox: Sandbox, abandoned: list[Any], **options: Any
) -> AsyncIterator[AsyncBridgeClient]:
    """The client of a lifespan, by itself."""
    app = Starlette()
    lifespan = bridge_lifespan(
        on_abandoned=abandoned.append, transport=sandbox.transport(), **FAST | options
    )
    async with lifespan(app):
        yield app.state.innocalls_client


@pytest.mark.anyio
class TestAbandoning:
    """One create and who waits for it, on both event loops."""

    async def test_what_was_not_sent_is_not_sent(self) -> None:
        """A create that is cancelled in the line never goes out, and there is nothing to tell."""
        sandbox, abandoned = Sandbox(latency=0.5), []  # type: ignore[var-annotated]
        async with (
            service_client(sandbox, abandoned, max_connections=1) as client,
            anyio.create_task_group() as group,
        ):
            group.start_soon(client.bridge, BridgeRequest(**body(1)))
            await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(0.01):
                await client.bridge(BridgeRequest(**body(2)))
        assert sandbox.account.created == 1
        assert abandoned == []

    async def test_shutdown_waits_for_what_is_on_the_wire(self) -> None:
        """The lifespan ends after the last create did, and its outcome was told by then."""
        sandbox, abandoned = Sandbox(latency=0.2), []  # type: ignore[var-annotated]
        async with service_client(sandbox, abandoned) as client:
            with anyio.move_on_after(0.05) as scope:
                await client.bridge(BridgeRequest(**body()))
            assert scope.cancelled_caught
            assert abandoned == []
        (outcome,) = abandoned
        assert isinstance(outcome, Scheduled)

    async def test_an_abandoned_create_is_not_retried(self) -> None:
        """The attempt on the wire is the last: nobody waits for another."""
        sandbox, abandoned = Sandbox(latency=0.2), []  # type: ignore[var-annotated]
        sandbox.fail_next("500")
        async with service_client(sandbox, abandoned) as client:
            with anyio.move_on_after(0.05):
                await client.bridge(BridgeRequest(**body()))
        (outcome,) = abandoned
        assert isinstance(outcome, Refused)
        assert sandbox.account.operations["create"] == 1

    async def test_an_abandoned_doubt_is_told(self) -> None:
        """If the answer is lost after the caller left, the outcome is a doubt."""
        sandbox, abandoned = Sandbox(latency=0.2), []  # type: ignore[var-annotated]
        sandbox.fail_next("drop")
        async with service_client(sandbox, abandoned) as client:
            with anyio.move_on_after(0.05):
                await client.bridge(BridgeRequest(**body()))
        (outcome,) = abandoned
        assert isinstance(outcome, InDoubt)

    async def test_errors_are_the_clients_own(self) -> None:
        """`bridge` of the lifespan's client raises what that of any client does."""
        sandbox = Sandbox()
        sandbox.fail_next("404")
        async with service_client(sandbox, []) as client:
            with pytest.raises(NotFoundError) as caught:
                await client.bridge(BridgeRequest(**body()))
            assert caught.value.attempts == 1

    async def test_a_caller_who_stays_gets_the_answer(self) -> None:
        """The lifespan ends under a create whose caller still waits: the caller has the answer,
        and `on_abandoned` has not."""
        sandbox, abandoned = Sandbox(latency=0.2), []  # type: ignore[var-annotated]
        calls: list[ScheduledCall] = []

        async def schedule(client: AsyncBridgeClient) -> None:
            calls.append(await client.bridge(BridgeRequest(**body())))

        async with (
            anyio.create_task_group() as group,
            service_client(sandbox, abandoned) as client,
        ):
            group.start_soon(schedule, client)
            await until_created(sandbox, 1)
        assert [call.call_id for call in calls] == list(sandbox.account.calls)
        assert abandoned == []

    async def test_nothing_new_is_sent_at_the_end(self) -> None:
        """A create that waits in the line when the lifespan ends, and one that is begun then,
        are told that nothing was sent."""
        sandbox, abandoned = Sandbox(latency=0.3), []  # type: ignore[var-annotated]
        refused: list[Exception] = []

        async def schedule(number: int) -> None:
            with pytest.raises(NotSentError, match="nothing was sent") as caught:
                await client.bridge(BridgeRequest(**body(number)))
            refused.append(caught.value)

        async with (
            anyio.create_task_group() as group,
            service_client(sandbox, abandoned, max_connections=1) as client,
        ):
            group.start_soon(client.bridge, BridgeRequest(**body(0)))
            await until_created(sandbox, 1)
            group.start_soon(schedule, 1)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(schedule_at_the_end, schedule, 2)
        await schedule(3)
        assert len(refused) == 3
        assert sandbox.account.created == 1
        assert abandoned == []

    async def test_a_cancelled_lifespan_waits(self, caplog: pytest.LogCaptureFixture) -> None:
        """The task of the lifespan is cancelled with a create on the wire: that ends by itself,
        and by then its outcome was logged and told."""
        sandbox, abandoned = Sandbox(latency=0.2), []  # type: ignore[var-annotated]
        with anyio.CancelScope() as scope:
            async with (
                service_client(sandbox, abandoned) as client,
                anyio.create_task_group() as group,
            ):
                group.start_soon(client.bridge, BridgeRequest(**body()))
                await until_created(sandbox, 1)
                scope.cancel()
        (outcome,) = abandoned
        assert isinstance(outcome, Scheduled)
        assert list(sandbox.account.calls) == [outcome.call_id]
        assert f"on the books as {outcome.call_id}" in caplog.text


@pytest.mark.parametrize("times", [1, 3])
def test_a_lifespan_cancelled_by_asyncio_waits(times: int) -> None:
    """asyncio's own cancellation, which no shield keeps out, and again while it is waited for,
    loses nothing either."""
    sandbox, abandoned = Sandbox(latency=0.3), []  # type: ignore[var-annotated]

    async def live() -> None:
        async with service_client(sandbox, abandoned) as client:
            await client.bridge(BridgeRequest(**body()))

    async def main() -> None:
        task = asyncio.create_task(live())
        await until_created(sandbox, 1)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0.02)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    (outcome,) = abandoned
    assert isinstance(outcome, Scheduled)
    assert list(sandbox.account.calls) == [outcome.call_id]


def test_an_event_loop_that_stops_leaves_a_doubt() -> None:
    """Where the loop itself ends, nobody can wait: the creates on the wire are told as doubts."""
    sandbox, abandoned = Sandbox(latency=5), []  # type: ignore[var-annotated]

    async def schedule(client: AsyncBridgeClient) -> None:
        await client.bridge(BridgeRequest(**body(0)))

    async def fan_out(client: AsyncBridgeClient) -> None:
        async for _ in client.bridge_many(BridgeRequest(**body(n)) for n in range(1, 4)):
            pass

    async def live() -> None:
        async with service_client(sandbox, abandoned) as client, anyio.create_task_group() as group:
            group.start_soon(schedule, client)
            group.start_soon(fan_out, client)

    async def main() -> None:
        task = asyncio.create_task(live())
        await until_created(sandbox, 4)
        del task

    asyncio.run(main())
    assert {type(outcome) for outcome in abandoned} == {InDoubt}
    assert {outcome.request for outcome in abandoned} == {
        BridgeRequest(**body(number)) for number in range(4)
    }


async def until_created(sandbox: Sandbox, count: int) -> None:
    await until_true(lambda: sandbox.account.created >= count)


async def until_true(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the sandbox has no event for it
        await anyio.sleep(0.001)


async def schedule_at_the_end(schedule: Callable[[int], Awaitable[None]], number: int) -> None:
    await anyio.sleep(0.1)  # the lifespan has begun to end, and waits for what is on the wire
    await schedule(number)


def ids(outcomes: list[Any]) -> list[str]:
    """The calls that were told of, each as often as it was."""
    return sorted(outcome.call_id for outcome in outcomes)


@pytest.mark.anyio
class TestFanOuts:
    """What a lifespan makes of the fan-outs of its client, on both event loops."""

    def requests(self, count: int) -> list[BridgeRequest]:
        return [BridgeRequest(**body(number)) for number in range(count)]

    async def test_one_that_nobody_reads_is_drained(self) -> None:
        """At the end nothing new goes out, what is on the wire is waited for, and each outcome
        that was not taken is told once."""
        sandbox, abandoned = Sandbox(latency=0.05), []  # type: ignore[var-annotated]
        async with service_client(sandbox, abandoned, max_connections=5) as client:
            outcomes = client.bridge_many(self.requests(50))
            taken = [await anext(outcomes)]
            await until_created(sandbox, 5)
        assert sandbox.account.created < 50
        assert ids(taken + abandoned) == sorted(sandbox.account.calls)
        with pytest.raises(RuntimeError, match="cut off"):
            await anext(outcomes)
        with pytest.raises(StopAsyncIteration):
            await anext(outcomes)

    async def test_one_whose_reader_is_cancelled_is_told_at_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A handler is cancelled in its loop: what it did not come to is told and logged while
        the application goes on, and once only."""
        sandbox, abandoned = Sandbox(latency=0.3), []  # type: ignore[var-annotated]
        taken: list[Any] = []

        async def fan_out(client: AsyncBridgeClient) -> None:
            async for outcome in client.bridge_many(self.requests(50)):
                taken.append(outcome)  # noqa: PERF401 - each as it comes

        async with service_client(sandbox, abandoned, max_connections=5) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(fan_out, client)
                await until_created(sandbox, 7)
                group.cancel_scope.cancel()
            await until_true(lambda: len(taken + abandoned) == sandbox.account.created)
            assert ids(taken + abandoned) == sorted(sandbox.account.calls)
            assert sandbox.account.created < 50
        assert ids(taken + abandoned) == sorted(sandbox.account.calls)
        assert caplog.text.count("on the books as") == len(abandoned) > 0

    async def test_one_that_is_still_read_loses_nothing(self) -> None:
        """The lifespan ends under a loop that goes on: each outcome comes to the loop or to
        `on_abandoned`, and to one of them only; and the loop does not end as if that were all."""
        sandbox, abandoned = Sandbox(latency=0.05), []  # type: ignore[var-annotated]
        taken: list[Any] = []

        async def fan_out(client: AsyncBridgeClient) -> None:
            outcomes = client.bridge_many(self.requests(50), concurrency=5)
            with pytest.raises(RuntimeError, match=r"closed: \d+ of its outcomes"):  # noqa: PT012
                async for outcome in outcomes:
                    await anyio.sleep(0.01)
                    taken.append(outcome)
            assert not outcomes.progress.is_complete

        async with (
            anyio.create_task_group() as group,
            service_client(sandbox, abandoned) as client,
        ):
            group.start_soon(fan_out, client)
            await until_created(sandbox, 12)
        assert ids(taken + abandoned) == sorted(sandbox.account.calls)
        assert 12 <= sandbox.account.created < 50

    async def test_one_that_was_not_begun_does_not_begin(self) -> None:
        """Nobody can start a fan-out after the end, also one that was made before."""
        sandbox, abandoned = Sandbox(), []  # type: ignore[var-annotated]
        async with service_client(sandbox, abandoned) as client:
            outcomes = client.bridge_many(self.requests(3))
        with pytest.raises(RuntimeError, match="cut off"):
            await anext(outcomes)
        with pytest.raises(NotSentError):
            client.bridge_many(self.requests(3))
        assert sandbox.account.created == 0

    async def test_one_that_had_all_its_outcomes_ends_as_ever(self) -> None:
        """The end of the client is no failure of a loop that has come to its own."""
        async with service_client(sandbox := Sandbox(), []) as client:
            outcomes = client.bridge_many(self.requests(3))
            assert len([await anext(outcomes) for _ in range(3)]) == 3
            await until_created(sandbox, 3)
        assert [outcome async for outcome in outcomes] == []
        assert outcomes.progress.is_complete

    async def test_what_was_left_can_still_be_looked_at(self) -> None:
        """`untaken` has after `aclose` what it always has, and that was told as well."""
        sandbox, abandoned = Sandbox(latency=0.05), []  # type: ignore[var-annotated]
        async with service_client(sandbox, abandoned) as client:
            outcomes = client.bridge_many(self.requests(5))
            await anext(outcomes)
            await until_created(sandbox, 5)
            await outcomes.aclose()
            assert outcomes.untaken == abandoned
            assert len(abandoned) == 4

    async def test_the_others_are_drained_too(self, caplog: pytest.LogCaptureFixture) -> None:
        """Deletes that nobody took the outcome of are told like creates."""
        sandbox, abandoned = Sandbox(latency=0.05), []  # type: ignore[var-annotated]
        async with service_client(sandbox, abandoned) as client:
            made = [outcome async for outcome in client.bridge_many(self.requests(4))]
            outcomes = client.delete_many([*ids(made), "no-such-call"])
            await anext(outcomes)
            await until_true(lambda: sandbox.account.operations["delete"] == 5)
        assert len(abandoned) == 4
        assert {type(outcome) for outcome in abandoned} <= {Done, Refused}
        assert "this outcome: done" in caplog.text


FAULTS = {"503": 0.04, "500": 0.02, "drop": 0.04, "502-after": 0.02, "cut": 0.02, "404": 0.02}


EXAMPLE = Path(__file__).parent.parent / "examples" / "fastapi_backend.py"
PLAIN = ssl.create_default_context()  # made once: there is no TLS here, and httpx would make many


async def visit(address: str, number: int) -> httpx.Response:
    """Ask for a call, as one browser of many: on a connection of its own."""
    async with httpx.AsyncClient(verify=PLAIN, timeout=30) as browser:
        return await browser.post(f"{address}/calls", json=body(number))


class TestLoad:
    def test_300_concurrent_requests_with_faults(self) -> None:
        """Under faults, every one of 300 concurrent answers agrees with the service's books."""
        sandbox = Sandbox(faults=FAULTS, seed=5)
        replies = anyio.run(self._load, sandbox)
        books = sandbox.account.by_pair
        statuses = [reply.status_code for reply in replies.values()]
        for number, reply in replies.items():
            on_books = books[
                body(number)["first_callee_number"], body(number)["second_callee_number"]
            ]
            if reply.status_code == 201:
                assert on_books == 1
                assert reply.json()["call_id"] in sandbox.account.calls
            elif reply.status_code == 409:
                assert reply.json()["type"] == "urn:innocalls:in-doubt"
                assert on_books <= 1
            else:
                assert reply.status_code in {404, 502, 503}, reply.text
                assert on_books == 0
        assert len(statuses) == 300
        assert statuses.count(201) > 200
        assert statuses.count(409) > 5
        assert_nobody_twice(sandbox)

    async def _load(self, sandbox: Sandbox) -> dict[int, httpx.Response]:
        replies: dict[int, httpx.Response] = {}
        async with sandbox.serve() as base_url:
            app = backend(bridge_lifespan(base_url=base_url, **FAST))
            with serving(app) as (address, _):

                async def send(number: int) -> None:
                    replies[number] = await visit(address, number)

                async with anyio.create_task_group() as group:
                    for number in range(300):
                        group.start_soon(send, number)
        return replies

    def test_shutdown_under_load_loses_no_create(self) -> None:
        """The server is stopped with 100 creates under way and no patience: each call on the
        books was either answered or handed to `on_abandoned`."""
        sandbox = Sandbox(latency=0.3)
        abandoned: list[Outcome] = []
        answered = anyio.run(self._stop_under_load, sandbox, abandoned)
        told = {outcome.call_id for outcome in abandoned if isinstance(outcome, Scheduled)}
        doubts = sum(isinstance(outcome, InDoubt) for outcome in abandoned)
        assert len(told) == len([o for o in abandoned if isinstance(o, Scheduled)])
        assert told.isdisjoint(answered)
        assert set(sandbox.account.calls) == told | answered
        assert doubts == 0
        assert told
        assert_nobody_twice(sandbox)

    async def _stop_under_load(self, sandbox: Sandbox, abandoned: list[Outcome]) -> set[str]:
        answered: set[str] = set()
        async with sandbox.serve() as base_url:
            lifespan = bridge_lifespan(
                on_abandoned=abandoned.append, base_url=base_url, max_connections=40, **FAST
            )
            with serving(backend(lifespan), patience=0) as (address, stop):

                async def send(number: int) -> None:
                    with suppress(httpx.TransportError):
                        reply = await visit(address, number)
                        if reply.status_code == 201:
                            answered.add(reply.json()["call_id"])

                async with anyio.create_task_group() as group:
                    for number in range(100):
                        group.start_soon(send, number)
                    await anyio.to_thread.run_sync(until, lambda: sandbox.account.created >= 60)
                    await anyio.to_thread.run_sync(stop)
        return answered

    @pytest.mark.skipif(not EXAMPLE.exists(), reason="not in an installed package")
    def test_a_batch_of_the_example_is_accounted_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The example's server is stopped in the middle of a batch and does not wait for its end:
        each call on the books is among the batch's outcomes or the abandoned, and once only."""
        sandbox = Sandbox(latency=0.7)
        monkeypatch.setenv("INNOCALLS_TOKEN", TEST_TOKEN)
        example = runpy.run_path(str(EXAMPLE))
        anyio.run(self._stop_in_a_batch, sandbox, example["app"], monkeypatch)
        (batch,) = example["batches"]
        assert batch.outcomes
        assert ids(batch.outcomes + example["abandoned"]) == sorted(sandbox.account.calls)
        assert sandbox.account.created < batch.size
        assert "cut off" in batch.cut_off
        assert_nobody_twice(sandbox)

    async def _stop_in_a_batch(
        self, sandbox: Sandbox, app: FastAPI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with sandbox.serve() as base_url:
            monkeypatch.setenv("INNOCALLS_BASE_URL", base_url)
            with serving(app) as (address, stop):
                async with httpx.AsyncClient(verify=PLAIN) as browser:
                    content = [body(number) for number in range(400)]
                    await browser.post(f"{address}/batches", json=content)
                    await until_created(sandbox, 80)
                    await anyio.to_thread.run_sync(stop)
