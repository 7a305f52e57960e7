"""The campaign's commands through the installed script: in a pipe, under signals, and with the
mistakes that people make."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaign_drill import COMMAND, Drill, drill, row, write_calls

FAST = ("--rate", "5000/s")

# The command with progress at once, instead of after seconds.
_EAGER = """
from innocalls_async.cli import campaign_progress, main
campaign_progress._LINE_SECONDS = 0.05
main()
"""


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Drill]:
    with drill(tmp_path) as running:
        yield running


def _fine(done: subprocess.CompletedProcess[bytes], code: int = 0) -> str:
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done.stdout.decode()


def test_every_command(it: Drill) -> None:
    """Each command of the installed script does its part of one campaign's life."""
    later = [row(number, call_time="2040-01-02 10:00") for number in range(1, 4)]
    write_calls(it.folder / "calls.csv", [*later, row(4)])
    ledger = str(it.ledger)
    assert "4 scheduled" in _fine(it.run(*FAST))
    assert json.loads(_fine(it.command("status", ledger, "--json")))["scheduled"] == 4
    watched = json.loads(_fine(it.command("watch", ledger, "--timeout", "1", "--json"), 5))
    next_due = "2040-01-02T10:00:00+02:00"
    assert watched == {"final": 1, "unknown": 0, "left": 3, "next_due": next_due}
    assert "3 are still to be watched, the next at 2040-01-02 10:00+02:00." in _fine(
        it.command("watch", ledger, "--timeout", "0"), 5
    )
    moved = json.loads(
        _fine(it.command("reschedule", ledger, "--shift", "1h", "--row", "2", "--json"))
    )
    assert (moved["at_service"], moved["failed"]) == (1, 0)
    cancelled = _fine(it.command("cancel", ledger, "--row", "1", "--ref", "r2"))
    assert "2 cancelled at the service" in cancelled
    assert re.search(
        r"^Named: row 2 \(ref r2\): .+ \*+002 and Omar \*+002, 2040-", cancelled, re.MULTILINE
    )
    assert "1 left as they are (over" in _fine(it.command("cancel", ledger, "--row", "4"))
    assert len(it.deleted()) == 2
    assert _fine(it.command("resolve", ledger, "--send-again", "--all")).startswith("0 rows")
    header, *rows = csv.reader(_fine(it.command("export", ledger)).splitlines())
    assert [row[header.index("row")] for row in rows] == ["1", "2", "3", "4"]
    assert "scheduled" in _fine(it.command("report", ledger))


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_a_run_whose_reader_leaves(it: Drill, options: tuple[str, ...]) -> None:
    """When nobody reads what it tells any more, a run goes on and ends as it would."""
    source = write_calls(it.folder / "calls.csv", 60)
    arguments = ["campaign", "run", str(source), "--ledger", str(it.ledger), "--rate", "100/s"]
    with subprocess.Popen(
        [sys.executable, "-c", _EAGER, *arguments, *options],
        env=it.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read().decode()
    assert (process.returncode, "Traceback" in said) == (0, False)
    assert it.states() == {"scheduled": 60}


def test_a_run_in_a_pipe(it: Drill) -> None:
    """`run | head -1` has one line, no complaint, exit code 0, and everything scheduled."""
    source = write_calls(it.folder / "calls.csv", 20)
    done = subprocess.run(  # noqa: S602 - a pipe is what is tested
        f"'{COMMAND}' campaign run '{source}' --ledger '{it.ledger}' | head -n 1; "
        "exit ${PIPESTATUS[0]}",
        shell=True,
        executable="/bin/bash",
        check=True,
        capture_output=True,
        env=it.environment,
    )
    assert done.stdout == b"20 rows.\n"
    assert b"Traceback" not in done.stderr
    assert it.states() == {"scheduled": 20}


def _await(process: subprocess.Popen[bytes], seen: Path, size: int = 1) -> None:
    until = time.monotonic() + 30
    while not (seen.exists() and seen.stat().st_size >= size):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.005)


def _stop(process: subprocess.Popen[bytes], *numbers: signal.Signals) -> str:
    """What it says on stderr when it gets these signals, each after the first line for it."""
    assert process.stderr is not None
    said = ""
    for number in numbers:
        process.send_signal(number)
        # At night a caution comes before.
        for line in process.stderr:
            said += line.decode()
            if not line.startswith(b"Caution: "):
                break
    said += process.communicate(timeout=30)[1].decode()
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_one_signal_drains(it: Drill, number: signal.Signals) -> None:
    """A terminal that goes away drains a run as SIGTERM does: no row is in doubt."""
    write_calls(it.folder / "calls.csv", 200)
    process = it.start("--rate", "100/s", "--json")
    _await(process, it.folder / "books", 500)
    said = _stop(process, number)
    assert "Stopping: waiting" in said
    assert json.loads(process.communicate()[0])["result"] == "interrupted"
    assert process.returncode == 130
    states = it.states()
    assert states["in_doubt"] == states["sending"] == 0
    assert states["scheduled"] == len(it.books()) < 200


def test_a_second_signal_stops_now(tmp_path: Path) -> None:
    """A second signal waits for nothing, and what was on the wire is in doubt."""
    write_calls(tmp_path / "calls.csv", 20)
    with drill(tmp_path, "--silent", "20") as it:
        process = it.start("--concurrency", "5", "--json")
        _await(process, tmp_path / "books", 200)
        began = time.monotonic()
        _stop(process, signal.SIGINT, signal.SIGINT)
        assert time.monotonic() - began < 10
    assert process.returncode == 130
    assert it.states()["in_doubt"] >= len(it.books())
    assert it.states()["in_doubt"] <= 5


def test_stopped_while_it_loads(it: Drill) -> None:
    """SIGTERM in the middle of loading leaves no ledger and no piece of one."""
    write_calls(it.folder / "calls.csv", 40_000)
    process = it.start()
    loading = it.ledger.with_name("run.db.loading")
    _await(process, loading, 0)
    process.terminate()
    assert b"interrupted" in process.communicate(timeout=30)[1]
    assert process.returncode == 130
    left = {path.name for path in it.folder.iterdir() if path.name.startswith("run.db")}
    assert left <= {"run.db.owner"}


def test_a_stopped_cancel_tells_the_truth(tmp_path: Path) -> None:
    """A cancel that is asked to end writes down what it deleted, and the next one goes on."""
    calls = [row(number, call_time="2040-01-02 10:00") for number in range(1, 31)]
    write_calls(tmp_path / "calls.csv", calls)
    with drill(tmp_path, "--latency", "0.1") as it:
        _fine(it.run(*FAST))
        command = ("cancel", str(it.ledger), "--all", "--concurrency", "3")
        process = it.start_command(*command)
        _await(process, tmp_path / "books.deleted")
        assert "interrupted" in _stop(process, signal.SIGTERM)
        assert process.returncode == 130
        assert 0 < it.states()["cancelled"] == len(it.deleted()) < 30
        _fine(it.command("cancel", str(it.ledger), "--all"))
    assert it.states() == {"cancelled": 30}


def test_a_stopped_watch(it: Drill) -> None:
    """A watch that is asked to end does so, in one line."""
    write_calls(it.folder / "calls.csv", [row(1, call_time="2040-01-02 10:00"), row(2)])
    _fine(it.run(*FAST))
    process = it.start_command("watch", str(it.ledger))
    until = time.monotonic() + 30
    while not it.watched():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert "interrupted; the same command goes on" in _stop(process, signal.SIGHUP)
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INNOCALLS_BASE_URL", "http://example.com/api/v1"),
        ("INNOCALLS_BASE_URL", "nonsense"),
        ("INNOCALLS_TOKEN", "secret\n"),
    ],
)
def test_a_mistake_in_the_environment(tmp_path: Path, name: str, value: str) -> None:
    """An address or a token that cannot be used is one line, exit code 2, and no ledger."""
    source = write_calls(tmp_path / "calls.csv", 3)
    done = subprocess.run(
        [COMMAND, "campaign", "run", source, "--ledger", tmp_path / "run.db"],
        env={**os.environ, "INNOCALLS_TOKEN": "t", name: value},
        capture_output=True,
        check=False,
    )
    _fine(done, 2)
    assert len(done.stderr.decode().strip().splitlines()) == 1
    assert b"secret" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["calls.csv"]
