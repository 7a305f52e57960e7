"""Each fault shows to a client, and does or does not reach the books, as its name says."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from innocalls_async.sandbox import FAULTS, Sandbox, parse_faults

pytestmark = pytest.mark.anyio

FORM = {
    "call_flow_id": "flow",
    "first_callee_number": "201123456789",
    "first_callee_name": "Ahmed",
    "second_callee_number": "201098765432",
    "second_callee_name": "Mona",
    "duration": "2",
}
WAYS = ["in process", "auto", "h11"]


@asynccontextmanager
async def connect(sandbox: Sandbox, way: str = "in process") -> AsyncIterator[httpx.AsyncClient]:
    """A client of the sandbox, in process or over a socket with one of the parsers."""
    headers = {"Authorization": "Bearer t", "Accept": "application/json"}
    if way == "in process":
        base_url, transport = "http://127.0.0.1/api/v1", sandbox.transport()
        async with httpx.AsyncClient(
            transport=transport, base_url=base_url, headers=headers
        ) as client:
            yield client
        return
    http: Any = way
    async with (
        sandbox.serve(http=http) as base_url,
        httpx.AsyncClient(base_url=base_url, headers=headers, trust_env=False) as client,
    ):
        yield client


async def create(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/call/bridge", data=FORM)


def expect(fault: str) -> int | str:
    """The status, or the error, that a client meets."""
    if fault in ("drop", "drop-before", "cut"):
        return "RemoteProtocolError"
    return "ReadTimeout" if fault == "stall" else FAULTS[fault].status or 200


@pytest.mark.parametrize("way", WAYS)
async def test_every_fault(way: str) -> None:
    """Every fault has its status or its broken connection, and runs the controller or not."""
    sandbox = Sandbox(script=[*FAULTS, None])
    async with connect(sandbox, way) as client:
        for fault in FAULTS.values():
            created = sandbox.account.created
            try:
                timeout = 0.1 if fault.name == "stall" else 5.0
                reply = await client.post("/call/bridge", data=FORM, timeout=timeout)
                met: int | str = reply.status_code
            except httpx.TransportError as error:
                met = type(error).__name__
            assert met == expect(fault.name), fault.name
            assert sandbox.account.created - created == fault.runs, fault.name
        assert (await create(client)).status_code == 200
    assert sandbox.account.faults == Counter(list(FAULTS))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "options", [{"script": ["stall"], "stall_seconds": 0.05}, {"latency": 0.05}]
)
async def test_a_slow_reply(way: str, options: dict[str, Any]) -> None:
    """A stalled reply comes after `stall_seconds`, any other after `latency`."""
    async with connect(Sandbox(**options), way) as client:
        reply = await create(client)
    assert reply.status_code == 200
    assert reply.elapsed.total_seconds() >= 0.05


@pytest.mark.parametrize("way", WAYS)
async def test_leaving_does_not_wait_for_a_stall(way: str) -> None:
    """A stalled request neither outlives its caller nor holds up the server's end."""
    sandbox = Sandbox(script=["stall"])
    with anyio.fail_after(5):
        async with connect(sandbox, way) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(create, client)
            await anyio.sleep(0.1)
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("way", WAYS)
async def test_bodies_that_are_not_json(way: str) -> None:
    """Garbage and an HTML page are both a 200, one said to be JSON and the other not."""
    async with connect(Sandbox(script=["garbage", "html"]), way) as client:
        garbage, page = await create(client), await create(client)
    assert garbage.headers["content-type"] == "application/json"
    with pytest.raises(ValueError, match=r"JSON|Unterminated"):
        garbage.json()
    assert page.headers["content-type"].startswith("text/html")


async def test_retry_after() -> None:
    """A 429, 500, 502 and 503 can be had with and without a word on when to try again."""
    names = [name for name, fault in FAULTS.items() if fault.status]
    async with connect(Sandbox(script=names)) as client:
        replies = {name: await create(client) for name in names}
    having = [name for name, reply in replies.items() if "retry-after" in reply.headers]
    assert having == ["429", "500-retry-after", "502-retry-after", "503-retry-after"]
    assert {"429-bare", "500", "502", "503"} < replies.keys() - having


async def test_a_late_call_is_not_found_at_first() -> None:
    """The status of a late create is a 404 for `late_seconds` of the sandbox's own clock."""
    seconds = [0.0]
    sandbox = Sandbox(script=["late", "late"], late_seconds=3, clock=lambda: seconds[0])
    async with connect(sandbox) as client:
        await client.get("/")
        call_id = (await create(client)).json()["data"]["call_id"]
        params = {"call_id": call_id, "call_flow_id": "flow"}
        early = await client.get("/call/status", params=params)
        seconds[0] = 3.0
        late = await client.get("/call/status", params=params)
    assert (early.status_code, late.status_code) == (404, 200)
    assert sandbox.account.faults == {"late": 1}


async def test_fail_next_comes_before_the_script() -> None:
    """Faults asked for come first, and only to the operation they were asked for."""
    sandbox = Sandbox(script=[None, "418"])
    sandbox.fail_next("503", times=2, operation="create")
    sandbox.fail_next("410", operation="authorize")
    async with connect(sandbox) as client:
        statuses = [
            (await client.get("/")).status_code,
            *[(await create(client)).status_code for _ in range(4)],
        ]
        sandbox.fail_next("500", operation="delete")
        statuses.append((await create(client)).status_code)
    assert statuses == [410, 503, 503, 200, 418, 200]


@pytest.mark.parametrize(
    "options", [{"fault": "x"}, {"fault": "503", "times": 0}, {"fault": "503", "operation": "x"}]
)
def test_fail_next_refuses(options: dict[str, Any]) -> None:
    """An unknown fault or operation, or no times at all, is a ValueError."""
    with pytest.raises(ValueError, match=r"unknown|at least 1"):
        Sandbox().fail_next(**options)


async def test_faults_by_chance_are_repeatable() -> None:
    """Random faults come about as often as asked, the same for the same seed."""

    async def met(seed: int) -> list[int]:
        async with connect(Sandbox(faults={"503": 0.3, "500": 0.1}, seed=seed)) as client:
            return [(await client.get("/")).status_code for _ in range(300)]

    first, same, other = await met(1), await met(1), await met(2)
    assert first == same != other
    assert 60 < first.count(503) < 120
    assert 15 < first.count(500) < 50


async def test_the_limit_stands_before_the_faults() -> None:
    """A request over the limit meets no fault, and a faulty one counts for the limit."""
    sandbox = Sandbox(profile="envelope200", rate=1, clock=lambda: 0.0, script=["503", "500"])
    async with connect(sandbox) as client:
        statuses = [(await client.get("/")).status_code for _ in range(3)]
    assert statuses == [503, 429, 429]
    assert sandbox.account.faults == {"503": 1}


def test_parse_faults() -> None:
    """A text of names and probabilities becomes a mapping."""
    assert parse_faults("503=0.05, drop = 0.01,") == {"503": 0.05, "drop": 0.01}
    assert parse_faults("") == {}
    assert parse_faults("503=0.7,drop=0.2,cut=0.1") == {"503": 0.7, "drop": 0.2, "cut": 0.1}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("503", "'503' is not name=probability; the faults are 400, "),
        ("503=often", "'503=often' is not"),
        ("meteor=0.1", "unknown fault 'meteor'; the faults are"),
        ("503=2", "must be 0 to 1"),
        ("503=0.9,drop=0.2", "over 1"),
    ],
)
def test_parse_faults_refuses(text: str, error: str) -> None:
    """A text that cannot be meant is a ValueError that lists the names where that helps."""
    with pytest.raises(ValueError, match=error):
        parse_faults(text)


def test_a_script_is_not_one_string() -> None:
    """A script given as one string is refused before it is read as letters."""
    script: Any = "503"
    with pytest.raises(TypeError, match="sequence of fault names"):
        Sandbox(script=script)
