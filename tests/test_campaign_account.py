"""The commands that read a ledger, and what they leave alone, as a person at a shell meets them."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from campaign_drill import write_calls
from typer.testing import CliRunner

from innocalls_async.campaign import Campaign, Ledger, State
from innocalls_async.campaign.ledger import Record
from innocalls_async.cli.app import app


def _run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["campaign", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output.replace("\n", " ")


def _ledger(folder: Path, *states: State, left: int = 0) -> Path:
    """A ledger with a row in each of `states`, and as many pending as are `left`."""
    path = folder / "run.db"
    count = len(states) + left
    Campaign.load(write_calls(folder / "calls.csv", count), path).close()
    with Ledger(path) as ledger:
        ledger.turn([], len(states))
        ends = [(row, state) for row, state in enumerate(states, 1) if state is not State.SENDING]
        ledger.turn([Record(row, state, 1) for row, state in ends])
    return path


@pytest.mark.parametrize(
    ("states", "left", "code"),
    [
        ([State.SCHEDULED], 0, 0),
        ([State.SCHEDULED, State.REFUSED], 0, 3),
        ([State.REFUSED, State.IN_DOUBT], 0, 4),
        ([State.SCHEDULED, State.SENDING], 0, 4),  # nobody owns it: its run died
        ([State.IN_DOUBT], 1, 5),
    ],
)
def test_status_code(tmp_path: Path, states: list[State], left: int, code: int) -> None:
    """The exit code says whether rows are left to send, else what a run would say."""
    assert _run("status", _ledger(tmp_path, *states, left=left))[0] == code


def test_dead_run_accounts(tmp_path: Path) -> None:
    """A row that a dead run was sending is in doubt in every account, with the reason."""
    ledger = _ledger(tmp_path, State.SENDING)
    status = json.loads(_run("status", ledger, "--json")[1])
    assert (status["sending"], status["in_doubt"]) == (0, 1)
    (row,) = map(json.loads, [_run("export", ledger, "--format", "jsonl")[1]])
    assert (row["state"], row["attempts"]) == ("in_doubt", 1)
    assert "was killed" in row["error"]
    report = _run("report", ledger)[1]
    assert "1 in doubt, 0 not sent yet" in report


def test_no_ledger_is_overwritten(tmp_path: Path) -> None:
    """An account or a page is never written over a ledger."""
    ledger = _ledger(tmp_path, State.SCHEDULED)
    before = ledger.read_bytes()
    for command in (("export", ledger, "-o", ledger), ("report", ledger, "--html", ledger)):
        code, output = _run(*command)
        assert (code, "give another name" in output) == (2, True)
    assert ledger.read_bytes() == before


def test_export_replaces_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older account is replaced by a whole new one, or stays as it was."""
    ledger, account = _ledger(tmp_path, State.SCHEDULED), tmp_path / "account.csv"
    account.write_text("old", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr("innocalls_async.campaign.export._harmless", lambda _: 1 / 0)
        assert (
            CliRunner()
            .invoke(app, ["campaign", "export", str(ledger), "-o", str(account)])
            .exit_code
        )
    assert account.read_text(encoding="utf-8") == "old"
    assert _run("export", ledger, "-o", account)[0] == 0
    assert account.read_text(encoding="utf-8").startswith("ref,state")
    assert not list(tmp_path.glob(".account*"))


def test_report_without_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables need no extra, and for the page it is said which one is needed."""
    ledger = _ledger(tmp_path, State.SCHEDULED)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in ("report_page", "report_plots"):
        monkeypatch.delitem(sys.modules, f"innocalls_async.campaign.{name}", raising=False)
    assert _run("report", ledger)[0] == 0
    code, output = _run("report", ledger, "--html", tmp_path / "page.html")
    assert (code, "innocalls-async[report]" in output) == (2, True)


def test_backup(tmp_path: Path) -> None:
    """A backup is a ledger like the first, and is never written over anything."""
    ledger, copy = _ledger(tmp_path, State.SCHEDULED, left=1), tmp_path / "copy.db"
    assert _run("backup", ledger, copy)[0] == 0
    assert _run("status", copy, "--json") == _run("status", ledger, "--json")
    assert _run("backup", ledger, copy)[0] == 2


@contextmanager
def _small_files(size: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_no_room_for_the_ledger(tmp_path: Path) -> None:
    """With no room on the disk nothing is sent, and that is no fault of the input: exit code 1."""
    source = write_calls(tmp_path / "calls.csv", 500)
    with _small_files(20_000):
        code, output = _run("run", source, "--ledger", tmp_path / "run.db", "--sandbox")
    assert code == 1
    assert "cannot be made" in output
    assert not (tmp_path / "run.db").exists()


def test_another_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was tried at the sandbox is not taken for done at the service, by no command."""
    source, ledger = write_calls(tmp_path / "calls.csv", 2), tmp_path / "run.db"
    run = ("run", source, "--ledger", ledger)
    assert _run(*run, "--sandbox")[0] == 0
    assert _run(*run, "--sandbox")[0] == 0
    monkeypatch.setenv("INNOCALLS_TOKEN", "t")
    commands = (run, ("watch", ledger), ("cancel", ledger, "--all"))
    for command in (*commands, ("reschedule", ledger, "--all", "--shift", "1h")):
        code, output = _run(*command)
        assert (code, "a campaign at the sandbox, not at https://" in output) == (2, True), output


def test_row_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chosen row that is not there is named, whatever was to be done with it."""
    ledger = _ledger(tmp_path, State.IN_DOUBT)
    monkeypatch.setenv("INNOCALLS_TOKEN", "t")
    for command in (("resolve", "--as-sent"), ("cancel",), ("reschedule", "--shift", "1h")):
        code, output = _run(command[0], ledger, *command[1:], "--row", "9999")
        assert (code, "no row 9999" in output) == (2, True), output


@pytest.mark.parametrize("command", ["resolve", "status"])
def test_mistyped_ledger(tmp_path: Path, command: str) -> None:
    """A name without a ledger is said to be so, and nothing is left there."""
    options = ("--all", "--as-sent") if command == "resolve" else ()
    code, output = _run(command, tmp_path / "typo.db", *options)
    assert (code, "there is no ledger" in output) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_died_is_told_as_broken_off(tmp_path: Path) -> None:
    """`status` tells a run that is at work from one that no longer is and never said its end."""
    ledger = tmp_path / "run.db"
    with Campaign.load(write_calls(tmp_path / "calls.csv", 1), ledger) as campaign:
        campaign.ledger.begin_run(None)
        assert json.loads(_run("status", ledger, "--json")[1])["last_result"] == "running"
    assert json.loads(_run("status", ledger, "--json")[1])["last_result"] == "broken off"
    with Ledger(ledger):  # who comes next is not who died
        assert json.loads(_run("status", ledger, "--json")[1])["last_result"] == "broken off"


def test_status_with_a_lock_that_cannot_be_looked_at(tmp_path: Path) -> None:
    """What is beside the ledger and is no lock of ours is no reason to say nothing."""
    ledger = _ledger(tmp_path, State.SCHEDULED)
    (tmp_path / "run.db.owner").unlink()
    (tmp_path / "run.db.owner").mkdir()
    assert json.loads(_run("status", ledger, "--json")[1])["scheduled"] == 1
