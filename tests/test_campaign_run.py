"""What a run does with the service's answers, in process and on both event loops."""

from __future__ import annotations

from pathlib import Path

import anyio
import httpx
import pytest
from campaign_drill import row, write_calls

from innocalls_async import AsyncBridgeClient, BridgeRequest, RetryPolicy
from innocalls_async.campaign import Campaign, InputOptions, PlanOptions, Result, State
from innocalls_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

QUICK = RetryPolicy(attempts=2, initial=0.001, maximum=0.002)


def _client(sandbox: Sandbox) -> AsyncBridgeClient:
    return AsyncBridgeClient(
        "t",
        transport=sandbox.transport(),
        base_url="http://localhost/api/v1",
        limiter=None,
        retry=QUICK,
    )


async def _run(campaign: Campaign, sandbox: Sandbox, *, stop_after: int | None = None) -> Result:
    async with _client(sandbox) as client:
        return await campaign.run(client, concurrency=20, stop_after=stop_after)


async def test_everything_scheduled(tmp_path: Path) -> None:
    """Each row is scheduled once, and a second run has nothing to do."""
    sandbox = Sandbox()
    with Campaign.load(write_calls(tmp_path / "c.csv", 200), tmp_path / "run.db") as campaign:
        assert await _run(campaign, sandbox) is Result.DONE
        assert await _run(campaign, sandbox) is Result.DONE
        assert campaign.account()[State.SCHEDULED] == 200
    assert sandbox.account.created == len(sandbox.account.by_pair) == 200


@pytest.mark.parametrize("status", ["401", "403"])
async def test_token_refused(tmp_path: Path, status: str) -> None:
    """A token that is not taken stops it at once, with at least 85 % of 1,000 rows pending."""
    sandbox = Sandbox(faults={status: 1.0})
    with Campaign.load(write_calls(tmp_path / "c.csv", 1000), tmp_path / "run.db") as campaign:
        assert await _run(campaign, sandbox) is Result.STOPPED
        assert campaign.account()[State.PENDING] >= 850
        assert "token" in (campaign.progress.reason or "")
    assert sandbox.account.operations["create"] <= 150


async def test_outage_leaves_rows_pending(tmp_path: Path) -> None:
    """A service that is down stops the run, and nothing is refused or in doubt for it."""
    sandbox = Sandbox(faults={"503": 1.0})
    with Campaign.load(write_calls(tmp_path / "c.csv", 500), tmp_path / "run.db") as campaign:
        assert await _run(campaign, sandbox) is Result.STOPPED
        assert campaign.account()[State.PENDING] == 500
        assert await _run(campaign, Sandbox()) is Result.DONE


async def test_passing_trouble_is_tried_again(tmp_path: Path) -> None:
    """Rows that met a passing fault are sent again in the same run."""
    sandbox = Sandbox(faults={"503": 0.3}, seed=1)
    with Campaign.load(write_calls(tmp_path / "c.csv", 150), tmp_path / "run.db") as campaign:
        assert await _run(campaign, sandbox) is Result.DONE
        assert campaign.account()[State.SCHEDULED] == 150
    assert sandbox.account.dialled_twice == []


async def test_stop_after(tmp_path: Path) -> None:
    """So many refusals stop the run, and leave the rest pending."""
    sandbox = Sandbox(faults={"400": 1.0})
    with Campaign.load(write_calls(tmp_path / "c.csv", 500), tmp_path / "run.db") as campaign:
        assert await _run(campaign, sandbox, stop_after=5) is Result.STOPPED
        account = campaign.account()
    assert 5 <= account[State.REFUSED] <= 25
    assert account[State.PENDING] + account[State.REFUSED] == 500


async def test_lost_answers_are_in_doubt(tmp_path: Path) -> None:
    """A row whose answer was lost is in doubt, and no later run sends it again."""
    sandbox = Sandbox(faults={"drop": 0.2}, seed=3)
    with Campaign.load(write_calls(tmp_path / "c.csv", 200), tmp_path / "run.db") as campaign:
        await _run(campaign, sandbox)
        doubts = campaign.account()[State.IN_DOUBT]
        await _run(campaign, Sandbox())
        assert campaign.account()[State.IN_DOUBT] == doubts > 0
    assert sandbox.account.dialled_twice == []


async def test_suppression_is_read_again(tmp_path: Path) -> None:
    """Somebody who came onto the do-not-call list after the load is not called, on either leg."""
    sandbox = Sandbox()
    listed = tmp_path / "dnc.txt"
    listed.write_text("number\n+20 10 0000 0001\n", encoding="utf-8")
    options = InputOptions(suppress=listed)
    source = write_calls(tmp_path / "c.csv", 5)
    with Campaign.load(source, tmp_path / "run.db", options) as campaign:
        assert campaign.account()[State.REFUSED] == 1
        listed.write_text("٠٠٢٠١١٠٠٠٠٠٠٠٢;somebody\n+20-10-00000001\n", encoding="utf-8")
        await _run(campaign, sandbox)
        assert campaign.account()[State.REFUSED] == 2
    assert sandbox.account.created == 3


async def test_time_over_before_sending(tmp_path: Path) -> None:
    """A call whose time went by long before it could be sent expires."""
    sandbox = Sandbox()
    calls = [row(1, call_time="2040-01-01 10:00"), row(2)]
    with Campaign.load(write_calls(tmp_path / "c.csv", calls), tmp_path / "run.db") as campaign:
        campaign.ledger.write("UPDATE calls SET call_time = 1000, asked_time = 1000 WHERE row = 1")
        await _run(campaign, sandbox)
        assert campaign.account()[State.EXPIRED] == 1
    assert sandbox.account.created == 1


async def test_at_once_means_within_the_hours(tmp_path: Path) -> None:
    """A row planned for at once that is sent after hours goes to the next opening instead."""
    options = InputOptions(plan=PlanOptions(window="09:00-09:01"))  # too short for any call
    with Campaign.load(
        write_calls(tmp_path / "c.csv", [row(1)]), tmp_path / "run.db", options
    ) as campaign:
        campaign.ledger.write("UPDATE calls SET call_time = NULL")
        sandbox = Sandbox()
        await _run(campaign, sandbox)
    assert sandbox.account.created == 0


async def test_late_calls_are_spread_anew(tmp_path: Path) -> None:
    """Calls whose planned time went by before they were sent ring under the cap all the same."""
    options = InputOptions(plan=PlanOptions(spread=2))
    source = write_calls(tmp_path / "c.csv", 12)
    with Campaign.load(source, tmp_path / "run.db", options) as campaign:
        campaign.ledger.write("UPDATE calls SET call_time = call_time - 1800")
        await _run(campaign, Sandbox())
        assert campaign.account()[State.SCHEDULED] == 12
        times = [call.call_time for call in campaign.ledger.calls("1")]
    starts = sorted(time for time in times if time is not None)
    assert len(starts) == 12
    length = 5 * 60 + 60
    assert all(later - start >= length for start, later in zip(starts, starts[2:], strict=False))


async def test_cancelled_run(tmp_path: Path) -> None:
    """A run that is cancelled sends nothing more, and what was under way is in doubt."""
    sandbox = Sandbox(latency=0.05)
    source = write_calls(tmp_path / "c.csv", 500)
    with Campaign.load(source, tmp_path / "run.db") as campaign:
        async with anyio.create_task_group() as group:
            group.start_soon(_run, campaign, sandbox)
            with anyio.fail_after(20):
                while sandbox.account.created < 30:  # noqa: ASYNC110 - the sandbox has no event
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        account = campaign.account()
        sent = sandbox.account.created
        await anyio.sleep(0.2)
    assert sandbox.account.created - sent <= 20
    assert account[State.SENDING] == 0
    assert 0 < account[State.IN_DOUBT] <= 20
    assert sandbox.account.created <= account[State.SCHEDULED] + account[State.IN_DOUBT]


class _Eager(httpx.AsyncBaseTransport):
    """Has sent a request before it awaits anything, as a transport on a free connection has."""

    def __init__(self) -> None:
        self.sent = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += 1
        await anyio.sleep(0.01)
        return httpx.Response(200, json={"status": 200, "data": {"call_id": str(self.sent)}})


class _Gate:
    """A limiter that grants when it is told to."""

    def __init__(self) -> None:
        self.open = anyio.Event()

    async def acquire(self) -> None:
        await self.open.wait()


async def test_leaving_as_the_grant_comes() -> None:
    """A request admitted in the very step in which the reader leaves is not sent unseen."""
    transport, gate = _Eager(), _Gate()
    async with AsyncBridgeClient("t", transport=transport, limiter=gate) as client:
        request = BridgeRequest("F", "20100000001", "a", "20100000002", "b", 5)
        outcomes = client.bridge_many([request])

        async def read() -> None:
            async for _ in outcomes:
                pass

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            gate.open.set()
            await outcomes.aclose()
    assert transport.sent == len(outcomes.untaken)
