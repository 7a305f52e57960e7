"""One client for the life of a FastAPI or Starlette application.

    app = FastAPI(lifespan=bridge_lifespan())
    install_error_handlers(app)

    @app.post("/calls", status_code=201)
    async def schedule(request: BridgeRequest, client: BridgeClient) -> ScheduledCall:
        return await client.bridge(request)

All but `BridgeClient` and `TaggedOutcome` needs Starlette only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Annotated, Any, Final, TypeAlias

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketState

from innocalls_async.client import AsyncBridgeClient
from innocalls_async.errors import InnoCallsError
from innocalls_async.integrations.problems import (
    MEDIA_TYPE,
    PROBLEM_RESPONSES,
    Problem,
    problem_of,
    request_problem,
    value_problem,
)
from innocalls_async.integrations.serving import (
    CancelOnDisconnect,
    OnAbandoned,
    ServiceClient,
    UnusableValueError,
)

__all__ = [
    "PROBLEM_RESPONSES",
    "CancelOnDisconnect",
    "UnusableValueError",
    "bridge_client",
    "bridge_lifespan",
    "install_error_handlers",
]

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]

_STATE: Final = "innocalls_client"


def bridge_lifespan(
    lifespan: Lifespan | None = None,
    *,
    on_abandoned: OnAbandoned | None = None,
    **client_options: Any,
) -> Lifespan:
    """A lifespan that opens one client, with the options of `AsyncBridgeClient`, and closes it
    at shutdown, or when it is cancelled: nothing new is sent then, and what is on the wire is
    waited for, within one attempt's `timeout`.

    `lifespan` is the application's own: it begins once the client is there and ends before that
    is closed. Or enter this one in your own: `async with bridge_lifespan()(app): yield`.

    What is on the wire when its handler is cancelled goes on. Its outcome is logged, and
    `on_abandoned` is called with it: put it down, because nobody else will. The same holds for
    each outcome of a `bridge_many` that the handler did not come to, and for the others of its
    kind, of which `on_abandoned` gets `Done` too.
    """

    @asynccontextmanager
    async def with_client(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        async with ServiceClient(on_abandoned=on_abandoned, **client_options) as client:
            # In the application's state for one that enters this in a lifespan of its own, and
            # in the lifespan's for applications that are mounted in it.
            setattr(app.state, _STATE, client)
            async with (lifespan or _no_lifespan)(app) as state:
                yield {**(state or {}), _STATE: client}

    return with_client


@asynccontextmanager
async def _no_lifespan(_app: Any) -> AsyncIterator[None]:
    yield


def bridge_client(connection: HTTPConnection) -> AsyncBridgeClient:
    """The application's client: for a Starlette endpoint, a WebSocket, or `Depends`.

    RuntimeError if the application was not started with `bridge_lifespan`.
    """
    for state in (connection.state, connection.app.state):
        client = getattr(state, _STATE, None)
        if isinstance(client, AsyncBridgeClient):
            return client
    raise RuntimeError(
        "there is no client: pass lifespan=bridge_lifespan() to the application, and in a test "
        "start it with `with TestClient(app): ...`"
    )


try:
    from fastapi import Depends

    from innocalls_async.integrations.pydantic import TaggedOutcome
except ImportError:
    pass
else:
    BridgeClient: TypeAlias = Annotated[AsyncBridgeClient, Depends(bridge_client)]
    __all__ += ["BridgeClient", "TaggedOutcome"]


def install_error_handlers(app: Starlette) -> None:
    """Answer the client's errors with problem+json (RFC 9457) of an honest status. Which, and
    why, is told in `innocalls_async.integrations.problems`.

    FastAPI's own 422, for a request that is not valid, gets the same form: `errors` maps fields
    to messages. What was given is not in it, whereas FastAPI's repeats it.

    In a WebSocket the problem is the answer to the handshake. Once that was accepted there is no
    such answer any more: it is closed with 1011, and the problem's title as the reason.
    """
    app.add_exception_handler(InnoCallsError, _answer_error)
    app.add_exception_handler(UnusableValueError, _answer_value)
    with suppress(ImportError):
        from fastapi.exceptions import RequestValidationError  # noqa: PLC0415

        app.add_exception_handler(RequestValidationError, _answer_validation)


# Starlette calls one handler for both, with a Request or a WebSocket, and has no type for that.
async def _answer_error(connection: Any, error: Exception) -> Any:
    assert isinstance(error, InnoCallsError)  # noqa: S101 - what it is installed for
    return await _answer(connection, error, problem_of(error))


async def _answer_value(connection: Any, error: Exception) -> Any:
    return await _answer(connection, error, value_problem(str(error)))


async def _answer_validation(_request: Request, error: Any) -> JSONResponse:
    return _response(request_problem(error.errors()))


async def _answer(
    connection: Request | WebSocket, error: Exception, problem: Problem
) -> JSONResponse | None:
    response = _response(problem)
    if not isinstance(connection, WebSocket):
        return response
    if connection.application_state is WebSocketState.CONNECTED:
        await connection.close(1011, problem.body["title"])
        return None
    try:
        await connection.send_denial_response(response)
    except RuntimeError:
        # The server cannot, or it was accepted or closed behind Starlette's back.
        raise error from None
    return None


def _response(problem: Problem) -> JSONResponse:
    headers = dict(problem.headers)
    return JSONResponse(dict(problem.body), problem.status, headers, media_type=MEDIA_TYPE)
