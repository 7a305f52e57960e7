"""Resolve, cancel, reschedule and watch, against the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import anyio
import pytest
from campaign_drill import row, write_calls

from innocalls_async import AsyncBridgeClient, RetryPolicy
from innocalls_async.campaign import (
    Campaign,
    CampaignError,
    InputOptions,
    PlanOptions,
    Selection,
    State,
    after,
)
from innocalls_async.campaign.moving import reschedule
from innocalls_async.campaign.watching import Watch, Watched
from innocalls_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

EVERY = Selection()
QUICK = RetryPolicy(initial=0.01)


def _client(sandbox: Sandbox, retry: RetryPolicy | None = QUICK) -> AsyncBridgeClient:
    return AsyncBridgeClient(
        "t",
        transport=sandbox.transport(),
        base_url="http://localhost/api/v1",
        limiter=None,
        retry=retry,
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
            swept = await reschedule(campaign.ledger, client, timedelta(hours=2), EVERY)
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
                await reschedule(campaign.ledger, client, timedelta(hours=2), EVERY)
            await reschedule(campaign.ledger, client, timedelta(hours=2), EVERY)
        moved = {call.call_time for call in campaign.ledger.calls("1")}
    assert moved == {before + 7200}


async def test_reschedule_keeps_the_hours(tmp_path: Path) -> None:
    """A shift out of the campaign's hours goes on to the next opening."""
    options = InputOptions(plan=PlanOptions(window="09:00-17:00"))
    with _campaign(tmp_path, 2, options, call_time="2040-01-02 16:00") as campaign:
        async with _client(Sandbox()) as client:
            before = campaign.ledger.calls("row = 1")[0].call_time or 0
            await reschedule(campaign.ledger, client, timedelta(hours=2), EVERY)
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


async def _schedule(campaign: Campaign, sandbox: Sandbox) -> None:
    async with _client(sandbox) as client:
        await campaign.run(client)


async def test_the_wrong_service_cancels_nothing(tmp_path: Path) -> None:
    """A service that knows none of the calls is said to be the wrong one, and every row stays."""
    with _campaign(tmp_path, 12, call_time="2040-01-02 10:00") as campaign:
        await _schedule(campaign, Sandbox())
        async with _client(Sandbox(seed=9)) as client:
            with pytest.raises(CampaignError, match="knows none of the 10 calls"):
                await after.cancel(campaign.ledger, client, EVERY)
            with pytest.raises(CampaignError, match="knows none"):
                await reschedule(campaign.ledger, client, timedelta(hours=1), EVERY)
        assert campaign.account()[State.SCHEDULED] == 12
        assert campaign.ledger.calls("new_time IS NOT NULL") == []


async def test_watching_the_wrong_service_drops_nothing(tmp_path: Path) -> None:
    """A watch that finds no call at all ends with the reason, and the next one goes on."""
    with _campaign(tmp_path, 5) as campaign:
        await _schedule(campaign, Sandbox())
        async with _client(Sandbox(seed=9)) as client:
            watch = Watch(campaign.ledger, client, interval=0.001, patience=0.002)
            with pytest.raises(CampaignError, match="knows none"), anyio.fail_after(20):
                await watch.run()
        assert watch.unknown == 0
        async with _client(Sandbox()) as client:
            assert (await Watch(campaign.ledger, client).run(0)).left == 5


async def test_a_call_that_only_is_unknown_is_given_up(tmp_path: Path) -> None:
    """Where the service knows other calls, one that it does not know is dropped in the end."""
    sandbox = Sandbox(speed=36000.0)
    with _campaign(tmp_path, 5) as campaign:
        await _schedule(campaign, sandbox)
        campaign.ledger.write("UPDATE calls SET call_id = 'lost' WHERE row = 2")
        async with _client(sandbox) as client:
            watch = Watch(campaign.ledger, client, interval=0.001, patience=0.01)
            with anyio.fail_after(20):
                assert await watch.run() == Watched(final=4, unknown=1, left=0)
        assert watch.so_far == Watched(final=4, unknown=1, left=0)


async def test_a_watch_that_would_only_wait_ends_at_once(tmp_path: Path) -> None:
    """Where the next call is due after the time that there is, that is said now."""
    with _campaign(tmp_path, 2, call_time="2040-01-02 10:00") as campaign:
        await _schedule(campaign, sandbox := Sandbox())
        async with _client(sandbox) as client:
            with anyio.fail_after(5):
                watched = await Watch(campaign.ledger, client).run(3600)
    due = datetime(2040, 1, 2, 10, tzinfo=ZoneInfo("Africa/Cairo"))
    assert watched == Watched(final=0, unknown=0, left=2, next_due=due)


async def test_a_watch_of_days_goes_on(tmp_path: Path) -> None:
    """The 2,000th poll of a call is planned like the 20th."""
    with _campaign(tmp_path, 1) as campaign:
        await _schedule(campaign, sandbox := Sandbox())
        campaign.ledger.write("UPDATE calls SET checks = 2000")
        async with _client(sandbox) as client:
            watched = await Watch(campaign.ledger, client).run(0.2)
        assert watched.left == 1
        assert campaign.ledger.calls("1")[0].checks == 2001


async def test_a_stuck_edit_stops_no_other(tmp_path: Path) -> None:
    """A call that cannot be moved now is named, and the next reschedule moves all the others."""
    with _campaign(tmp_path, 6, call_time="2040-01-02 10:00") as campaign:
        await _schedule(campaign, sandbox := Sandbox())
        before = campaign.ledger.calls("row = 1")[0].call_time or 0
        async with _client(sandbox, retry=None) as client:
            sandbox.fail_next("503", operation="edit", times=2)
            first = await reschedule(campaign.ledger, client, timedelta(hours=1), Selection([2]))
            assert (first.failed, list(first.stuck)) == (1, [2])
            second = await reschedule(campaign.ledger, client, timedelta(hours=2), EVERY)
        assert (second.at_service, second.failed) == (6, 0)
        moved = [call.call_time or 0 for call in campaign.ledger.calls("1")]
    assert [time - before for time in moved] == [7200, 3600, 7200, 7200, 7200, 7200]


async def test_moved_calls_keep_to_the_lines(tmp_path: Path) -> None:
    """After a shift no more calls go on at once than `spread` allows, with those that stay."""
    options = InputOptions(plan=PlanOptions(spread=2))
    with _campaign(tmp_path, 12, options) as campaign:
        async with _client(Sandbox()) as client:
            swept = await reschedule(
                campaign.ledger, client, timedelta(minutes=7), Selection([3, 4, 5, 6])
            )
        assert swept.here == 4
        times = sorted(call.call_time or 0 for call in campaign.ledger.calls("1"))
    length = 5 * 60 + 60
    assert all(later - start >= length for start, later in zip(times, times[2:], strict=False))


async def test_calls_that_may_ring_all_the_same_are_counted(tmp_path: Path) -> None:
    """Of a call in doubt, and of one that was taken as sent without an id, nobody can say here
    that it will not ring as planned."""
    sandbox = Sandbox()
    with _campaign(tmp_path, 5, call_time="2040-01-02 10:00") as campaign:
        sandbox.fail_next("drop", times=2)
        async with _client(sandbox) as client:
            await campaign.run(client)
            first, *_ = campaign.ledger.calls("state = 'in_doubt'")
            after.resolve(campaign.ledger, "sent", Selection([first.row]))
            moved = await reschedule(campaign.ledger, client, timedelta(hours=1), EVERY)
            swept = await after.cancel(campaign.ledger, client, EVERY)
    assert (moved.at_service, moved.failed, moved.in_doubt, moved.without_id) == (3, 0, 1, 1)
    assert (swept.at_service, swept.left, swept.in_doubt, swept.without_id) == (3, 0, 1, 1)


async def test_what_is_not_moved_is_counted(tmp_path: Path) -> None:
    """Rows that go at once, and calls whose time is over, are said to be left as they are."""
    with _campaign(tmp_path, 5, call_time="2040-01-02 10:00") as campaign:
        campaign.ledger.write("UPDATE calls SET call_time = NULL WHERE row < 3")
        campaign.ledger.write("UPDATE calls SET call_time = 1000 WHERE row = 3")
        async with _client(Sandbox()) as client:
            swept = await reschedule(campaign.ledger, client, timedelta(hours=1), EVERY)
    assert (swept.here, swept.left) == (2, 3)


async def test_a_sweep_that_is_cancelled_writes_down_what_it_did(tmp_path: Path) -> None:
    """What was on the wire when a cancel was broken off is waited for, and is in the ledger."""
    sandbox = Sandbox(latency=0.05)
    with _campaign(tmp_path, 40, call_time="2040-01-02 10:00") as campaign:
        await _schedule(campaign, sandbox)
        async with _client(sandbox) as client:
            with anyio.move_on_after(0.18):
                await after.cancel(campaign.ledger, client, EVERY, concurrency=5)
        deleted = sum(call.is_deleted for call in sandbox.account.calls.values())
        assert 0 < deleted == campaign.account()[State.CANCELLED] < 40
