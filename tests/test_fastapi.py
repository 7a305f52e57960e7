"""One client for the life of an application, and its errors as honest answers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any, Literal

import pydantic
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from innocalls_async import (
    APIError,
    AuthenticationError,
    BadRequestError,
    BridgeRequest,
    CallStatus,
    DeadlineExceededError,
    GoneError,
    InnoCallsError,
    MethodNotAllowedError,
    NotAcceptableError,
    NotFoundError,
    NotSentError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitedError,
    RedirectError,
    ResponseError,
    ScheduledCall,
    ServerError,
    ServiceUnavailableError,
    TeapotError,
    ValidationError,
)
from innocalls_async.integrations.fastapi import (
    PROBLEM_RESPONSES,
    BridgeClient,
    UnusableValueError,
    bridge_lifespan,
    install_error_handlers,
)
from innocalls_async.integrations.problems import MEDIA_TYPE
from innocalls_async.sandbox import Sandbox
from innocalls_async.testing import NO_WAITING, TEST_TOKEN, assert_scheduled

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


ERRORS: list[tuple[InnoCallsError, int, str]] = [
    (NotFoundError("status: there is none", status_code=404), 404, "not-found"),
    (GoneError("it was removed", status_code=410), 410, "gone"),
    (ValidationError("no", errors={"duration": ["too long"]}, status_code=422), 422, "invalid"),
    (BadRequestError("no", status_code=400), 422, "invalid"),
    (OutcomeUnknownError("lost"), 409, "in-doubt"),
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
        assert [name for _, status, name in ERRORS if status == 409] == ["in-doubt"]

    def test_a_doubt_says_so(self) -> None:
        """Whoever reads the problem knows what it is, and not to send it again just so."""
        problem = TestClient(raising(OutcomeUnknownError("lost"))).get("/").json()
        assert problem["title"] == "The call is in doubt"
        assert "may or may not be on the service's books" in problem["detail"]
        assert "must not simply be sent again" in problem["detail"]

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
            ('{"errors": {"duration": "too long"}}', {"duration": ["too long"]}),
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

    @pytest.mark.parametrize("path", ["/calls/5", "/calls/5/end"])
    def test_a_type_that_is_not_sent_is_the_callers_fault(self, path: str) -> None:
        """What is no text where a text is needed is told like any other wrong value."""
        app = FastAPI(lifespan=bridge_lifespan(transport=Sandbox().transport(), **FAST))
        install_error_handlers(app)

        @app.get("/calls/{number}")
        async def status(number: int, client: BridgeClient) -> None:
            await client.status(number, "flow")  # type: ignore[arg-type]

        @app.get("/calls/{number}/end")
        async def end(number: int, client: BridgeClient) -> None:
            await client.wait(number, "flow")  # type: ignore[arg-type]

        with TestClient(app) as browser:
            assert browser.get(path).json()["errors"] == {"call_id": ["a str is needed, not int"]}

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/calls"),
            ("GET", "/calls/id?call_flow_id=flow"),
            ("GET", "/calls/id/end?call_flow_id=flow"),
            ("PUT", "/calls/id"),
            ("DELETE", "/calls/id"),
        ],
    )
    @pytest.mark.parametrize("kind", [ValueError, TypeError])
    def test_what_a_limiter_raises_is_nobodys_422(
        self, method: str, path: str, kind: type[Exception]
    ) -> None:
        """An error of a limiter's, while the operation is carried out, is a plain 500 that does
        not tell its text."""

        class Limiter:
            async def acquire(self) -> None:
                raise kind("capacity: the limiter's own 201123456789")

        options: dict[str, Any] = FAST | {"limiter": Limiter()}
        app = backend(bridge_lifespan(transport=Sandbox().transport(), **options))
        later = {"call_time": "2030-04-23T10:30:00+02:00"}
        with TestClient(app, raise_server_exceptions=False) as browser:
            reply = browser.request(method, path, json=body() | later)
        assert reply.status_code == 500
        assert reply.text == "Internal Server Error"

    def test_a_bug_is_still_a_bug(self) -> None:
        """A ValueError of the application's own is not answered for it."""
        with pytest.raises(ValueError, match="own"):
            TestClient(raising(ValueError("own"))).get("/")


class A(pydantic.BaseModel):
    kind: Literal["a"]
    number: int


class Text(pydantic.BaseModel):
    kind: Literal["text"]
    number: str

    @pydantic.field_validator("number")
    @classmethod
    def refuse(cls, value: str) -> str:
        raise ValueError(f"{value} is taken")


class Thing(pydantic.BaseModel):
    part: Annotated[A | Text, pydantic.Field(discriminator="kind")]


class TestRequestsThatAreNotValid:
    """FastAPI's own 422, once the handlers are installed."""

    @pytest.fixture
    def browser(self) -> Iterator[TestClient]:
        app = FastAPI()
        install_error_handlers(app)

        @app.post("/calls")
        async def schedule(requests: list[BridgeRequest], day: int = 0) -> None:
            """Never comes to it."""

        @app.post("/own")
        async def own(thing: Thing) -> None:
            """Likewise."""

        with TestClient(app) as browser:
            yield browser

    def test_it_has_the_form_of_the_others(self, browser: TestClient) -> None:
        """It is a problem+json like that of a value which the client refuses, and names each
        wrong field and where it is."""
        wrong = body() | {"duration": 0, "first_callee_number": "12"}
        reply = browser.post("/calls", params={"day": "x"}, json=[body(), wrong])
        assert reply.status_code == 422
        assert reply.headers["content-type"] == "application/problem+json"
        problem = reply.json()
        assert set(problem) == {"type", "title", "status", "detail", "errors"}
        assert problem["type"] == "urn:innocalls:invalid"
        assert set(problem["errors"]) == {"day", "1.first_callee_number", "1.duration"}
        (text,) = problem["errors"]["1.first_callee_number"]
        assert "7 to 15 digits with the country code" in text
        assert "first_callee_number" not in text
        assert "1.first_callee_number" in problem["detail"]

    @pytest.mark.parametrize("content", ["", "{", "5", '{"a": 1}'])
    def test_a_body_that_is_none_is_named(self, browser: TestClient, content: str) -> None:
        """What is wrong with the whole body is told of the body."""
        headers = {"content-type": "application/json"}
        errors = browser.post("/calls", content=content, headers=headers).json()["errors"]
        assert list(errors) == ["body"]
        assert errors["body"][0]

    NUMBERS = ("+20 112 345 6789", "00201123456789x", "201123456789", "٢٠١١٢٣٤٥٦٧٨٩٩٩٩٩٩٩٩")

    @pytest.mark.parametrize("number", NUMBERS)
    @pytest.mark.parametrize(
        "change",
        [
            lambda number: {"first_callee_number": number + "x"},
            lambda number: {"second_calee_number": number},
            lambda number: {number: "Ahmed"},
            lambda number: {"duration": number},
            lambda number: {"call_time": number},
            lambda number: {"first_callee_name": {"number": number}},
        ],
        ids=["number", "misspelt", "key", "duration", "time", "nested"],
    )
    def test_it_does_not_repeat_what_was_given(
        self, browser: TestClient, change: Callable[[str], dict[str, Any]], number: str
    ) -> None:
        """No whole number is in it, wherever in the request that stood and however written."""
        wrong = {"call_flow_id": "flow", **change(number)}  # the whole of it is what was given
        reply = browser.post("/calls", json=[wrong])
        assert reply.status_code == 422
        assert number not in reply.json()["detail"]
        assert number not in json.dumps(reply.json(), ensure_ascii=False)
        assert set(reply.json()) == {"type", "title", "status", "detail", "errors"}

    @pytest.mark.parametrize("kind", ["tag", "text", "a"])
    def test_nor_does_a_model_of_the_applications_own(self, browser: TestClient, kind: str) -> None:
        """The words of another model's check are kept, but for the number that they repeat."""
        content: dict[str, Any] = {"kind": kind, "number": "+20 112 345 6789"}
        if kind == "tag":
            content["kind"] = "+20 112 345 6789"
        reply = browser.post("/own", json={"part": content})
        assert reply.status_code == 422
        assert "112 345" not in reply.text
        assert ("*789" in reply.text) == (kind != "a")


class TestDocumentedProblems:
    @pytest.mark.parametrize(("error", "status", "name"), ERRORS, ids=lambda v: type(v).__name__)
    def test_each_problem_has_the_documented_form(
        self, error: InnoCallsError, status: int, name: str
    ) -> None:
        """What is answered is what `PROBLEM_RESPONSES` says of that status."""
        reply = TestClient(raising(error)).get("/")
        described = PROBLEM_RESPONSES[status]
        schema = described["content"][reply.headers["content-type"]]["schema"]
        problem = reply.json()
        assert set(schema["required"]) <= set(problem) <= set(schema["properties"])
        assert problem["type"] in schema["properties"]["type"]["enum"]
        assert problem["status"] in schema["properties"]["status"]["enum"]
        assert problem["title"] in described["description"]
        assert set(described.get("headers", {})) >= {"Retry-After"} & {
            name.title() for name in reply.headers
        }

    def test_no_other_problem_is_documented(self) -> None:
        """Every documented status and type is one that can be answered."""
        types = {
            name
            for described in PROBLEM_RESPONSES.values()
            for name in described["content"][MEDIA_TYPE]["schema"]["properties"]["type"]["enum"]
        }
        assert set(PROBLEM_RESPONSES) == {status for _, status, _ in ERRORS}
        assert types == {f"urn:innocalls:{name}" for _, _, name in ERRORS}

    def test_openapi_has_them(self) -> None:
        """Given to the application, they stand beside each route's own, and its 422 is ours."""
        app = FastAPI(responses=PROBLEM_RESPONSES)

        @app.post("/calls", status_code=201)
        async def schedule(request: BridgeRequest) -> ScheduledCall:
            raise NotImplementedError

        described = TestClient(app).get("/openapi.json").json()
        responses = described["paths"]["/calls"]["post"]["responses"]
        assert set(responses) == {"201", *map(str, PROBLEM_RESPONSES)}
        assert responses["422"]["content"] == PROBLEM_RESPONSES[422]["content"]
        assert responses["503"]["headers"]["Retry-After"]["schema"] == {"type": "integer"}
        assert "HTTPValidationError" not in described["components"]["schemas"]


class TestWebSockets:
    @contextmanager
    def connecting(self, endpoint: Any) -> Iterator[TestClient]:
        app = Starlette(routes=[WebSocketRoute("/", endpoint)])
        install_error_handlers(app)
        with TestClient(app) as browser:
            yield browser

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (OutcomeUnknownError("lost"), "The call is in doubt"),
            (UnusableValueError("call_id: must not be empty"), "The request is not valid"),
        ],
    )
    def test_an_accepted_one_is_closed(self, error: Exception, reason: str) -> None:
        """After `accept` an error closes the socket with 1011 and says why."""

        async def endpoint(socket: WebSocket) -> None:
            await socket.accept()
            raise error

        with self.connecting(endpoint) as browser, browser.websocket_connect("/") as socket:
            with pytest.raises(WebSocketDisconnect) as caught:
                socket.receive_text()
            assert (caught.value.code, caught.value.reason) == (1011, reason)

    def test_one_that_is_not_accepted_is_answered(self) -> None:
        """Before `accept` the problem is the answer to the handshake."""

        async def endpoint(socket: WebSocket) -> None:
            raise NotFoundError("there is none", status_code=404)

        with (
            self.connecting(endpoint) as browser,
            pytest.raises(WebSocketDenialResponse) as caught,
            browser.websocket_connect("/"),
        ):
            pass
        assert caught.value.status_code == 404
        assert caught.value.json()["type"] == "urn:innocalls:not-found"

    @pytest.mark.anyio
    @pytest.mark.parametrize("said", [["accept", "close"], []])
    async def test_one_that_nobody_can_answer_is_left_to_the_server(self, said: list[str]) -> None:
        """Where the application closed the socket itself, or the server has no answers to a
        handshake, the error is raised as it is, and nothing more is sent."""
        sent: list[str] = []

        async def endpoint(socket: WebSocket) -> None:
            for word in said:
                await getattr(socket, word)()
            raise GoneError("gone", status_code=410)

        async def receive() -> dict[str, str]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        app = Starlette(routes=[WebSocketRoute("/", endpoint)])
        install_error_handlers(app)
        scope = {"type": "websocket", "path": "/", "headers": []}
        with pytest.raises(GoneError):
            await app(scope, receive, send)
        assert sent == [f"websocket.{word}" for word in said]


def test_starlette_alone_is_enough() -> None:
    """Lifespan, client and error handlers work where FastAPI and pydantic are not installed, and
    so does `import *`."""
    program = """
import sys
sys.modules["fastapi"] = sys.modules["pydantic"] = None
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from innocalls_async import BridgeRequest
from innocalls_async.integrations.fastapi import *
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
