"""The public names, what importing them costs, and what httpx's own mocks see of us."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from types import ModuleType
from typing import Any

import httpx
import pytest
import respx
from scripted import TOKEN, a_request, requests

import innocalls_async
from innocalls_async import AsyncBridgeClient, RateLimiter, Scheduled, events, fanout, transport

# Sections 3 and 6 of the design, and what the fan-outs other than `bridge_many` give.
DESIGNED = """
    AsyncBridgeClient
    BridgeRequest ScheduledCall CallStatus CallState LegState
    TokenBucket RateLimiter RetryPolicy
    Outcome Scheduled Refused InDoubt Done
    InnoCallsError APIError
    BadRequestError AuthenticationError PermissionDeniedError NotFoundError
    MethodNotAllowedError NotAcceptableError GoneError TeapotError
    ValidationError RateLimitedError ServerError ServiceUnavailableError RedirectError ResponseError
    NotSentError OutcomeUnknownError DeadlineExceededError
"""
NOT_IMPORTED = """
    pydantic fastapi starlette typer rich uvicorn opentelemetry httptools tenacity cattrs
    phonenumbers python_multipart trio respx pytest
"""
CREATED = {"status": 200, "success": True, "data": {"call_id": "id-1"}}


def test_all_is_the_public_namespace() -> None:
    """Each name in `__all__` is there, and nothing of ours is public beside them."""
    exported = {name: getattr(innocalls_async, name) for name in innocalls_async.__all__}
    ours = {
        name
        for name, value in vars(innocalls_async).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", __name__).startswith("innocalls_async")
    }
    assert ours <= exported.keys()
    assert innocalls_async.__all__ == sorted(exported)
    assert exported.keys() <= set(dir(innocalls_async))


def test_a_misspelt_name_is_an_attribute_error() -> None:
    """Names that are loaded when first asked for do not hide that one is wrong."""
    with pytest.raises(AttributeError, match="has no attribute 'BridgeClient'"):
        _ = innocalls_async.BridgeClient


def test_the_names_are_the_designs() -> None:
    """None is missing, and none was added in passing."""
    assert set(innocalls_async.__all__) == set(DESIGNED.split())


def test_names_beside_the_top_level_are_there() -> None:
    """What the documentation names by its module."""
    assert "fast_transport" in transport.__all__
    assert {"FanOut", "Progress"} <= set(fanout.__all__)
    told = "OperationStarted LimiterWaited AttemptStarted AttemptEnded Paused RetryPlanned"
    assert {*told.split(), "OperationEnded", "Event"} <= set(events.__all__)


def core_modules() -> list[str]:
    found = pkgutil.iter_modules(innocalls_async.__path__, "innocalls_async.")
    return [
        module.name
        for module in found
        if not module.ispkg and not module.name.endswith(("__main__", "_plugin"))
    ]


def public_parts(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """A module, its public classes and functions, and their public methods."""
    yield module.__name__, module
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value
        for part, member in vars(value).items() if inspect.isclass(value) else ():
            if inspect.isfunction(member) and not part.startswith("_"):
                yield f"{name}.{part}", member


def test_every_public_name_is_documented() -> None:
    """Every class, function and method of the top level tells what the caller gets."""
    parts = public_parts(innocalls_async)
    assert [name for name, value in parts if not inspect.getdoc(value)] == []


@pytest.mark.parametrize("name", core_modules())
def test_every_module_keeps_to_its_all(name: str) -> None:
    """Each name in `__all__` is there, and the module and its classes say what they are for."""
    parts = public_parts(importlib.import_module(name))
    bare = [part for part, value in parts if "." not in part and not inspect.getdoc(value)]
    assert bare == []


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_core_imports_no_extra() -> None:
    """Beyond what httpx brings by itself, no extra and nothing slow is loaded."""
    brought = loaded_by("from innocalls_async import *") - loaded_by("import httpx")
    assert "innocalls_async" in brought
    assert not brought & set(NOT_IMPORTED.split())


def test_the_sandbox_says_which_extra_it_needs() -> None:
    """Without it, what is missing is said with what to install."""
    code = "import sys; sys.modules['starlette'] = None; import innocalls_async.sandbox"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "innocalls-async[sandbox]"' in done.stderr


def test_a_limiter_of_ones_own_needs_one_method() -> None:
    """The protocol is checked at run time, too."""

    class Mine:
        async def acquire(self) -> None: ...

    assert isinstance(Mine(), RateLimiter)
    assert not isinstance(object(), RateLimiter)


class TestMocks:
    """With pytest-asyncio, as most users of asyncio test."""

    @pytest.mark.asyncio
    async def test_respx_sees_every_request(self) -> None:
        """The default transport is httpx's own, so that respx works without anything."""
        with respx.mock(base_url="https://api.bridge.innocalls.com/api/v1") as router:
            create = router.post("/call/bridge").respond(200, json=CREATED)
            delete = router.delete("/call/bridge/id-1").respond(200, json={"success": True})
            async with AsyncBridgeClient(TOKEN) as client:
                outcomes = [outcome async for outcome in client.bridge_many(requests(20))]
                await client.delete("id-1")
        assert all(isinstance(outcome, Scheduled) for outcome in outcomes)
        assert (create.call_count, delete.call_count) == (20, 1)
        assert create.calls.last.request.headers["Authorization"] == f"Bearer {TOKEN}"

    @pytest.mark.asyncio
    async def test_mock_transport_sees_every_request(self) -> None:
        """httpx's own mock, as `transport=` and inside a client of the caller's."""
        seen: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return httpx.Response(200, json=CREATED)

        async with AsyncBridgeClient(TOKEN, transport=httpx.MockTransport(answer)) as client:
            assert (await client.bridge(a_request())).call_id == "id-1"
        async with (
            httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http_client,
            AsyncBridgeClient(TOKEN, http_client=http_client) as client,
        ):
            await client.bridge(a_request())
        assert [request.method for request in seen] == ["POST", "POST"]

    @pytest.mark.asyncio
    async def test_asgi_transport_sees_every_request(self) -> None:
        """An application of the caller's own, in process."""
        paths: list[str] = []

        async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            paths.append(scope["path"])
            await receive()
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async with AsyncBridgeClient(TOKEN, transport=httpx.ASGITransport(app)) as client:
            await client.authorize()
            await client.delete("id-1")
        assert paths == ["/api/v1/", "/api/v1/call/bridge/id-1"]
