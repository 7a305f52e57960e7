"""A kill at each step of the ledger's life, and a ledger that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from campaign_drill import Drill, drill, write_calls

from innocalls_async import AsyncBridgeClient
from innocalls_async.campaign import Campaign, LedgerError, Result, State
from innocalls_async.sandbox import Sandbox

ROWS = 40
CONCURRENCY = 8

# Runs the command, but dies by SIGKILL at the n-th time that a step is reached.
_DYING = """
import os, signal, sys
from innocalls_async.campaign import draft, ledger
from innocalls_async.cli import main

step, count = sys.argv.pop(1), int(sys.argv.pop(1))
place, name, when = step.split()
owner = {"ledger": ledger.Ledger, "draft": draft}[place]
original, calls = getattr(owner, name), 0

def dying(*arguments, **options):
    global calls
    calls += 1
    if calls == count and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*arguments, **options)
    if calls == count and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, dying)
main()
"""

# Step, and the place in the ledger's life that it stands for.
STEPS = {
    "rows read, nothing published": ("draft publish before", 1),
    "ledger published": ("draft publish after", 1),
    "schema checked, not recovered": ("ledger _recover before", 1),
    "recovered": ("ledger _recover after", 1),
    "run noted": ("ledger begin_run after", 1),
    "before the first claim": ("ledger turn before", 1),
    "claimed, not committed": ("ledger _claim after", 1),
    "claim committed, nothing sent": ("ledger turn after", 1),
    "outcomes written, not committed": ("ledger _record after", 3),
    "outcomes come, not written": ("ledger turn before", 3),
    "outcomes committed": ("ledger turn after", 3),
    "all done, run not closed": ("ledger end_run before", 1),
    "run closed": ("ledger end_run after", 1),
}


async def _carry_on(it: Drill) -> None:
    # What the command does, without a start of Python's for each step.
    is_there = it.ledger.exists()
    calls = it.folder / "calls.csv"
    with Campaign.open(it.ledger) if is_there else Campaign.load(calls, it.ledger) as campaign:
        async with AsyncBridgeClient("t", base_url=it.base_url, limiter=None) as client:
            assert await campaign.run(client, concurrency=CONCURRENCY) is Result.DONE


@pytest.mark.parametrize("step", STEPS)
def test_kill_at(tmp_path: Path, step: str) -> None:
    """Killed at this step and run again, nobody is dialled twice and every state is true."""
    name, count = STEPS[step]
    calls = write_calls(tmp_path / "calls.csv", ROWS)
    with drill(tmp_path) as it:
        options = ["--concurrency", str(CONCURRENCY), "--rate", "400/s"]
        command = ["campaign", "run", str(calls), "--ledger", str(it.ledger), *options]
        environment = {**os.environ, "INNOCALLS_TOKEN": "t", "INNOCALLS_BASE_URL": it.base_url}
        died = subprocess.run(
            [sys.executable, "-c", _DYING, name, str(count), *command],
            env=environment,
            check=False,
            capture_output=True,
        )
        assert died.returncode == -9
        anyio.run(_carry_on, it)
        it.check_account()
    states = it.states()
    assert states["in_doubt"] <= CONCURRENCY
    assert states.total() == ROWS


async def _run(campaign: Campaign, sandbox: Sandbox, spoil: Callable[[], object]) -> None:
    async with AsyncBridgeClient(
        "t", transport=sandbox.transport(), base_url="http://localhost/api/v1", limiter=None
    ) as client:
        spoil()
        await campaign.run(client, concurrency=10)


def _fill(campaign: Campaign) -> None:
    """From now on SQLite says that the disk is full as soon as the file must grow."""
    connection = campaign.ledger._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")


@pytest.mark.anyio
async def test_disk_full(tmp_path: Path) -> None:
    """With no room for outcomes the run stops; what was sent is in doubt, and nothing more is."""
    sandbox = Sandbox()
    source = write_calls(tmp_path / "calls.csv", 2000)
    with (
        Campaign.load(source, tmp_path / "run.db") as campaign,
        pytest.raises(LedgerError, match="full"),
    ):
        await _run(campaign, sandbox, lambda: _fill(campaign))
    with Campaign.open(tmp_path / "run.db") as campaign:
        account = campaign.account()
    assert account[State.IN_DOUBT] <= 10
    assert account[State.PENDING] > 0
    assert sandbox.account.created <= account[State.SCHEDULED] + account[State.IN_DOUBT]
    assert sandbox.account.dialled_twice == []


@pytest.mark.anyio
async def test_read_only(tmp_path: Path) -> None:
    """A ledger that cannot be written sends nothing."""
    sandbox = Sandbox()
    source = write_calls(tmp_path / "calls.csv", 20)
    with Campaign.load(source, tmp_path / "run.db") as campaign:
        execute = campaign.ledger._connection.execute
        with pytest.raises(LedgerError, match="readonly"):
            await _run(campaign, sandbox, lambda: execute("PRAGMA query_only = ON"))
    assert sandbox.account.created == 0
