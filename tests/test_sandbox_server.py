"""The sandbox on a real port, and as an application under another server."""

from __future__ import annotations

import signal
import socket
import sys
from functools import partial
from typing import Any

import anyio
import httpx
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from innocalls_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

FORM = {
    "call_flow_id": "flow",
    "first_callee_number": "201123456789",
    "first_callee_name": "Ahmed",
    "second_callee_number": "201098765432",
    "second_callee_name": "Mona",
    "duration": "2",
}
HEADERS = {"Authorization": "Bearer t", "Accept": "application/json"}


@pytest.mark.parametrize("http", ["auto", "h11"])
async def test_a_life_over_a_socket(http: Any) -> None:
    """The five operations and the account work on a real port."""
    sandbox = Sandbox(speed=0)
    async with (
        sandbox.serve(http=http) as base_url,
        httpx.AsyncClient(base_url=base_url, headers=HEADERS, trust_env=False) as client,
    ):
        assert (await client.get("/")).status_code == 200
        fields: Any = {name: (None, value) for name, value in FORM.items()}
        created = await client.post("/call/bridge", files=fields)
        url = f"/call/bridge/{created.json()['data']['call_id']}"
        edit = fields | {"call_time": (None, "2040-01-01 00:00:00")}
        assert (await client.put(url, files=edit)).status_code == 200
        params = {"call_id": url.rpartition("/")[2], "call_flow_id": "flow"}
        status = await client.get("/call/status", params=params)
        assert status.json()["data"]["callStatus"]["callStatus"] == "pending"
        assert (await client.delete(url)).status_code == 200
        summary = await client.get(base_url.replace("/api/v1", "/sandbox/account"))
        assert summary.json()["statuses"] == {"200": 5}
        assert "date" in status.headers


async def test_many_at_once() -> None:
    """Concurrent requests over many connections are each on the books once."""
    sandbox = Sandbox()
    async with (
        sandbox.serve() as base_url,
        httpx.AsyncClient(base_url=base_url, headers=HEADERS, trust_env=False) as client,
        anyio.create_task_group() as tasks,
    ):
        for number in range(60):
            form = FORM | {"first_callee_number": f"20112{number:07}"}
            tasks.start_soon(partial(client.post, "/call/bridge", data=form))
    assert sandbox.account.created == len(sandbox.account.by_pair) == 60


async def test_leaving_closes_idle_connections() -> None:
    """Leaving ends quickly while clients hold connections open, and frees the port."""
    sandbox = Sandbox()
    with anyio.fail_after(5):
        async with sandbox.serve() as base_url:
            port = int(base_url.removesuffix("/api/v1").rpartition(":")[2])
            idle = await anyio.connect_tcp("127.0.0.1", port)
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await idle.receive()
        await idle.aclose()
        async with sandbox.serve(port=port) as again:
            assert again == base_url


async def test_a_taken_port() -> None:
    """A port that is taken is an OSError."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        context = Sandbox().serve(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            await context.__aenter__()


async def test_ipv6() -> None:
    """An IPv6 host is served, in brackets in the base URL."""
    async with Sandbox().serve(host="::1") as base_url:
        assert base_url.startswith("http://[::1]:")
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(base_url, headers=HEADERS)).status_code == 200


@pytest.mark.skipif(sys.platform == "win32", reason="it sends SIGINT")
async def test_run_until_interrupted() -> None:
    """A blocking run tells its URL once it can be reached, and ends at an interrupt."""
    code = (
        "from innocalls_async.sandbox import Sandbox\n"
        "try: Sandbox().run(port=0, on_ready=lambda url: print(url, flush=True))\n"
        "except KeyboardInterrupt: print('interrupted')"
    )
    with anyio.fail_after(10):
        async with await anyio.open_process([sys.executable, "-c", code]) as process:
            assert process.stdout is not None
            output = BufferedByteReceiveStream(process.stdout)
            base_url = (await output.receive_until(b"\n", 100)).decode()
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(base_url, headers=HEADERS)).status_code == 200
            process.send_signal(signal.SIGINT)
            assert await output.receive_until(b"\n", 100) == b"interrupted"
            assert await process.wait() == 0


class TestUnderAnotherServer:
    """`httpx.ASGITransport` stands for a server that cannot drop connections."""

    async def test_it_is_an_application(self) -> None:
        """The application answers under any ASGI server."""
        transport = httpx.ASGITransport(Sandbox().app)
        async with httpx.AsyncClient(transport=transport, headers=HEADERS) as client:
            reply = await client.post("http://x/api/v1/call/bridge", data=FORM)
        assert reply.json()["success"] is True

    async def test_a_drop_is_an_exception(self) -> None:
        """Where a connection cannot be dropped, the application says so to its server."""
        transport = httpx.ASGITransport(Sandbox(script=["drop"]).app)
        async with httpx.AsyncClient(transport=transport, headers=HEADERS) as client:
            with pytest.raises(ConnectionAbortedError, match="cannot close"):
                await client.get("http://x/api/v1/")

    async def test_lifespan(self) -> None:
        """The application takes part in a server's lifespan."""
        incoming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        sent: list[str] = []

        async def receive() -> Any:
            return next(incoming)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await Sandbox().app({"type": "lifespan"}, receive, send)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    async def test_a_client_that_leaves_early(self) -> None:
        """A request whose body never ends reaches nothing."""
        sandbox = Sandbox()

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None:
            raise AssertionError

        scope = {"type": "http", "method": "POST", "path": "/api/v1/call/bridge", "headers": []}
        await sandbox.app(scope, receive, send)
        assert not sandbox.account.operations
