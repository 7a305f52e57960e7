"""What becomes of a campaign when it is the service, a setting or the clock that is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import anyio
import httpx
import pytest
from campaign_drill import write_calls

from innocalls_async import AsyncBridgeClient, RetryPolicy
from innocalls_async.campaign import (
    Campaign,
    InputOptions,
    PlanOptions,
    Result,
    Selection,
    State,
    after,
)
from innocalls_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

QUICK = RetryPolicy(attempts=2, initial=0.001, maximum=0.002)
ROWS = 300

Answer = Callable[[int, dict[str, list[str]]], httpx.Response]


def scheduled(number: int) -> httpx.Response:
    return httpx.Response(
        200, json={"status": 200, "success": True, "data": {"call_id": f"c{number}"}}
    )


def client_of(answer: Answer, retry: RetryPolicy | None = QUICK) -> AsyncBridgeClient:
    """A client of a service that gives `answer` to the n-th request and its form."""
    count = 0

    async def handle(request: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        return answer(count, parse_qs((await request.aread()).decode()))

    return AsyncBridgeClient(
        "t",
        transport=httpx.MockTransport(handle),
        base_url="http://localhost/api/v1",
        limiter=None,
        retry=retry,
        body_format="urlencoded",
    )


def campaign_of(folder: Path, rows: int = ROWS, options: InputOptions | None = None) -> Campaign:
    return Campaign.load(write_calls(folder / "calls.csv", rows), folder / "run.db", options)


REPLIES = {
    "wrong path": httpx.Response(404, json={"message": "Not found"}),
    "moved": httpx.Response(302, headers={"location": "https://example.com/"}),
    "payment required": httpx.Response(402, json={"message": "insufficient balance"}),
    "no balance": httpx.Response(
        200, json={"status": 400, "success": False, "message": "insufficient balance"}
    ),
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
async def test_a_refusal_of_everything_refuses_no_row(
    tmp_path: Path, reply: httpx.Response
) -> None:
    """A service that refuses row after row alike stops the run, and every row is pending."""
    with campaign_of(tmp_path) as campaign:
        async with client_of(lambda number, form: reply) as client:
            assert await campaign.run(client, concurrency=10) is Result.STOPPED
        assert campaign.account()[State.PENDING] == ROWS
        assert campaign.progress.counts == campaign.account()
        assert "refused in a row" in (campaign.progress.reason or "")
        async with client_of(lambda number, form: scheduled(number)) as client:
            assert await campaign.run(client) is Result.DONE
        assert campaign.account()[State.SCHEDULED] == ROWS


async def test_nor_do_fewer_rows_than_go_at_once(tmp_path: Path) -> None:
    """A list that is shorter than `concurrency` is stopped at its end; a handful of rows that
    are refused may be the rows."""
    for rows, result, state in [
        (24, Result.DONE, State.REFUSED),
        (25, Result.STOPPED, State.PENDING),
    ]:
        (tmp_path / str(rows)).mkdir()
        with campaign_of(tmp_path / str(rows), rows) as campaign:
            async with client_of(lambda number, form: httpx.Response(404, json={})) as client:
                assert await campaign.run(client, concurrency=100) is result
            assert campaign.account()[state] == rows


async def test_nor_does_one_that_is_ended_by_then(tmp_path: Path) -> None:
    """Ctrl-C before the service was seen to refuse everything leaves no row refused either."""
    with campaign_of(tmp_path, 90) as campaign:

        def answer(number: int, form: dict[str, list[str]]) -> httpx.Response:
            if number == 30:
                campaign.drain()
            return httpx.Response(402, json={"message": "no credit"})

        async with client_of(answer) as client:
            assert await campaign.run(client, concurrency=50) is Result.INTERRUPTED
        assert campaign.account()[State.PENDING] == 90


async def test_bad_rows_behind_good_ones_are_refused(tmp_path: Path) -> None:
    """Where rows were taken before, a list that ends in bad ones was not refused as a whole."""

    def answer(number: int, form: dict[str, list[str]]) -> httpx.Response:
        is_good = int(form["first_callee_number"][0]) % 100 < 70
        return scheduled(number) if is_good else httpx.Response(422, json={"message": "no"})

    with campaign_of(tmp_path, 99) as campaign:
        async with client_of(answer) as client:
            assert await campaign.run(client, concurrency=100) is Result.DONE
        assert campaign.account()[State.REFUSED] == 30


async def test_bad_rows_among_good_ones_are_refused(tmp_path: Path) -> None:
    """However many rows are refused, with others taken between them it is the rows."""

    def answer(number: int, form: dict[str, list[str]]) -> httpx.Response:
        is_good = int(form["first_callee_number"][0]) % 20 == 0
        return scheduled(number) if is_good else httpx.Response(400, json={"message": "no"})

    with campaign_of(tmp_path) as campaign:
        async with client_of(answer) as client:
            assert await campaign.run(client, concurrency=20) is Result.DONE
        assert campaign.account()[State.REFUSED] == ROWS - ROWS // 20


async def test_refused_rows_are_sent_again_on_a_persons_word(tmp_path: Path) -> None:
    """Rows that the service refused can be made pending; what was refused here stays so."""
    listed = tmp_path / "dnc.txt"
    listed.write_text("+20 10 0000 0001\n", encoding="utf-8")
    with campaign_of(tmp_path, 6, InputOptions(suppress=listed)) as campaign:
        async with client_of(lambda number, form: httpx.Response(422, json={})) as client:
            await campaign.run(client)
        assert campaign.account()[State.REFUSED] == 6
        assert after.resolve(campaign.ledger, "send_refused_again", Selection()) == 5
        assert campaign.account()[State.PENDING] == 5


async def test_lost_answers_stop_the_run(tmp_path: Path) -> None:
    """A service that answers nothing readable costs a bounded number of doubts, not the list."""
    page = httpx.Response(200, html="<h1>Welcome</h1>")
    with campaign_of(tmp_path) as campaign:
        async with client_of(lambda number, form: page) as client:
            assert await campaign.run(client, concurrency=10) is Result.STOPPED
        account = campaign.account()
    assert 25 <= account[State.IN_DOUBT] <= 35
    assert account[State.PENDING] == ROWS - account[State.IN_DOUBT]


async def test_a_late_row_keeps_its_time(tmp_path: Path) -> None:
    """A row that is sent at once because its time is just over still has that time, so that it
    expires if it could not be sent."""
    forms = []

    def answer(number: int, form: dict[str, list[str]]) -> httpx.Response:
        forms.append(form)
        return httpx.Response(503)

    asked = int(time.time()) - 100
    with campaign_of(tmp_path, 1) as campaign:
        campaign.ledger.write("UPDATE calls SET call_time = ?, asked_time = ?", asked, asked)
        async with client_of(answer) as client:
            assert await campaign.run(client) is Result.STOPPED
        assert [call.call_time for call in campaign.ledger.calls("1")] == [asked]
        assert not any("call_time" in form for form in forms)
        early = asked - 300
        campaign.ledger.write("UPDATE calls SET call_time = ?, asked_time = ?", early, early)
        async with client_of(answer) as client:
            await campaign.run(client)
        assert campaign.account()[State.EXPIRED] == 1


async def test_a_time_about_to_come_goes_at_once(tmp_path: Path) -> None:
    """A call that is to ring in two seconds is sent without a time that could be over by then."""
    forms = []

    def answer(number: int, form: dict[str, list[str]]) -> httpx.Response:
        forms.append(form)
        return scheduled(number)

    soon = int(time.time()) + 2
    with campaign_of(tmp_path, 1) as campaign:
        campaign.ledger.write("UPDATE calls SET call_time = ?, asked_time = ?", soon, soon)
        async with client_of(answer) as client:
            await campaign.run(client)
        assert [call.call_time for call in campaign.ledger.calls("1")] == [soon]
    assert "call_time" not in forms[0]


async def test_a_time_over_on_the_way_is_no_refusal(tmp_path: Path) -> None:
    """A time that the service calls over, because the row had to wait, is sent again at once."""
    late = {"message": "Invalid", "errors": {"call_time": ["must be after now"]}}
    soon = int(time.time()) + 30

    def answer(number: int, form: dict[str, list[str]]) -> httpx.Response:
        if "call_time" not in form:
            return scheduled(number)
        campaign.ledger.write("UPDATE calls SET call_time = ?", soon - 60)
        return httpx.Response(422, json=late)

    with campaign_of(tmp_path, 1) as campaign:
        campaign.ledger.write("UPDATE calls SET call_time = ?, asked_time = ?", soon, soon)
        async with client_of(answer) as client:
            assert await campaign.run(client) is Result.DONE
        assert campaign.account()[State.SCHEDULED] == 1


async def test_attempts_of_a_row_given_back(tmp_path: Path) -> None:
    """A row that is taken back between two attempts is pending, with the attempt that it cost."""
    patient = RetryPolicy(attempts=5, initial=60.0, maximum=60.0)
    with campaign_of(tmp_path, 1) as campaign:
        answered = anyio.Event()

        def answer(number: int, form: dict[str, list[str]]) -> httpx.Response:
            answered.set()
            return httpx.Response(503, headers={"retry-after": "60"})

        async with client_of(answer, patient) as client, anyio.create_task_group() as group:
            group.start_soon(campaign.run, client)
            await answered.wait()
            await anyio.wait_all_tasks_blocked()
            campaign.drain()
        assert list(campaign.ledger.select("SELECT state, attempts FROM calls")) == [("pending", 1)]


async def test_a_bug_on_the_way_is_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks in the bookkeeping is raised as it is, and leaves nothing in doubt."""
    sandbox = Sandbox(latency=0.05)
    options = InputOptions(plan=PlanOptions(window="00:00-24:00"))
    with campaign_of(tmp_path, 60, options) as campaign:
        calls = 0

        def break_down(screen: object, call: object, moment: float) -> object:
            nonlocal calls
            calls += 1
            if calls > 20:
                raise ZeroDivisionError
            return call

        monkeypatch.setattr("innocalls_async.campaign.screen.Screening.__call__", break_down)
        async with AsyncBridgeClient(
            "t", transport=sandbox.transport(), base_url="http://localhost/api/v1", limiter=None
        ) as client:
            with pytest.raises(ZeroDivisionError):
                await campaign.run(client, concurrency=5)
        account = campaign.account()
    assert account[State.IN_DOUBT] == account[State.SENDING] == 0
    assert account[State.SCHEDULED] == sandbox.account.created > 0
