"""A call lives on the sandbox's clock, and the account tells what happened."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import httpx
import pytest

from innocalls_async import CallState, LegState
from innocalls_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

FIRST, SECOND = "201123456789", "201098765432"
FORM = {
    "call_flow_id": "flow",
    "first_callee_number": FIRST,
    "first_callee_name": "Ahmed",
    "second_callee_number": SECOND,
    "second_callee_name": "Mona",
    "duration": "2",
}


def connect(sandbox: Sandbox) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=sandbox.transport(),
        base_url="http://127.0.0.1/api/v1",
        headers={"Authorization": "Bearer t"},
    )


async def create(client: httpx.AsyncClient, **changes: str) -> str:
    reply = await client.post("/call/bridge", data=FORM | changes)
    return str(reply.json()["data"]["call_id"])


async def look(client: httpx.AsyncClient, call_id: str) -> dict[str, Any]:
    params = {"call_id": call_id, "call_flow_id": "flow"}
    reply = await client.get("/call/status", params=params)
    status: dict[str, Any] = reply.json()["data"]["callStatus"]
    return status


async def watch(sandbox: Sandbox, *steps: float) -> list[tuple[str, str, str]]:
    """The call's and its legs' states at once and after each step of seconds."""
    async with connect(sandbox) as client:
        call_id = await create(client)
        seen: list[tuple[str, str, str]] = []
        for step in (0.0, *steps):
            sandbox.advance(step)
            status = await look(client, call_id)
            first, second = (status[f"{leg}RecipientStatus"] for leg in ("first", "second"))
            seen.append((status["callStatus"], first, second))
    return seen


async def test_a_good_call() -> None:
    """A call rings the first, then the second, talks for its duration and is complete."""
    assert await watch(Sandbox(speed=0), 10, 10, 119, 1) == [
        ("processing", "not_sent", "not_sent"),
        ("processing", "answered", "not_sent"),
        ("in_progress", "answered", "answered"),
        ("in_progress", "answered", "answered"),
        ("complete", "answered", "answered"),
    ]


@pytest.mark.parametrize("result", ["not_answered", "busy", "unreachable", "Some New Word"])
async def test_the_first_leg_fails(result: str) -> None:
    """A first leg that is not answered fails the call, and the second is never rung."""
    assert await watch(Sandbox(speed=0, rules={FIRST: result}), 10) == [
        ("processing", "not_sent", "not_sent"),
        ("failed", result, "not_sent"),
    ]


async def test_the_second_leg_fails() -> None:
    """A second leg that is not answered fails the call, by a rule set after its creation."""
    sandbox = Sandbox(speed=0)
    sandbox.rules[SECOND] = "not_answered"
    assert await watch(sandbox, 20) == [
        ("processing", "not_sent", "not_sent"),
        ("failed", "answered", "not_answered"),
    ]


async def test_a_leg_is_tried_again() -> None:
    """After its first try a leg shows the last one's result while the call is not final."""
    sandbox = Sandbox(speed=0, rules={FIRST: ["not_answered", "Answered", "busy"]})
    assert await watch(sandbox, 10, 60, 10, 10) == [
        ("processing", "not_sent", "not_sent"),
        ("processing", "not_answered", "not_sent"),
        ("processing", "not_answered", "not_sent"),
        ("processing", "Answered", "not_sent"),
        ("in_progress", "Answered", "answered"),
    ]


async def test_the_client_knows_every_word() -> None:
    """At no moment of its life has a call, or a leg, a word that the client does not know."""
    sandbox = Sandbox(speed=0, rules={SECOND: ["busy", "answered"]})
    for call, *legs in await watch(sandbox, *[5.0] * 60):
        assert CallState(call) is not CallState.UNKNOWN
        assert LegState.UNKNOWN not in map(LegState, legs)


async def test_a_rule_is_for_a_number_however_it_is_written() -> None:
    """A rule's number is read as the library reads numbers, when it is set and looked up."""
    sandbox = Sandbox(speed=0, rules={"+20 112 345 6789": "busy"})
    sandbox.rules["٠٠٢٠ ١٠٩ ٨٧٦ ٥٤٣٢"] = ["not_answered", "failed"]
    assert dict(sandbox.rules) == {FIRST: "busy", SECOND: ("not_answered", "failed")}
    assert sandbox.rules["0020 112 345 6789"] == "busy"
    assert sandbox.rules.get("0112 345 6789") is None
    assert (await watch(sandbox, 10))[-1] == ("failed", "busy", "not_sent")
    del sandbox.rules["+20 112 345 6789"]
    assert len(sandbox.rules) == 1


@pytest.mark.parametrize(
    ("number", "rule", "error"),
    [
        ("0112 345 6789", "busy", "rules: the number starts with 0, so it has no country code"),
        ("Mona", "busy", "rules: not a phone number"),
        (FIRST, [], "rules: a number needs one leg state at least"),
        (FIRST, " ", "rules: a leg state must not be empty"),
        (FIRST, ["busy", ""], "rules: a leg state must not be empty"),
        (FIRST, [None], "rules: a leg state is a str, not NoneType"),
        (FIRST, None, "rules: a leg state or several are needed, not NoneType"),
    ],
)
def test_a_rule_that_makes_no_sense(number: str, rule: Any, error: str) -> None:
    """A number or a state that cannot be meant is refused, when it is given and when it is set."""
    with pytest.raises((TypeError, ValueError), match=re.escape(error)):
        Sandbox(rules={number: rule})
    with pytest.raises((TypeError, ValueError), match=re.escape(error)):
        Sandbox().rules[number] = rule


async def test_a_scheduled_call_waits_for_its_time() -> None:
    """A call is pending until its call_time in the account's zone, which it then starts at."""
    sandbox = Sandbox(speed=0, timezone="Asia/Riyadh")
    when = (sandbox.now + timedelta(minutes=10)).strftime("%Y-%m-%d %H:%M:%S")
    async with connect(sandbox) as client:
        call_id = await create(client, call_time=when)
        before = await look(client, call_id)
        sandbox.advance(600)
        after = await look(client, call_id)
    assert (before["callStatus"], before["actualDateTime"]) == ("pending", None)
    assert (after["callStatus"], after["actualDateTime"]) == ("processing", when)
    assert after["scheduledDateTime"] == when


async def test_a_past_call_starts_at_once() -> None:
    """A call_time in the past is kept as scheduled, and the call starts now."""
    sandbox = Sandbox(speed=0)
    async with connect(sandbox) as client:
        status = await look(client, await create(client, call_time="2020-04-23 00:57:00"))
    assert status["scheduledDateTime"] == "2020-04-23 00:57:00"
    assert status["actualDateTime"] == sandbox.now.strftime("%Y-%m-%d %H:%M:%S")
    assert status["callStatus"] == "processing"


async def test_a_deleted_call_is_never_rung() -> None:
    """A call that is deleted while pending stays as it was when its time comes."""
    sandbox = Sandbox(speed=0)
    when = (sandbox.now + timedelta(minutes=1)).strftime("%Y-%m-%d %H:%M:%S")
    async with connect(sandbox) as client:
        call_id = await create(client, call_time=when)
        await client.delete(f"/call/bridge/{call_id}")
        sandbox.advance(3600)
        status = await look(client, call_id)
    assert (status["callStatus"], status["firstRecipientStatus"]) == ("deleted", "not_sent")


def test_the_clock_runs_at_its_speed() -> None:
    """The sandbox's time goes `speed` times as fast as its clock, and never back."""
    seconds = iter([0.0, 0.0, 2.0])
    sandbox = Sandbox(speed=60, clock=lambda: next(seconds))
    start = sandbox.now
    assert abs(sandbox.now - start - timedelta(minutes=2)) < timedelta(milliseconds=1)
    with pytest.raises(ValueError, match="not negative"):
        sandbox.advance(-1)


async def test_the_account_tells_who_is_dialled_twice() -> None:
    """The account counts each pair's calls; one that is deleted before it rings is not dialled."""
    sandbox = Sandbox(speed=0)
    later = (sandbox.now + timedelta(minutes=1)).strftime("%Y-%m-%d %H:%M:%S")
    async with connect(sandbox) as client:
        await create(client)
        twice = [await create(client, call_time=later) for _ in range(2)]
        await create(client, first_callee_number="9665000000")
        assert sandbox.account.dialled_twice == [(FIRST, SECOND)]
        await client.delete(f"/call/bridge/{twice[0]}")
        assert sandbox.account.dialled_twice == [(FIRST, SECOND)]
        await client.delete(f"/call/bridge/{twice[1]}")
    assert sandbox.account.created == 4
    assert sandbox.account.by_pair == {(FIRST, SECOND): 3, ("9665000000", SECOND): 1}
    assert sandbox.account.dialled_twice == []
    assert sandbox.account.operations == {"create": 4, "delete": 2}
    assert sandbox.account.statuses == {200: 6}


async def test_a_delete_does_not_undo_a_ring() -> None:
    """A call that rang counts as dialled, though it is deleted afterwards."""
    sandbox = Sandbox(speed=0)
    async with connect(sandbox) as client:
        for _ in range(2):
            call_id = await create(client)
            await client.delete(f"/call/bridge/{call_id}")
    assert sandbox.account.dialled_twice == [(FIRST, SECOND)]


async def test_the_account_over_http() -> None:
    """The account's summary is at hand over HTTP with every number masked, and costs nothing."""
    sandbox = Sandbox(rate=3, script=["503"])
    async with connect(sandbox) as client:
        for _ in range(4):
            await client.post("/call/bridge", data=FORM)
        reply = await client.get("http://127.0.0.1/sandbox/account")
    assert reply.json() == sandbox.account.summary()
    assert reply.json() == {
        "created": 2,
        "deleted": 0,
        "pairs": 1,
        "dialled_twice": [["*********789", "*********432"]],
        "operations": {"create": 4},
        "statuses": {"200": 2, "429": 1, "503": 1},
        "faults": {"503": 1},
        "accepted": 3,
        "rejected": 1,
        "highest_window": 4,
    }
    assert FIRST not in json.dumps(reply.json())
    assert FIRST not in repr(sandbox) + repr(sandbox.account.calls)


@pytest.mark.parametrize("way", ["data", "params"])
async def test_advance_over_http(way: str) -> None:
    """The clock can be moved over HTTP, by a form field or a query parameter."""
    sandbox = Sandbox(speed=0)
    start = sandbox.now
    async with connect(sandbox) as client:
        url = "http://127.0.0.1/sandbox/advance"
        values: Any = {way: {"seconds": "90"}}
        assert (await client.post(url, **values)).status_code == 200
        for bad in ("-1", "nan", "soon", ""):
            assert (await client.post(url, data={"seconds": bad})).status_code == 400
        assert (await client.get(url)).status_code == 404
    assert sandbox.now - start == timedelta(seconds=90)
