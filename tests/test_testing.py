"""The test kit, as a user's own project has it: under pytest-asyncio, anyio, and neither."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from attrs import evolve

from innocalls_async import (
    AsyncBridgeClient,
    BridgeRequest,
    CallState,
    OutcomeUnknownError,
    RateLimitedError,
)

# Under these names pytest finds them here, whether or not the package was installed as a plugin.
from innocalls_async.pytest_plugin import (  # noqa: F401
    _finish,
    innocalls_client,
    innocalls_router,
    innocalls_sandbox,
    innocalls_server,
)
from innocalls_async.sandbox import Sandbox
from innocalls_async.testing import (
    NO_WAITING,
    TEST_TOKEN,
    SandboxServer,
    assert_nobody_twice,
    assert_nothing_scheduled,
    assert_scheduled,
    document_router,
    sandbox_client,
)

pytest_plugins = ["pytester"]

REQUEST = BridgeRequest("flow", "201123456789", "Ahmed", "201098765432", "Mona", 5)

SERVICE = """
from innocalls_async import AsyncBridgeClient, BridgeRequest

async def call_back(client, number):
    request = BridgeRequest("flow", number, "Customer", "+20 109 876 5432", "Support", 10)
    return (await client.bridge(request)).call_id

async def call_back_alone(number):
    async with AsyncBridgeClient() as client:
        return await call_back(client, number)
"""

# Twelve lines, as in the README.
USERS_TEST = """
import pytest
from innocalls_async import BridgeRequest
from innocalls_async.testing import assert_nobody_twice, assert_scheduled
from service import call_back

MARK
async def test_call_back(innocalls_client, innocalls_sandbox):
    innocalls_sandbox.fail_next("503")
    await call_back(innocalls_client, "+20 112 345 6789")
    wanted = BridgeRequest("flow", "201123456789", "Customer", "201098765432", "Support", 10)
    assert_scheduled(innocalls_sandbox, wanted)
    assert_nobody_twice(innocalls_sandbox)
"""

OTHER_TESTS = """
import pytest
from innocalls_async import AsyncBridgeClient
from service import call_back, call_back_alone

MARK
async def test_on_a_port(innocalls_server, innocalls_sandbox):
    call_id = await call_back_alone("+20 112 345 6789")
    assert call_id in innocalls_sandbox.account.calls
    assert innocalls_server.sandbox is innocalls_sandbox
    client = AsyncBridgeClient(innocalls_server.token, base_url=innocalls_server.base_url)
    async with client:
        innocalls_sandbox.advance(3600)
        assert (await client.status(call_id, "flow")).is_final

MARK
async def test_with_respx(innocalls_router):
    call_id = await call_back_alone("+20 112 345 6789")
    assert call_id == "f2281763-e58a-4817-bc34-4b120c230cfbas"
    assert innocalls_router["create"].call_count == 1
"""


def users_project(pytester: pytest.Pytester, mark: str, settings: str = "") -> None:
    pytester.makepyfile(
        service=SERVICE,
        test_first=USERS_TEST.replace("MARK", mark),
        test_others=OTHER_TESTS.replace("MARK", mark),
    )
    pytester.makeini(f"[pytest]\nfilterwarnings = error\n{settings}")


def run(pytester: pytest.Pytester, *plugins: str) -> pytest.RunResult:
    pytester._monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    chosen = [f"-p{plugin}" for plugin in (*plugins, "innocalls_async.pytest_plugin")]
    return pytester.runpytest_subprocess(*chosen)


class TestUsersProject:
    def test_under_pytest_asyncio(self, pytester: pytest.Pytester) -> None:
        """A user's tests pass under pytest-asyncio, with all warnings as errors."""
        scope = "asyncio_default_fixture_loop_scope = function"  # unset, it is a warning
        users_project(pytester, "@pytest.mark.asyncio", scope)
        run(pytester, "pytest_asyncio.plugin").assert_outcomes(passed=3)

    def test_under_anyio(self, pytester: pytest.Pytester) -> None:
        """They pass under anyio, on asyncio and on trio."""
        users_project(pytester, "@pytest.mark.anyio")
        run(pytester, "anyio").assert_outcomes(passed=6)

    def test_it_is_twelve_lines(self) -> None:
        """A user's test with the kit has twelve lines."""
        assert len([line for line in USERS_TEST.splitlines() if line]) <= 12

    def test_a_sandbox_of_ones_own(self, pytester: pytest.Pytester) -> None:
        """A project that overrides the sandbox has the client and the server on its own one, and
        needs no async plugin for a program that is not async."""
        pytester.makepyfile(
            """
            import urllib.request
            import pytest
            from innocalls_async.sandbox import Sandbox

            @pytest.fixture
            def innocalls_sandbox():
                return Sandbox(token="their-own", profile="laravel")

            def test_it(innocalls_client, innocalls_server):
                assert innocalls_server.token == "their-own"
                url = innocalls_server.base_url + "/"
                head = {"Authorization": "Bearer their-own", "Accept": "application/json"}
                request = urllib.request.Request(url, headers=head)
                assert urllib.request.urlopen(request).status == 200
                assert innocalls_server.sandbox.account.operations == {"authorize": 1}
            """
        )
        run(pytester).assert_outcomes(passed=1)

    def test_the_plugin_itself_imports_nothing(self) -> None:
        """What pytest loads in every run brings in no server, no respx and no sandbox."""
        program = "import innocalls_async.pytest_plugin, sys; print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        extras = ("starlette", "uvicorn", "respx", "innocalls_async.sandbox", "pydantic")
        assert not set(extras) & set(done.stdout.split())


@pytest.mark.anyio
class TestFixtures:
    async def test_client_server_and_sandbox_are_one(
        self,
        innocalls_client: AsyncBridgeClient,  # noqa: F811
        innocalls_server: SandboxServer,  # noqa: F811
        innocalls_sandbox: Sandbox,  # noqa: F811
    ) -> None:
        """What the client schedules is on the books of the server, and the environment is its."""
        call = await innocalls_client.bridge(REQUEST)
        async with AsyncBridgeClient() as client:
            assert (await client.status(call.call_id, "flow")).call_id == call.call_id
        assert innocalls_server.sandbox is innocalls_sandbox
        assert TEST_TOKEN not in repr(innocalls_server)

    async def test_the_router(self, innocalls_router: Any) -> None:  # noqa: F811
        """A client made from the environment meets the document's replies."""
        async with AsyncBridgeClient() as client:
            await client.bridge(REQUEST)
        assert innocalls_router["create"].called

    def test_closing_does_not_wait(self) -> None:
        """A client whose closing needs an event loop is no client for the fixture."""

        async def wait() -> None:
            await asyncio.sleep(0)

        with pytest.raises(RuntimeError, match="must not"):
            _finish(wait())


@pytest.mark.anyio
class TestClient:
    async def test_nothing_waits(self) -> None:
        """Pauses between retries, and those that a 429 asks for, take no time in process."""
        sandbox = Sandbox(script=("503", "429", "503-retry-after"))
        async with sandbox_client(sandbox, deadline=0.9) as client:
            await client.bridge(REQUEST)
        assert sandbox.account.operations["create"] == 4

    async def test_options_are_the_clients(self) -> None:
        """Whatever `AsyncBridgeClient` takes may be given instead."""
        sandbox = Sandbox(script=("429",), token="own")
        async with sandbox_client(sandbox, retry=None) as client:
            with pytest.raises(RateLimitedError):
                await client.bridge(REQUEST)

    async def test_the_clock_is_the_tests(self) -> None:
        """A call that lasts minutes is over once the test moves the clock."""
        sandbox = Sandbox()
        async with sandbox_client(sandbox) as client:
            call = await client.bridge(REQUEST)
            assert (await client.status(call.call_id, "flow")).call_status is CallState.PROCESSING
            sandbox.advance(3600)
            status = await client.wait(call.call_id, "flow", timeout=1)
        assert status.call_status is CallState.COMPLETED


@pytest.mark.anyio
class TestBooks:
    async def test_what_was_asked_for_is_found(self) -> None:
        """A call is found by all its fields, its time in the account's zone and its name trimmed
        as the service trims it."""
        sandbox = Sandbox(timezone="Asia/Riyadh")
        time = datetime(2030, 4, 23, 10, 30, tzinfo=ZoneInfo("Africa/Cairo"))
        request = evolve(REQUEST, call_time=time, first_callee_name=" Ahmed ")
        async with sandbox_client(sandbox) as client:
            await client.bridge(request)
        assert_scheduled(sandbox, request)
        assert_scheduled(sandbox, REQUEST, times=0)
        with pytest.raises(AssertionError, match="0 calls on the books are what was asked for"):
            assert_scheduled(sandbox, evolve(request, duration=6))

    async def test_a_failure_tells_what_is_there(self) -> None:
        """The message shows what was asked for and what is on the books, numbers masked."""
        sandbox = Sandbox()
        with pytest.raises(AssertionError, match="the books are empty"):
            assert_scheduled(sandbox, REQUEST)
        async with sandbox_client(sandbox) as client:
            await client.bridge(REQUEST)
        with pytest.raises(AssertionError) as caught:
            assert_nothing_scheduled(sandbox)
        text = str(caught.value)
        assert "1 calls are on the books" in text
        assert "Ahmed *********789 with Mona *********432, 5 min, now" in text
        assert "201123456789" not in text

    async def test_somebody_twice_is_noticed(self) -> None:
        """A pair with two calls is told, and one whose second call was deleted in time is not."""
        sandbox = Sandbox(script=("drop",))
        later = evolve(REQUEST, call_time=datetime(2040, 1, 1, tzinfo=ZoneInfo("Africa/Cairo")))
        async with sandbox_client(sandbox) as client:
            with pytest.raises(OutcomeUnknownError):
                await client.bridge(later)
            second = await client.bridge(later)
            assert_scheduled(sandbox, later, times=2)
            with pytest.raises(AssertionError, match=r"\*789 and \*+432"):
                assert_nobody_twice(sandbox)
            await client.delete(second.call_id)
        assert_nobody_twice(sandbox)
        assert_scheduled(sandbox, later)
        with pytest.raises(AssertionError):
            assert_nothing_scheduled(sandbox)


@pytest.mark.anyio
async def test_the_router_has_the_documents_replies() -> None:
    """Each operation has the document's reply, and a test can change one of them."""
    later = evolve(REQUEST, call_time=datetime(2030, 4, 23, 10, tzinfo=ZoneInfo("Africa/Cairo")))
    client = AsyncBridgeClient(TEST_TOKEN, limiter=None, retry=NO_WAITING)
    with document_router() as router:
        async with client:
            await client.authorize()
            call = await client.bridge(REQUEST)
            await client.edit(call.call_id, later)
            await client.delete(call.call_id)
            status = await client.status(call.call_id, "flow")
            assert status.call_status is CallState.FAILED
            router["create"].respond(429)
            with pytest.raises(RateLimitedError):
                async with AsyncBridgeClient(TEST_TOKEN, retry=None) as hasty:
                    await hasty.bridge(REQUEST)
        names: list[Any] = ["authorize", "create", "status", "edit", "delete"]
        assert [router[name].call_count for name in names] == [1, 2, 1, 1, 1]


def test_the_router_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without respx, which is the tests' own choice, it says how to have it."""
    monkeypatch.setitem(sys.modules, "respx", None)
    with pytest.raises(ImportError) as caught:
        document_router()
    assert "pip install respx" in caught.value.__notes__[0]
