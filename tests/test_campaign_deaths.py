"""A kill at the steps that no outcome shows: the ledger's birth, the wire, and what comes after a
run. `test_campaign_faults` has those of the run itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from campaign_drill import Drill, drill, row, write_calls

from innocalls_async import AsyncBridgeClient
from innocalls_async.campaign import Campaign, Selection, after
from innocalls_async.campaign.moving import reschedule
from innocalls_async.campaign.watching import Watch

ROWS = 12
EVERY = Selection()
FAST = ("--rate", "5000/s")

# Runs the command, but dies by SIGKILL at the first time that a step is reached.
_DYING = """
import os, signal, sys
from innocalls_async.campaign import draft, ledger
from innocalls_async.cli import main

place, name, when = sys.argv.pop(1).split()
owner = {"ledger": ledger.Ledger, "draft": draft}[place]
original = getattr(owner, name)

def dying(*arguments, **options):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    original(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, dying)
main()
"""


def _die(it: Drill, step: str, *command: str) -> None:
    died = subprocess.run(
        [sys.executable, "-c", _DYING, step, "campaign", *command],
        env=it.environment,
        check=False,
        capture_output=True,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()


@pytest.mark.parametrize(
    "step",
    ["draft _put_in_place before", "draft _sync_directory before", "draft _put_in_place after"],
)
def test_while_the_ledger_is_published(tmp_path: Path, step: str) -> None:
    """Killed after the commit, before or after it has its name, a ledger is whole or not there."""
    calls = write_calls(tmp_path / "calls.csv", ROWS)
    with drill(tmp_path) as it:
        _die(it, step, "run", str(calls), "--ledger", str(it.ledger))
        assert it.ledger.exists() == (step != "draft _put_in_place before")
        assert it.run(*FAST).returncode == 0
        it.check_account()
    assert it.states() == {"scheduled": ROWS}
    assert not list(tmp_path.glob("*.loading"))


def test_on_the_wire_unanswered(tmp_path: Path) -> None:
    """Killed with requests on the wire that the service took and has not answered, exactly these
    are in doubt, and nobody is dialled twice."""
    write_calls(tmp_path / "calls.csv", ROWS)
    with drill(tmp_path, "--silent", "5") as it:
        process = it.start("--concurrency", "5")
        until = time.monotonic() + 30
        while len(it.books()) < 5:
            assert time.monotonic() < until
            time.sleep(0.01)
        process.kill()
        process.communicate()
        assert it.run(*FAST).returncode == 4
        it.check_account()
    assert it.states() == {"in_doubt": 5, "scheduled": ROWS - 5}


Again = Callable[[Campaign, AsyncBridgeClient], Awaitable[object]]


async def _resolve(campaign: Campaign, client: AsyncBridgeClient) -> object:
    return after.resolve(campaign.ledger, "sent", EVERY)


async def _cancel(campaign: Campaign, client: AsyncBridgeClient) -> object:
    return await after.cancel(campaign.ledger, client, EVERY)


async def _reschedule(campaign: Campaign, client: AsyncBridgeClient) -> object:
    return await reschedule(campaign.ledger, client, timedelta(hours=1), EVERY)


async def _watch(campaign: Campaign, client: AsyncBridgeClient) -> object:
    return await Watch(campaign.ledger, client).run(10)


_MOVED = "call_time - asked_time = 3600 AND new_time IS NULL"
# The command, the step at which it dies, how it is done again, and what is true of every row then.
AFTER: dict[str, tuple[str, str, Again, str]] = {
    "resolve, nothing written": (
        "resolve --as-sent --all",
        "ledger write before",
        _resolve,
        "state = 'scheduled'",
    ),
    "resolved": ("resolve --as-sent --all", "ledger write after", _resolve, "state = 'scheduled'"),
    "deleted, not written": (
        "cancel --all",
        "ledger write_all before",
        _cancel,
        "state = 'cancelled'",
    ),
    "deleted and written": (
        "cancel --all",
        "ledger write_all after",
        _cancel,
        "state = 'cancelled'",
    ),
    "new times noted, none edited": (
        "reschedule --shift 1h --all",
        "ledger move after",
        _reschedule,
        _MOVED,
    ),
    "edited, not written": (
        "reschedule --shift 1h --all",
        "ledger write_all before",
        _reschedule,
        _MOVED,
    ),
    "polled, not written": (
        "watch",
        "ledger write_all before",
        _watch,
        "call_status = 'completed'",
    ),
    "polled and written": ("watch", "ledger write_all after", _watch, "call_status = 'completed'"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("name", AFTER)
async def test_after_a_run(tmp_path: Path, name: str) -> None:
    """Killed at this step and done again, a command has done to each row what it does, once."""
    command, step, again, truth = AFTER[name]
    when = {} if command == "watch" else {"call_time": "2040-01-02 10:00"}
    calls = write_calls(tmp_path / "calls.csv", [row(n, **when) for n in range(1, ROWS + 1)])
    with drill(tmp_path) as it:
        async with AsyncBridgeClient("t", base_url=it.base_url, limiter=None) as client:
            with Campaign.load(calls, it.ledger) as campaign:
                campaign.ledger.belong_to(it.base_url)
                if command.startswith("resolve"):
                    campaign.ledger.turn([], ROWS)  # and is closed with them under way
                else:
                    await campaign.run(client)
            verb, *options = command.split()
            _die(it, step, verb, str(it.ledger), *options)
            with Campaign.open(it.ledger) as campaign:
                await again(campaign, client)
                true_of = campaign.ledger.calls(truth)
                assert len(true_of) == ROWS
        assert len(it.books()) == (0 if verb == "resolve" else ROWS)
        assert set(it.deleted()) == (
            {call.call_id for call in true_of} if verb == "cancel" else set()
        )
