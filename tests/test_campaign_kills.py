"""Campaigns that are killed, asked to stop, or run twice at once, against a service whose books
owe nothing to the package."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
from campaign_drill import drill, write_calls

# The smaller number keeps the suite short.
ROWS = (800, pytest.param(3000, marks=pytest.mark.soak))
CONCURRENCY = 50
OPTIONS = ("--rate", "400/s", "--concurrency", str(CONCURRENCY))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rows", ROWS)
def test_sigkill(tmp_path: Path, rows: int) -> None:
    """Killed at random until done, nobody is dialled twice and every row's state is true."""
    write_calls(tmp_path / "calls.csv", rows)
    with drill(tmp_path) as it:
        kills = it.signal_until_done(signal.SIGKILL, random.Random(4), *OPTIONS)
        it.check_account()
    assert kills > 0
    assert it.states()["in_doubt"] <= kills * CONCURRENCY


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain(tmp_path: Path, number: signal.Signals, rows: int) -> None:
    """Asked to stop at random until done, not one row is in doubt."""
    write_calls(tmp_path / "calls.csv", rows)
    with drill(tmp_path) as it:
        assert it.signal_until_done(number, random.Random(5), *OPTIONS) > 0
        it.check_account()
    assert it.states() == {"scheduled": rows}


def test_two_at_once(tmp_path: Path) -> None:
    """Of two runs on one ledger one refuses, and nobody is dialled twice."""
    write_calls(tmp_path / "calls.csv", 300)
    with drill(tmp_path) as it:
        pair = [it.start(*OPTIONS), it.start(*OPTIONS)]
        ends = [process.communicate(timeout=60)[1] for process in pair]
        codes = sorted(process.returncode for process in pair)
        it.check_account()
    assert codes == [0, 2]
    assert b"another process is at work on the ledger" in b"".join(ends)
    assert it.states() == {"scheduled": 300}


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(4))
def test_soak(tmp_path: Path, part: int) -> None:
    """A quarter of 1,000 kills, over as many campaigns of 3,000 rows as that takes."""
    chance = random.Random(part)
    kills = campaigns = 0
    while kills < 250:
        folder = tmp_path / str(campaigns)
        folder.mkdir()
        write_calls(folder / "calls.csv", 3000)
        with drill(folder) as it:
            hits = it.signal_until_done(signal.SIGKILL, chance, *OPTIONS)
            it.check_account()
            assert it.states()["in_doubt"] <= hits * CONCURRENCY
        kills += hits
        campaigns += 1
    print(f"{kills} kills, {campaigns} campaigns")  # noqa: T201 - for the documentation
