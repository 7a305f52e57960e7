"""One client for the life of an application, its errors as honest answers, and no create lost."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from fastapi import BackgroundTasks, FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from innocalls_async import (
    APIError,
    AsyncBridgeClient,
    AuthenticationError,
    BadRequestError,
    BridgeRequest,
    CallStatus,
    DeadlineExceededError,
    GoneError,
    InDoubt,
    InnoCallsError,
    MethodNotAllowedError,
    NotAcceptableError,
    NotFoundError,
    NotSentError,
    Outcome,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitedError,
    RedirectError,
    Refused,
    ResponseError,
    Scheduled,
    ScheduledCall,
    ServerError,
    ServiceUnavailableError,
    TeapotError,
    ValidationError,
)
from innocalls_async.integrations import fastapi as integration
from innocalls_async.integrations.fastapi import (
    BridgeClient,
    CancelOnDisconnect,
    bridge_lifespan,
    install_error_handlers,
)
from innocalls_async.sandbox import Sandbox
from innocalls_async.testing import NO_WAITING, TEST_TOKEN, assert_nobody_twice, assert_scheduled

FAST: dict[str, Any] = {"token": TEST_TOKEN, "limiter": None, "retry": NO_WAITING}


def body(number: int = 0) -> dict[str, Any]:
    return {
        "call_flow_id": "flow",
        "first_callee_number": f"2011{number:08}",
        "first_callee_name": "Ahmed",
        "second_callee_number": f"2010{number:08}",
        "second_callee_name": "Mona",
        "duration": 5,
    }


def backend(lifespan: Any) -> FastAPI:
    app = FastAPI(lifespan=lifespan)
    install_error_handlers(app)

    @app.post("/calls", status_code=201)
    async def schedule(request: BridgeRequest, client: BridgeClient) -> ScheduledCall:
        return await client.bridge(request)

    @app.get("/calls/{call_id}")
    async def status(call_id: str, call_flow_id: str, client: BridgeClient) -> CallStatus:
        return await client.status(call_id, call_flow_id)

    @app.get("/calls/{call_id}/end")
    async def end(call_id: str, call_flow_id: str, client: BridgeClient) -> CallStatus:
        return await client.wait(call_id, call_flow_id, interval=0.01)

    @app.delete("/calls/{call_id}", status_code=204)
    async def delete(call_id: str, client: BridgeClient) -> None:
        await client.delete(call_id)

    @app.put("/calls/{call_id}", status_code=204)
    async def edit(call_id: str, request: BridgeRequest, client: BridgeClient) -> None:
        await client.edit(call_id, request)

    return app


@contextmanager
def browsing(sandbox: Sandbox, **options: Any) -> Iterator[TestClient]:
    lifespan = bridge_lifespan(transport=sandbox.transport(), **FAST | options)
    with TestClient(backend(lifespan)) as client:
        yield client


class TestLifespan:
    def test_three_lines_schedule_a_call(self) -> None:
        """A route awaits the client of the application, and answers with our models."""
        sandbox = Sandbox()
        with browsing(sandbox) as browser:
            reply = browser.post("/calls", json=body())
            assert reply.status_code == 201
            call_id = reply.json()["call_id"]
            status = browser.get(f"/calls/{call_id}", params={"call_flow_id": "flow"}).json()
            assert status["call_id"] == call_id
            assert status["call_duration"] == "PT5M"
        assert_scheduled(sandbox, BridgeRequest(**body()))

    def test_the_client_is_closed_at_the_end(self) -> None:
        """After shutdown the client is closed, and there was one for all requests."""
        clients = set()
        app = backend(bridge_lifespan(transport=Sandbox().transport(), **FAST))

        @app.get("/")
        async def collect(client: BridgeClient) -> None:
            clients.add(client)

        with TestClient(app) as browser:
            browser.get("/")
            browser.get("/")
        (client,) = clients
        assert repr(client).endswith("closed>")

    def test_it_goes_around_the_applications_own(self) -> None:
        """The application's lifespan has the client, its state is kept, and it ends first."""
        seen: list[str] = []

        @asynccontextmanager
        async def own(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
            seen.append(repr(app.state.innocalls_client))
            yield {"motto": "never twice"}
            seen.append(repr(app.state.innocalls_client))

        app = backend(bridge_lifespan(own, transport=Sandbox().transport(), **FAST))

        @app.get("/motto")
        async def motto(request: Request) -> str:
            return str(request.state.motto)

        with TestClient(app) as browser:
            assert browser.get("/motto").json() == "never twice"
            assert browser.post("/calls", json=body()).status_code == 201
        assert len(seen) == 2
        assert all(client.endswith("open>") for client in seen)

    def test_it_can_be_entered_in_the_applications_own(self) -> None:
        """`async with bridge_lifespan(...)(app)` in a lifespan of one's own works as well."""
        sandbox = Sandbox()

        @asynccontextmanager
        async def own(app: FastAPI) -> AsyncIterator[None]:
            async with bridge_lifespan(transport=sandbox.transport(), **FAST)(app):
                yield

        with TestClient(backend(own)) as browser:
            assert browser.post("/calls", json=body()).status_code == 201

    def test_a_mounted_application_has_the_client_too(self) -> None:
        """An application below the one that has the lifespan uses the same client."""
        lifespan = bridge_lifespan(transport=Sandbox().transport(), **FAST)
        outer = Starlette(routes=[Mount("/api", backend(None))], lifespan=lifespan)
        with TestClient(outer) as browser:
            assert browser.post("/api/calls", json=body()).status_code == 201

    @pytest.mark.parametrize("when", ["startup", "shutdown"])
    def test_an_error_of_the_applications_own_comes_through(self, when: str) -> None:
        """What the application's lifespan raises is raised as it is, and the client is closed."""

        @asynccontextmanager
        async def own(_app: FastAPI) -> AsyncIterator[None]:
            if when == "startup":
                raise LookupError(when)
            yield
            raise LookupError(when)

        app = backend(bridge_lifespan(own, transport=Sandbox().transport(), **FAST))
        with pytest.raises(LookupError, match=when), TestClient(app):
            pass
        assert repr(app.state.innocalls_client).endswith("closed>")

    def test_without_the_lifespan_the_error_says_so(self) -> None:
        """A route of an application that was not started says what is missing."""
        with pytest.raises(RuntimeError, match="lifespan=bridge_lifespan"):
            TestClient(backend(None)).post("/calls", json=body())

    def test_no_other_name_is_there(self) -> None:
        """The module's one lazy name does not hide a typing mistake."""
        with pytest.raises(AttributeError, match="BridgeClint"):
            integration.BridgeClint  # type: ignore[attr-defined]  # noqa: B018


ERRORS: list[tuple[InnoCallsError, int, str]] = [
    (NotFoundError("status: there is none", status_code=404), 404, "not-found"),
    (GoneError("it was removed", status_code=410), 410, "gone"),
    (ValidationError("no", errors={"duration": ["too long"]}, status_code=422), 422, "invalid"),
    (BadRequestError("no", status_code=400), 422, "invalid"),
    (OutcomeUnknownError("lost"), 409, "outcome-unknown"),
    (RateLimitedError("slow down", status_code=429), 503, "rate-limited"),
    (ServiceUnavailableError("later", status_code=503), 503, "unavailable"),
    (NotSentError("no route"), 503, "not-sent"),
    (DeadlineExceededError("late"), 504, "deadline-exceeded"),
    (AuthenticationError("bad token", status_code=401), 502, "bad-gateway"),
    (PermissionDeniedError("not you", status_code=403), 502, "bad-gateway"),
    (MethodNotAllowedError("no", status_code=405), 502, "bad-gateway"),
    (NotAcceptableError("no", status_code=406), 502, "bad-gateway"),
    (TeapotError("tea", status_code=418), 502, "bad-gateway"),
    (ServerError("broken", status_code=500), 502, "bad-gateway"),
    (RedirectError("elsewhere", status_code=302), 502, "bad-gateway"),
    (ResponseError("garbage", status_code=200), 502, "bad-gateway"),
    (APIError("odd", status_code=499), 502, "bad-gateway"),
    (InnoCallsError("odd"), 502, "bad-gateway"),
]


def raising(error: Exception) -> Starlette:
    async def fail(_request: Request) -> JSONResponse:
        raise error

    app = Starlette(routes=[Route("/", fail)])
    install_error_handlers(app)
    return app


class TestProblems:
    @pytest.mark.parametrize(("error", "status", "name"), ERRORS, ids=lambda v: type(v).__name__)
    def test_each_error_has_an_honest_status(
        self, error: InnoCallsError, status: int, name: str
    ) -> None:
        """Every class of the tree is a problem+json of the status that is true for the caller."""
        reply = TestClient(raising(error)).get("/")
        assert reply.status_code == status
        assert reply.headers["content-type"] == "application/problem+json"
        problem = reply.json()
        assert problem["type"] == f"urn:innocalls:{name}"
        assert problem["status"] == status
        assert problem["title"]
        assert problem["detail"]
        assert ("retry-after" in reply.headers) == (name in {"rate-limited", "unavailable"})

    def test_the_whole_tree_is_covered(self) -> None:
        """No class of the tree is without a row above."""

        tree: set[type] = {InnoCallsError}
        unseen: list[type] = [InnoCallsError]
        while unseen:
            found: list[type] = unseen.pop().__subclasses__()
            # Not those of other parts.
            children = [kind for kind in found if kind.__module__ == InnoCallsError.__module__]
            tree.update(children)
            unseen += children
        assert tree == {type(error) for error, _, _ in ERRORS}

    def test_a_doubt_shares_its_status_with_nothing(self) -> None:
        """In doubt can be told from every other failure by its status alone."""
        assert [name for _, status, name in ERRORS if status == 409] == ["outcome-unknown"]

    @pytest.mark.parametrize(("asked", "said"), [(None, "1"), (0.0, "1"), (7.2, "8")])
    def test_retry_after_is_what_the_service_asked_for(
        self, asked: float | None, said: str
    ) -> None:
        """Retry-After is whole seconds, never too few, and there even if the service gave none."""
        error = RateLimitedError("slow down", status_code=429)
        error.retry_after = asked
        assert TestClient(raising(error)).get("/").headers["retry-after"] == said

    @pytest.mark.parametrize(
        ("body", "errors"),
        [
            ('{"errors": {"duration": ["too long"]}}', {"duration": ["too long"]}),
            ('{"errors": ["odd"]}', None),
            ('["odd"]', None),
            ("<html>", None),
        ],
    )
    def test_the_fields_of_a_400_are_found(self, body: str, errors: object) -> None:
        """Where the service put field errors into a 400, they are in the problem."""
        error = BadRequestError("no", status_code=400, body=body)
        assert TestClient(raising(error)).get("/").json().get("errors") == errors

    def test_the_services_request_id_is_handed_on(self) -> None:
        """What its support asks for is in the problem."""
        error = ServerError("broken", status_code=500, request_id="r-1")
        assert TestClient(raising(error)).get("/").json()["request_id"] == "r-1"

    @pytest.mark.parametrize("profile", ["seed", "laravel", "envelope200"])
    @pytest.mark.parametrize(
        ("fault", "status"),
        [("401", 502), ("404", 404), ("410", 410), ("500", 502), ("503", 503), ("drop", 409)],
    )
    def test_no_body_tells_a_secret(self, profile: Any, fault: str, status: int) -> None:
        """Whatever the service says, neither the token nor a whole number is in our answer."""
        sandbox = Sandbox(profile=profile)
        sandbox.fail_next(fault, times=10)
        with browsing(sandbox) as browser:
            reply = browser.post("/calls", json=body())
        assert reply.status_code == status
        assert TEST_TOKEN not in reply.text
        for number in (body()["first_callee_number"], body()["second_callee_number"]):
            assert number not in reply.text

    @pytest.mark.parametrize(
        ("method", "path", "field"),
        [
            ("GET", "/calls/%20?call_flow_id=flow", "call_id"),
            ("GET", "/calls/id?call_flow_id=%20", "call_flow_id"),
            ("DELETE", "/calls/%20", "call_id"),
            ("PUT", "/calls/id", "call_time"),
            ("POST", "/calls", "call_time"),
        ],
    )
    def test_a_value_that_is_not_sent_is_the_callers_fault(
        self, method: str, path: str, field: str
    ) -> None:
        """A value that the client refuses is a 422 that names it, and no 500."""
        # In Cairo the clocks are put back over it, so that it comes twice.
        twice = {"call_time": "2030-10-31T23:30:00+03:00"} if method == "POST" else {}
        sandbox = Sandbox()
        with browsing(sandbox) as browser:
            reply = browser.request(method, path, json=body() | twice)
        assert reply.status_code == 422, reply.text
        assert list(reply.json()["errors"]) == [field]
        assert not sandbox.account.operations

    def test_a_bug_is_still_a_bug(self) -> None:
        """A ValueError of the application's own is not answered for it."""
        with pytest.raises(ValueError, match="own"):
            TestClient(raising(ValueError("own"))).get("/")


def test_starlette_alone_is_enough() -> None:
    """Lifespan, client and error handlers work where FastAPI and pydantic are not installed."""
    program = """
import sys
sys.modules["fastapi"] = sys.modules["pydantic"] = None
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from innocalls_async import BridgeRequest
from innocalls_async.integrations.fastapi import (
    CancelOnDisconnect, bridge_client, bridge_lifespan, install_error_handlers
)
from innocalls_async.sandbox import Sandbox

async def schedule(request):
    call = await bridge_client(request).bridge(BridgeRequest(**await request.json()))
    return JSONResponse({"call_id": call.call_id})

sandbox = Sandbox()
app = Starlette(
    routes=[Route("/calls", schedule, methods=["POST"])],
    lifespan=bridge_lifespan(token="t", transport=sandbox.transport()),
)
app.add_middleware(CancelOnDisconnect)
install_error_handlers(app)
body = BODY
with TestClient(app) as browser:
    assert browser.post("/calls", json=body).json()["call_id"] in sandbox.account.calls
    sandbox.fail_next("404")
    assert browser.post("/calls", json=body).status_code == 404
try:
    from innocalls_async.integrations.fastapi import BridgeClient
except ImportError:
    print("no BridgeClient")
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program.replace("BODY", repr(body()))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr == ""
    assert run.stdout == "no BridgeClient\n"


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
        assert "the call is not on the books" in caplog.text
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


@pytest.mark.anyio
class TestAbandoning:
    """The client of the lifespan by itself, on both event loops."""

    @asynccontextmanager
    async def client(
        self, sandbox: Sandbox, abandoned: list[Outcome], **options: Any
    ) -> AsyncIterator[AsyncBridgeClient]:
        app = Starlette()
        lifespan = bridge_lifespan(
            on_abandoned=abandoned.append, transport=sandbox.transport(), **FAST | options
        )
        async with lifespan(app):
            yield app.state.innocalls_client

    async def test_what_was_not_sent_is_not_sent(self) -> None:
        """A create that is cancelled in the line never goes out, and there is nothing to tell."""
        sandbox, abandoned = Sandbox(latency=0.5), []  # type: ignore[var-annotated]
        async with (
            self.client(sandbox, abandoned, max_connections=1) as client,
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
        async with self.client(sandbox, abandoned) as client:
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
        async with self.client(sandbox, abandoned) as client:
            with anyio.move_on_after(0.05):
                await client.bridge(BridgeRequest(**body()))
        (outcome,) = abandoned
        assert isinstance(outcome, Refused)
        assert sandbox.account.operations["create"] == 1

    async def test_an_abandoned_doubt_is_told(self) -> None:
        """If the answer is lost after the caller left, the outcome is a doubt."""
        sandbox, abandoned = Sandbox(latency=0.2), []  # type: ignore[var-annotated]
        sandbox.fail_next("drop")
        async with self.client(sandbox, abandoned) as client:
            with anyio.move_on_after(0.05):
                await client.bridge(BridgeRequest(**body()))
        (outcome,) = abandoned
        assert isinstance(outcome, InDoubt)

    async def test_errors_are_the_clients_own(self) -> None:
        """`bridge` of the lifespan's client raises what that of any client does."""
        sandbox = Sandbox()
        sandbox.fail_next("404")
        async with self.client(sandbox, []) as client:
            with pytest.raises(NotFoundError) as caught:
                await client.bridge(BridgeRequest(**body()))
            assert caught.value.attempts == 1


FAULTS = {"503": 0.04, "500": 0.02, "drop": 0.04, "502-after": 0.02, "cut": 0.02, "404": 0.02}


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
                assert reply.json()["type"] == "urn:innocalls:outcome-unknown"
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
