"""Resolve, cancel, reschedule and watch, against the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from campaign_drill import row, write_calls

from innocalls_async import AsyncBridgeClient
from innocalls_async.campaign import (
    Campaign,
    CampaignError,
    InputOptions,
    PlanOptions,
    Selection,
    State,
    after,
)
from innocalls_async.campaign.watching import Watch, Watched
from innocalls_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

EVERY = Selection()


def _client(sandbox: Sandbox) -> AsyncBridgeClient:
    return AsyncBridgeClient(
        "t", transport=sandbox.transport(), base_url="http://localhost/api/v1", limiter=None
    )


@contextmanager
def _campaign(
    folder: Path, rows: int, options: InputOptions | None = None, **cells: str
) -> Iterator[Campaign]:
    calls = [row(number, **cells) for number in range(1, rows + 1)]
    source = write_calls(folder / "calls.csv", calls)
    with Campaign.load(source, folder / "run.db", options) as campaign:
        yield campaign


async def _in_doubt(campaign: Campaign) -> None:
    sandbox = Sandbox(faults={"drop": 1.0})
    async with _client(sandbox) as client:
        await campaign.run(client)
    assert campaign.account()[State.IN_DOUBT] > 0


async def test_resolve_sends_again_only_what_it_is_told(tmp_path: Path) -> None:
    """A row in doubt is pending again only if it was chosen."""
    with _campaign(tmp_path, 3) as campaign:
        await _in_doubt(campaign)
        assert after.resolve(campaign.ledger, "send_again", Selection(refs=["r2"])) == 1
        assert campaign.account()[State.PENDING] == 1
        assert campaign.account()[State.IN_DOUBT] == 2


async def test_resolve_takes_as_sent(tmp_path: Path) -> None:
    """A row taken as sent is scheduled under the id given, and an id is one row's."""
    with _campaign(tmp_path, 3) as campaign:
        await _in_doubt(campaign)
        with pytest.raises(CampaignError, match="one row"):
            after.resolve(campaign.ledger, "sent", EVERY, call_id="c1")
        assert after.resolve(campaign.ledger, "sent", Selection(rows=[1]), call_id="c1") == 1
        assert after.resolve(campaign.ledger, "sent", EVERY) == 2
        assert campaign.account()[State.SCHEDULED] == 3
        assert [call.call_id for call in campaign.ledger.calls("call_id IS NOT NULL")] == ["c1"]


async def test_cancel(tmp_path: Path) -> None:
    """Calls to come are deleted at the service, rows to be sent are not sent, others stay."""
    sandbox = Sandbox()
    with _campaign(tmp_path, 30, call_time="2040-01-02 10:00") as campaign:
        async with _client(sandbox) as client:
            await campaign.run(client)
            await client.delete(campaign.ledger.calls("row = 1")[0].call_id or "")
            swept = await after.cancel(campaign.ledger, client, EVERY)
        assert (swept.at_service, swept.failed, swept.left) == (30, 0, 0)
        assert campaign.account()[State.CANCELLED] == 30
    assert all(call.is_deleted for call in sandbox.account.calls.values())


async def test_cancel_before_sending(tmp_path: Path) -> None:
    """A row that is cancelled while it is pending never goes out."""
    sandbox = Sandbox()
    with _campaign(tmp_path, 3) as campaign:
        async with _client(sandbox) as client:
            swept = await after.cancel(campaign.ledger, client, Selection(rows=[2]))
            await campaign.run(client)
        assert swept.here == 1
    assert sandbox.account.created == 2


async def test_reschedule(tmp_path: Path) -> None:
    """Calls are moved at the service and in the ledger by the shift."""
    sandbox = Sandbox()
    with _campaign(tmp_path, 20, call_time="2040-01-02 10:00") as campaign:
        async with _client(sandbox) as client:
            await campaign.run(client)
            before = campaign.ledger.calls("row = 5")[0].call_time
            swept = await after.reschedule(campaign.ledger, client, timedelta(hours=2), EVERY)
        assert (swept.at_service, swept.failed) == (20, 0)
        assert campaign.ledger.calls("row = 5")[0].call_time == (before or 0) + 7200
    times = {call.form.call_time for call in sandbox.account.calls.values()}
    assert len(times) == 1
    assert "12:00" in str(times.pop())


async def test_reschedule_goes_on(tmp_path: Path) -> None:
    """One that was broken off is finished by the next, and nothing is moved twice."""
    sandbox = Sandbox()
    with _campaign(tmp_path, 10, call_time="2040-01-02 10:00") as campaign:
        async with _client(sandbox) as client:
            await campaign.run(client)
            before = campaign.ledger.calls("row = 5")[0].call_time or 0
            sandbox.fail_next("401", operation="edit", times=1)
            with pytest.raises(Exception, match="edit"):
                await after.reschedule(campaign.ledger, client, timedelta(hours=2), EVERY)
            await after.reschedule(campaign.ledger, client, timedelta(hours=2), EVERY)
        moved = {call.call_time for call in campaign.ledger.calls("1")}
    assert moved == {before + 7200}


async def test_reschedule_keeps_the_hours(tmp_path: Path) -> None:
    """A shift out of the campaign's hours goes on to the next opening."""
    options = InputOptions(plan=PlanOptions(window="09:00-17:00"))
    with _campaign(tmp_path, 2, options, call_time="2040-01-02 16:00") as campaign:
        async with _client(Sandbox()) as client:
            before = campaign.ledger.calls("row = 1")[0].call_time or 0
            await after.reschedule(campaign.ledger, client, timedelta(hours=2), EVERY)
        assert {call.call_time for call in campaign.ledger.calls("1")} == {before + 17 * 3600}


async def test_watch(tmp_path: Path) -> None:
    """Every call is followed to its end, and watching again has nothing to do."""
    sandbox = Sandbox(speed=3600.0)

    def clock() -> float:
        return sandbox.now.timestamp()

    with _campaign(tmp_path, 25) as campaign:
        async with _client(sandbox) as client:
            await campaign.run(client)
            watch = Watch(campaign.ledger, client, clock=clock, interval=0.1)
            with anyio.fail_after(20):
                assert await watch.run() == Watched(final=25, unknown=0, left=0)
            assert await Watch(campaign.ledger, client).run() == Watched(0, 0, 0)
        (statuses,) = campaign.ledger.select(
            "SELECT count(*) FROM calls WHERE call_status = 'completed' AND actual_time > 0"
        )
    assert statuses == (25,)
