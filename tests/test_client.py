"""The client as its users see it: its options, its life, and its operations."""

from __future__ import annotations

import gc
import math
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import httpx
import pytest
from clocks import virtual_backend as anyio_backend  # noqa: F401 - a fixture
from scripted import TOKEN, Script, a_client, a_request, created, reply, requests, status_reply

import innocalls_async as api
from innocalls_async import AsyncBridgeClient, CallState, CallStatus, TokenBucket

SOON = datetime(2030, 4, 23, 10, 30, tzinfo=UTC)
DONE = reply(200, {"status": 200, "success": True, "data": {"message": "Call updated"}})
NOT_LISTED = reply(404, {"message": "no such call"})


class TestOptions:
    @pytest.mark.parametrize("name", ["timeout", "deadline"])
    @pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "5", True])
    def test_seconds_are_finite_and_above_0(self, name: str, value: Any) -> None:
        """A time that could never pass, or never end, is refused by name."""
        with pytest.raises((ValueError, TypeError), match=f"^{name}: "):
            AsyncBridgeClient(TOKEN, **{name: value})

    def test_an_attempt_has_an_end(self) -> None:
        """`deadline` may be None, `timeout` not."""
        with pytest.raises(TypeError, match=r"^timeout: seconds are needed, not NoneType$"):
            AsyncBridgeClient(TOKEN, timeout=None)  # type: ignore[arg-type]

    @pytest.mark.parametrize("value", [0, -1, 1.5, True, "9", None])
    def test_max_connections_is_a_count(self, value: Any) -> None:
        """Anything but a whole number of at least 1 is refused by name."""
        with pytest.raises((ValueError, TypeError), match=r"^max_connections: "):
            AsyncBridgeClient(TOKEN, max_connections=value)

    @pytest.mark.parametrize(
        "options",
        [
            {"limiter": 50},
            {"limiter": TokenBucket},
            {"retry": 3},
            {"on_event": 5},
            {"transport": object()},
            {"transport": httpx.HTTPTransport()},
            {"http_client": httpx.Client()},
            {"base_url": httpx.URL("https://example.com")},
            {"timezone": 2},
        ],
    )
    def test_what_cannot_work_is_refused_by_name(self, options: dict[str, Any]) -> None:
        """Not when a call was made with it already."""
        with pytest.raises(TypeError, match=f"^{next(iter(options))}: "):
            AsyncBridgeClient(TOKEN, **options)

    def test_one_way_to_send_is_enough(self) -> None:
        """A transport and a client at once leave it open which one is used."""
        client = httpx.AsyncClient()
        with pytest.raises(ValueError, match=r"^transport, http_client: give one"):
            AsyncBridgeClient(TOKEN, transport=Script(), http_client=client)

    @pytest.mark.parametrize(
        "options",
        [
            {"token": "a b"},
            {"base_url": "http://example.com"},
            {"timezone": "Cairo"},
            {"body_format": "json"},
        ],
    )
    def test_what_the_wire_refuses_is_refused_here(self, options: dict[str, Any]) -> None:
        """A client that could not work is not made, and leaves no warning behind."""
        given = {"token": TOKEN, **options}
        with pytest.raises(ValueError, match=f"^{next(iter(options))}: "):
            AsyncBridgeClient(**given)
        gc.collect()

    @pytest.mark.parametrize("token", [None, ""])
    def test_without_a_token_there_is_no_client(self, token: str | None) -> None:
        """The error says both ways to give one."""
        with pytest.raises(ValueError, match=r"^token: .*token=.*INNOCALLS_TOKEN"):
            AsyncBridgeClient(token)


@pytest.mark.anyio
class TestEnvironment:
    async def test_token_and_address_come_from_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is not given is taken from the environment."""
        monkeypatch.setenv("INNOCALLS_TOKEN", "from-env")
        monkeypatch.setenv("INNOCALLS_BASE_URL", "http://localhost:8000/api")
        script = Script([created()])
        async with AsyncBridgeClient(transport=script) as client:
            await client.bridge(a_request())
        assert str(script.requests[0].url) == "http://localhost:8000/api/call/bridge"
        assert script.requests[0].headers["Authorization"] == "Bearer from-env"

    async def test_arguments_go_before_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is given is what counts."""
        monkeypatch.setenv("INNOCALLS_TOKEN", "from-env")
        monkeypatch.setenv("INNOCALLS_BASE_URL", "http://localhost:8000/api")
        client, script = a_client(base_url="https://example.com")
        async with client:
            await client.authorize()
        assert str(script.requests[0].url) == "https://example.com/"
        assert script.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.anyio
class TestLife:
    async def test_a_closed_client_refuses_work(self) -> None:
        """Every operation says that the client is closed, and nothing is sent."""
        client, script = a_client()
        async with client:
            pass
        await client.aclose()
        assert script.is_closed
        request = a_request(call_time=SOON)
        for operation in (
            client.authorize(),
            client.bridge(request),
            client.status("id-1", "flow"),
            client.edit("id-1", request),
            client.delete("id-1"),
            client.wait("id-1", "flow"),
            anext(client.watch("id-1", "flow")),
            client.__aenter__(),
        ):
            with pytest.raises(RuntimeError, match="this AsyncBridgeClient is closed"):
                await operation
        with pytest.raises(RuntimeError, match="closed"):
            client.bridge_many([request])
        assert script.requests == []

    async def test_a_closed_client_sends_nothing_more(self) -> None:
        """Neither what waited in line, nor a fan-out that was made before."""
        client, script = a_client(10.0, max_connections=1)
        late = client.bridge_many(requests(3))
        errors: list[BaseException] = []

        async def bridge() -> None:
            try:
                await client.bridge(a_request())
            except RuntimeError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(bridge)
            await anyio.sleep(1)
            await client.aclose()
        assert len(errors) == 4
        outcomes = [outcome async for outcome in late]
        assert [type(outcome.error) for outcome in outcomes] == [RuntimeError] * 3  # type: ignore[union-attr]
        assert len(script.requests) == 1

    async def test_one_that_is_dropped_unclosed_warns(self) -> None:
        """A forgotten `aclose` is a ResourceWarning that says what to do, without the token."""
        client, _ = a_client()
        with pytest.warns(ResourceWarning, match="use `async with` or `aclose") as caught:  # noqa: PT031
            del client
            gc.collect()
        assert TOKEN not in str(caught[0].message)

    async def test_its_repr_shows_where_it_goes_and_no_token(self) -> None:
        """The address and whether it is open."""
        client, _ = a_client()
        assert repr(client) == "<AsyncBridgeClient https://api.bridge.innocalls.com open>"
        await client.aclose()
        assert repr(client) == "<AsyncBridgeClient https://api.bridge.innocalls.com closed>"

    async def test_a_callers_http_client_is_not_closed(self) -> None:
        """It is used, and stays the caller's."""
        async with httpx.AsyncClient(transport=Script([created()])) as http_client:
            async with AsyncBridgeClient(TOKEN, http_client=http_client) as client:
                assert (await client.bridge(a_request())).call_id == "id-1"
            assert not http_client.is_closed

    async def test_it_is_shared_between_tasks(self) -> None:
        """A thousand creates at once all end, on no more than `max_connections` places."""
        client, script = a_client(1.0, max_connections=100)
        calls: set[str] = set()

        async def bridge() -> None:
            calls.add((await client.bridge(a_request())).call_id)

        began = anyio.current_time()
        async with client, anyio.create_task_group() as group:
            for _ in range(1_000):
                group.start_soon(bridge)
        assert len(script.requests) == 1_000
        assert script.most == 100
        assert anyio.current_time() - began == pytest.approx(10.0)

    async def test_by_default_it_keeps_to_fifty_a_second(self) -> None:
        """Nobody is banned for having read no documentation."""
        script = Script([created()])
        began = anyio.current_time()
        async with AsyncBridgeClient(TOKEN, transport=script) as client:
            for _ in range(151):
                await client.bridge(a_request())
        assert anyio.current_time() - began == pytest.approx(3.0, abs=0.01)

    async def test_creates_go_before_polls(self) -> None:
        """When both wait for the limiter, the calls are scheduled first."""
        client, script = a_client(created(), limiter=TokenBucket(1))
        async with client, anyio.create_task_group() as group:
            await client.bridge(a_request())
            script.steps = [status_reply("pending")]
            for _ in range(3):
                group.start_soon(client.status, "id-1", "flow")
            await anyio.sleep(0.1)
            group.start_soon(client.edit, "id-1", a_request(call_time=SOON))
            group.start_soon(client.delete, "id-1")
        methods = [request.method for request in script.requests]
        assert sorted(methods[1:3]) == ["DELETE", "PUT"]
        assert methods[3:] == ["GET"] * 3


@pytest.mark.anyio
class TestOperations:
    async def test_authorize(self) -> None:
        """None where the token is taken, `AuthenticationError` where it is not."""
        client, script = a_client(reply(200, b"anything"), reply(401, {"message": "No."}))
        async with client:
            await client.authorize()
            with pytest.raises(api.AuthenticationError, match=r"answered 401: No; check the token"):
                await client.authorize()
        assert [request.method for request in script.requests] == ["GET", "GET"]

    async def test_bridge_status_edit_and_delete(self) -> None:
        """The four of the document, each with its typed result."""
        replies = created("id-9"), status_reply("pending", callDuration="5 Minutes"), DONE
        client, script = a_client(*replies)
        request = a_request(call_time=SOON)
        async with client:
            assert await client.bridge(request) == api.ScheduledCall("id-9", request)
            status = await client.status("id-9", "flow")
            await client.edit("id-9", request)
            await client.delete("id-9")
        assert isinstance(status, CallStatus)
        assert status.call_status is CallState.PENDING
        assert [f"{sent.method} {sent.url.path}" for sent in script.requests] == [
            "POST /api/v1/call/bridge",
            "GET /api/v1/call/status",
            "PUT /api/v1/call/bridge/id-9",
            "DELETE /api/v1/call/bridge/id-9",
        ]

    async def test_a_callers_mistake_costs_no_request(self) -> None:
        """It is a ValueError or TypeError before anything is sent."""
        client, script = a_client()
        mistaken: Any = client
        async with client:
            with pytest.raises(ValueError, match="call_time: an edit needs it"):
                await client.edit("id-1", a_request())
            with pytest.raises(ValueError, match="call_id"):
                await client.delete("..")
            with pytest.raises(TypeError, match="a BridgeRequest is needed"):
                await mistaken.bridge({"duration": 2})
        assert script.requests == []

    async def test_the_accounts_zone_is_written_and_read(self) -> None:
        """`timezone` is a name or a ZoneInfo; times on the wire are in it."""
        body = status_reply("pending", scheduledDateTime="2030-04-23 13:30:00")
        client, script = a_client(created(), body, timezone="Asia/Riyadh", body_format="urlencoded")
        async with client:
            await client.bridge(a_request(call_time=SOON))
            status = await client.status("id-1", "flow")
        assert b"call_time=2030-04-23+13%3A30%3A00" in script.requests[0].content
        assert status.scheduled_date_time is not None
        assert status.scheduled_date_time == SOON
        assert status.scheduled_date_time.tzinfo == ZoneInfo("Asia/Riyadh")


@pytest.mark.anyio
class TestWatch:
    async def test_each_change_is_yielded_once_until_the_final_one(self) -> None:
        """What stays the same is not repeated."""
        words = ["pending", "pending", "processing", "processing", "completed", "pending"]
        client, script = a_client(*(status_reply(word) for word in words))
        async with client:
            seen = [status.call_status async for status in client.watch("id-1", "flow")]
        assert seen == [CallState.PENDING, CallState.PROCESSING, CallState.COMPLETED]
        assert len(script.requests) == 5

    async def test_it_polls_at_its_interval(self) -> None:
        """Every `interval` seconds, two unless told."""
        client, script = a_client(*[status_reply("pending")] * 3, status_reply("failed"))
        async with client:
            await client.wait("id-1", "flow")
            await client.wait("id-1", "flow")
            script.steps = [*[status_reply("pending")] * 6, status_reply("failed")]
            await client.wait("id-1", "flow", interval=30)
        times = [at - script.times[0] for at in script.times]
        assert times[:4] == pytest.approx([0, 2, 4, 6])
        assert times[-1] - times[-2] == pytest.approx(30)

    @pytest.mark.parametrize("interval", [0, -1, math.nan])
    async def test_its_interval_is_above_0(self, interval: float) -> None:
        """A poll without a pause is refused."""
        client, _ = a_client()
        async with client:
            with pytest.raises(ValueError, match=r"^interval: "):
                await anext(client.watch("id-1", "flow", interval=interval))

    async def test_watch_yields_each_change_and_nothing_else(self) -> None:
        """A field of the service's own that differs each time is none; a word that is not known
        is one."""
        words = ["pending", "pending", "queued", "dialing", "dialing", "completed"]
        client, _ = a_client(*(status_reply(word, serverTime=n) for n, word in enumerate(words)))
        async with client:
            seen = [status.raw["callStatus"] async for status in client.watch("id-1", "flow")]
        assert seen == ["pending", "queued", "dialing", "completed"]

    async def test_a_call_that_is_not_listed_yet_is_waited_for(self) -> None:
        """A 404 in the first ten seconds is no end."""
        client, _ = a_client(NOT_LISTED, NOT_LISTED, status_reply("completed"))
        async with client:
            assert (await client.wait("id-1", "flow")).is_final

    async def test_a_call_that_is_never_listed_is_an_error(self) -> None:
        """After ten seconds it is known not to be there."""
        client, script = a_client(NOT_LISTED)
        began = anyio.current_time()
        async with client:
            with pytest.raises(api.NotFoundError):
                await client.wait("id-1", "flow")
        assert 10 < anyio.current_time() - began <= 12
        assert len(script.requests) == 7

    async def test_a_call_that_is_listed_no_more_is_an_error(self) -> None:
        """One that was seen and is gone is not waited for."""
        client, _ = a_client(status_reply("pending"), NOT_LISTED)
        async with client:
            watching = client.watch("id-1", "flow")
            assert not (await anext(watching)).is_final
            with pytest.raises(api.NotFoundError):
                await anext(watching)

    @pytest.mark.parametrize("timeout", [0, -1, float("nan")])
    async def test_waits_timeout_is_above_0(self, timeout: float) -> None:
        """What would end before the first poll, or never be compared, is a mistake."""
        client, _ = a_client()
        async with client:
            with pytest.raises(ValueError, match="timeout"):
                await client.wait("id-1", "flow", timeout=timeout)

    async def test_wait_has_an_end(self) -> None:
        """`DeadlineExceededError` after `timeout` seconds, whatever is under way."""
        client, _ = a_client(status_reply("pending"))
        began = anyio.current_time()
        async with client:
            with pytest.raises(api.DeadlineExceededError, match="not final within 7 s"):
                await client.wait("id-1", "flow", timeout=7)
        assert anyio.current_time() - began == pytest.approx(7)
