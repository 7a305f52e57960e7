"""The commands of `innocalls campaign`, as a person at a shell meets them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from campaign_drill import drill, row, write_calls
from typer.testing import CliRunner

from innocalls_async.cli.app import app

FAST = ("--rate", "5000/s")
COMMANDS = ("run", "status", "export", "resolve", "cancel", "reschedule", "watch", "report")


def _run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["campaign", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def _sent(folder: Path, rows: list[dict[str, str]] | int = 5) -> Path:
    source = write_calls(folder / "calls.csv", rows)
    assert _run("run", source, "--ledger", folder / "run.db", "--sandbox", *FAST)[0] == 0
    return folder / "run.db"


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    """Each command has help with an example."""
    code, output = _run(command, "--help")
    assert code == 0
    assert "Example:" in output


def test_run_again_and_status(tmp_path: Path) -> None:
    """A run schedules all, the same command again has nothing to do, and status says so."""
    ledger = _sent(tmp_path)
    code, output = _run("run", tmp_path / "calls.csv", "--ledger", ledger, "--sandbox")
    assert (code, "5 scheduled" in output) == (0, True)
    code, output = _run("status", ledger, "--json")
    assert (code, json.loads(output)["scheduled"]) == (0, 5)
    last_run = datetime.fromisoformat(json.loads(output)["last_run_at"])
    assert last_run.utcoffset() == last_run.astimezone(ZoneInfo("Africa/Cairo")).utcoffset()


def test_bad_rows(tmp_path: Path) -> None:
    """Bad rows 8 and 31 of 50 are both named with column and reason, and nothing is sent."""
    calls = [row(number) for number in range(1, 51)]
    calls[7]["first_callee_number"] = "0101"
    calls[30]["duration"] = "soon"
    source = write_calls(tmp_path / "calls.csv", calls)
    with drill(tmp_path) as it:
        done = it.run()
        assert not (tmp_path / "books").read_text()
    said = done.stderr.decode()
    assert done.returncode == 2
    assert "row 8 (line 9), column first_callee_number: " in said
    assert "row 31 (line 32), column duration: whole minutes are needed" in said
    assert "Traceback" not in said
    assert not it.ledger.exists()
    code, output = _run("run", source, "--ledger", it.ledger, "--sandbox", "--skip-invalid")
    assert (code, "48 scheduled" in output) == (0, True)
    assert "2 rows of the file left out as no good, so nobody calls them" in output
    _, output = _run("status", it.ledger, "--json")
    assert json.loads(output)["left_out"] == 2
    reported = _run("report", it.ledger)[1]
    assert "48 rows, 48 scheduled" in reported
    assert "2 left out of the file" in reported
    calls[7]["first_callee_number"] = "201000000008"
    write_calls(source, calls)
    code, output = _run("run", source, "--ledger", it.ledger, "--sandbox", "--skip-invalid")
    assert (code, "would send every row of this file" in " ".join(output.split())) == (2, True)


def test_refused_token(tmp_path: Path) -> None:
    """A token that is not taken ends it with exit code 5 and the rows pending."""
    write_calls(tmp_path / "calls.csv", 1000)
    with drill(tmp_path, "--status", "401") as it:
        done = it.run("--json")
    assert done.returncode == 5
    end = json.loads(done.stdout.splitlines()[-1])
    assert end["pending"] >= 850
    assert "token" in end["reason"]


def test_never_twice(tmp_path: Path) -> None:
    """With `--creates never_twice` a 500 leaves the row in doubt instead of sending it again."""
    write_calls(tmp_path / "calls.csv", 5)
    with drill(tmp_path, "--status", "500") as it:
        assert it.run("--creates", "never_twice").returncode == 4
        assert it.states() == {"in_doubt": 5}


def test_refused_rows_again(tmp_path: Path) -> None:
    """Rows that the service refused are pending again when somebody says so, and not otherwise."""
    write_calls(tmp_path / "calls.csv", 5)
    with drill(tmp_path, "--status", "422") as it:
        first, second = it.run(), it.run()
    assert (first.returncode, second.returncode) == (3, 3)
    assert b"Last trouble: create: the service answered 422" in first.stdout
    assert f"resolve {it.ledger} --refused --send-again --all".encode() in second.stdout
    assert _run("resolve", it.ledger, "--refused", "--as-sent", "--all")[0] == 2
    assert "0 rows" in _run("resolve", it.ledger, "--send-again", "--all")[1]
    code, output = _run("resolve", it.ledger, "--refused", "--send-again", "--row", "2")
    assert (code, output.startswith("1 row settled")) == (0, True)
    assert it.states() == {"refused": 4, "pending": 1}


def test_nobody_is_told_to_call_who_is_not_to_be_called(tmp_path: Path) -> None:
    """Rows that were refused here, for the do-not-call list, are no reason to send them again."""
    write_calls(tmp_path / "calls.csv", 3)
    (tmp_path / "dnc").write_text("201000000001\n", encoding="utf-8")
    with drill(tmp_path) as it:
        ended = it.run("--suppress", str(tmp_path / "dnc"))
    assert ended.returncode == 3
    assert b"2 scheduled, 1 refused" in ended.stdout
    assert b"--send-again" not in ended.stdout


def test_export(tmp_path: Path) -> None:
    """The header is the documented one; what a spreadsheet would run is defused in CSV only."""
    ledger = _sent(tmp_path, [row(1, ref="=1+1"), row(2)])
    lines = _run("export", ledger)[1].splitlines()
    assert lines[0].startswith(
        "ref,state,call_id,attempts,error,first_callee_number,second_callee_number,call_time"
    )
    first, second = csv.DictReader(lines)
    assert (first["ref"], first["state"], second["ref"]) == ("'=1+1", "scheduled", "r2")
    assert second["first_callee_number"] == "201000000002"
    exact = [
        json.loads(line) for line in _run("export", ledger, "--format", "jsonl")[1].split("\n")[:-1]
    ]
    assert [one["ref"] for one in exact] == ["=1+1", "r2"]


def test_export_in_a_pipe(tmp_path: Path) -> None:
    """A reader that has enough is no error."""
    ledger = _sent(tmp_path, 3000)
    main = "from innocalls_async.cli import main; main()"
    command = f"\"{sys.executable}\" -c '{main}' campaign export '{ledger}'"
    done = subprocess.run(  # noqa: S602 - a pipe is what is tested
        f"{command} | head -n 1", shell=True, check=True, capture_output=True, env=os.environ
    )
    assert done.stdout.startswith(b"ref,state")
    assert done.stderr == b""


def test_dry_run(tmp_path: Path) -> None:
    """The plan is shown and nothing is left of it."""
    source = write_calls(tmp_path / "calls.csv", [row(1, call_time="2040-01-03 20:00"), row(2)])
    code, output = _run(
        *("run", source, "--ledger", tmp_path / "run.db", "--dry-run", "--json"),
        *("--window", "09:00-17:00", "--rate", "1/s"),
    )
    plan = json.loads(output)
    assert (code, plan["rows"], plan["to_send"], plan["sending_seconds"]) == (0, 2, 2, 2.0)
    assert plan["moved"] >= 1
    assert plan["last_call"] == "2040-01-04T09:00:00+02:00"
    _, shown = _run("run", source, "--ledger", tmp_path / "run.db", "--dry-run")
    words = [line.split() for line in shown.splitlines()]
    assert ["last", "call", "2040-01-03", "20:00:00+02:00"] in words
    assert ["refused", "-"] in words
    assert not (tmp_path / "run.db").exists()


def test_what_the_plan_makes_of_columns_and_of_the_list(tmp_path: Path) -> None:
    """Before anything is sent it is said which columns nothing is done with, louder where one
    seems to hold the time, and how many numbers the do-not-call list has."""
    source, dnc = write_calls(tmp_path / "calls.csv", 2), tmp_path / "dnc"
    header, *lines = source.read_text("utf-8").splitlines()
    lines = [f"{header},scheduled_time,note", *(f"{line},2040-01-03,x" for line in lines)]
    source.write_text("\n".join(lines), "utf-8")
    dnc.write_text("201000000001\n201000000009\n", encoding="utf-8")
    arguments = ("run", source, "--ledger", tmp_path / "run.db", "--suppress", dnc)
    caution = "Caution: nothing is done with the column scheduled_time; the time of a call is read"
    said = [_run(*arguments, "--dry-run")[1], _run(*arguments, "--sandbox")[1]]
    for shown in said:
        assert "Columns that nothing is done with: scheduled_time, note." in shown
        assert "Do-not-call list: 2 numbers; it refuses 1 row." in shown
        assert caution in shown
    (tmp_path / "run.db").unlink()
    done = CliRunner().invoke(app, ["campaign", *map(str, arguments), "--dry-run", "--json"])
    plan = json.loads(done.stdout)
    assert (plan["do_not_call_list"], plan["on_do_not_call_list"]) == (2, 1)
    assert plan["unused_columns"] == ["scheduled_time", "note"]
    assert caution in done.stderr


def test_calls_in_doubt_are_told_when_the_rest_is_cancelled(tmp_path: Path) -> None:
    """ "0 left" would be believed, and they may ring."""
    calls = [row(number, call_time="2040-01-02 10:00") for number in range(1, 4)]
    write_calls(tmp_path / "calls.csv", calls)
    with drill(tmp_path, "--status", "500") as it:
        ended = it.run("--creates", "never_twice")
        assert b"then settle it: innocalls campaign resolve" in ended.stdout
        done = it.command("cancel", str(it.ledger), "--all")
        assert done.returncode == 4
        assert b"3 rows in doubt may be on the books, and ring as planned" in done.stdout
        watched = it.command("watch", str(it.ledger))
        assert b"Nobody watches what is in doubt: 3 rows." in watched.stdout
        assert it.command("resolve", str(it.ledger), "--as-sent", "--all").returncode == 0
        done = it.command("cancel", str(it.ledger), "--all")
    assert done.returncode == 4
    assert b"3 calls on the books without a call id here, to ring as planned" in done.stdout


def test_an_export_that_has_no_room(tmp_path: Path) -> None:
    """It names the file, exits as for the ledger, and leaves none behind."""
    ledger = _sent(tmp_path, 3000)
    main = "from innocalls_async.cli import main; main()"
    command = f"'{sys.executable}' -c '{main}' campaign export '{ledger}' -o '{tmp_path}/out.csv'"
    done = subprocess.run(  # noqa: S602 - the shell's limit
        f"ulimit -f 100; {command}",
        shell=True,
        executable="/bin/bash",
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 1
    assert "out.csv cannot be written: File too large" in done.stderr
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_a_list_that_is_away_as_a_run_goes_on(tmp_path: Path) -> None:
    """It is a wrong argument, told before anything else."""
    ledger = _sent(tmp_path)
    code, output = _run(
        *("run", tmp_path / "calls.csv", "--ledger", ledger, "--sandbox"),
        *("--suppress", tmp_path / "away"),
    )
    assert (code, "away cannot be read: there is no such file" in output) == (2, True)


def test_resolve(tmp_path: Path) -> None:
    """Rows in doubt are settled only by row or all, and only with a verdict."""
    ledger = tmp_path / "run.db"
    source = write_calls(tmp_path / "calls.csv", 3)
    assert _run("run", source, "--ledger", ledger, "--sandbox", "--not-after", "2001-01-01")[0] == 3
    assert _run("resolve", ledger, "--all")[0] == 2
    assert _run("resolve", ledger, "--as-sent")[0] == 2
    code, output = _run("resolve", ledger, "--send-again", "--all", "--json")
    assert (code, json.loads(output)) == (0, {"resolved": 0})


@pytest.mark.parametrize(
    "options",
    [
        ("--rate", "fast"),
        ("--spread",),
        ("--lines", "10"),
        ("--window", "9-5x"),
        ("--timezone", "Cairo"),
    ],
)
def test_bad_options(tmp_path: Path, options: tuple[str, ...]) -> None:
    """An option that cannot be used is exit code 2, one line, and no ledger."""
    source = write_calls(tmp_path / "calls.csv", 1)
    code, output = _run("run", source, "--ledger", tmp_path / "run.db", "--sandbox", *options)
    assert code == 2
    assert "Traceback" not in output
    assert not (tmp_path / "run.db").exists()


def test_no_token(tmp_path: Path) -> None:
    """Without a token and a terminal, it is said how to give one."""
    source = write_calls(tmp_path / "calls.csv", 1)
    code, output = _run("run", source, "--ledger", tmp_path / "run.db")
    assert code == 2
    assert "INNOCALLS_TOKEN" in output


def test_report(tmp_path: Path) -> None:
    """The report is printed, and written as one page where that is asked for."""
    ledger = _sent(tmp_path)
    code, output = _run("report", ledger, "--html", tmp_path / "report.html")
    assert (code, "scheduled" in output.lower()) == (0, True)
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")
