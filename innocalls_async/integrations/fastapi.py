"""One client for the life of a FastAPI or Starlette application.

    app = FastAPI(lifespan=bridge_lifespan())
    install_error_handlers(app)

    @app.post("/calls", status_code=201)
    async def schedule(request: BridgeRequest, client: BridgeClient) -> ScheduledCall:
        return await client.bridge(request)

All but `BridgeClient` needs Starlette only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import anyio
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse

from innocalls_async.client import AsyncBridgeClient
from innocalls_async.errors import InnoCallsError
from innocalls_async.integrations.problems import MEDIA_TYPE, Problem, problem_of, value_problem
from innocalls_async.integrations.serving import (
    CancelOnDisconnect,
    OnAbandoned,
    ServiceClient,
    UnusableValueError,
)

if TYPE_CHECKING:
    from fastapi import Depends

__all__ = [
    "BridgeClient",
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
    at shutdown once no create is under way any more: within one attempt's `timeout`, where the
    server has cancelled the handlers.

    `lifespan` is the application's own: it begins once the client is there and ends before that
    is closed. Or enter this one in your own: `async with bridge_lifespan()(app): yield`.

    A create that is on the wire when its handler is cancelled goes on. Its outcome is logged,
    and `on_abandoned` is called with it: put it down, because nobody else will.
    """

    @asynccontextmanager
    async def with_client(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        failure: Exception | None = None
        async with ServiceClient(on_abandoned=on_abandoned, **client_options) as client:
            # In the application's state for one that enters this in a lifespan of its own, and
            # in the lifespan's for applications that are mounted in it.
            setattr(app.state, _STATE, client)
            async with anyio.create_task_group() as client.errands:
                try:
                    async with (lifespan or _no_lifespan)(app) as state:
                        yield {**(state or {}), _STATE: client}
                except Exception as error:  # raised below, so that no group is made of it
                    failure = error
        if failure is not None:
            raise failure

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


if TYPE_CHECKING:
    BridgeClient: TypeAlias = Annotated[AsyncBridgeClient, Depends(bridge_client)]
else:

    def __getattr__(name: str) -> Any:
        # The one name that needs FastAPI.
        if name != "BridgeClient":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from fastapi import Depends  # noqa: PLC0415

        return Annotated[AsyncBridgeClient, Depends(bridge_client)]


def install_error_handlers(app: Starlette) -> None:
    """Answer the client's errors with problem+json (RFC 9457) of an honest status. Which, and
    why, is told in `innocalls_async.integrations.problems`."""
    app.add_exception_handler(InnoCallsError, _answer_error)
    app.add_exception_handler(UnusableValueError, _answer_value)


async def _answer_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, InnoCallsError)  # noqa: S101 - what it is installed for
    return _response(problem_of(error))


async def _answer_value(_request: Request, error: Exception) -> JSONResponse:
    return _response(value_problem(str(error)))


def _response(problem: Problem) -> JSONResponse:
    headers = dict(problem.headers)
    return JSONResponse(dict(problem.body), problem.status, headers, media_type=MEDIA_TYPE)
