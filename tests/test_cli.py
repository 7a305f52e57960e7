"""The command line, through the installed script."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

SCRIPT = Path(sys.executable).with_name("innocalls")
TOKEN = "canary-token-5551"
CALLEES = [
    *("--flow", "F1", "--first", "+20 112 345 6789", "--first-name", "Mona"),
    *("--second", "0020 119 876 5432", "--second-name", "Omar", "--duration", "5"),
]


def innocalls(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a pipe, as another program would."""
    return subprocess.run(
        [SCRIPT, *arguments],
        env={**os.environ, "COLUMNS": "100", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The base URL that `innocalls sandbox` announces."""
    process = subprocess.Popen(
        [SCRIPT, "sandbox", "--port", "0", "--speed", "600", "--fault", "503=0.2"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"INNOCALLS_BASE_URL=(\S+)", line):
                yield found[1]
                break
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        process.stdout.close()


def service(address: str) -> dict[str, str]:
    return {"INNOCALLS_TOKEN": TOKEN, "INNOCALLS_BASE_URL": address}


def test_a_call_from_create_to_delete(address: str) -> None:
    """A call is created, read, edited, waited for and deleted, each with JSON for machines."""
    created = innocalls("call", "create", *CALLEES, "--json", **service(address))
    assert created.returncode == 0, created.stderr
    call_id = json.loads(created.stdout)["call_id"]
    at = ("--at", "2026-12-01 10:30")
    edited = innocalls("call", "edit", call_id, *CALLEES, *at, "--json", **service(address))
    assert json.loads(edited.stdout) == {"call_id": call_id, "edited": True}
    status = innocalls("call", "status", call_id, "--flow", "F1", "--json", **service(address))
    facts = json.loads(status.stdout)
    assert facts["first_recipient_number"] == "*********789"
    assert facts["scheduled_date_time"].startswith("2026-12-01 10:30")
    deleted = innocalls("call", "delete", call_id, "--json", **service(address))
    assert json.loads(deleted.stdout) == {"call_id": call_id, "deleted": True}
    final = innocalls("call", "wait", call_id, "--flow", "F1", "--json", **service(address))
    assert json.loads(final.stdout)["call_status"] == "deleted"


def test_wait_follows_a_call_to_its_end(address: str) -> None:
    """`wait` prints the final status for people, with masked numbers."""
    created = innocalls("call", "create", *CALLEES, **service(address))
    call_id = created.stdout.strip().removeprefix("Scheduled: ")
    ended = innocalls(
        *("call", "wait", call_id, "--flow", "F1", "--interval", "0.2", "--timeout", "20"),
        **service(address),
    )
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"call_status +completed", ended.stdout)
    assert "201123456789" not in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["call", "status", "no-such-call", "--flow", "F1"], 3, "404"),
        (["call", "create", *CALLEES[:3], "112", *CALLEES[4:]], 2, "first_callee_number"),
        (["call", "create", *CALLEES, "--at", "tomorrow"], 2, "--at"),
        (["call", "create", *CALLEES, "--timezone", "Mars/Base"], 2, "Mars/Base"),
        (["call", "create", *CALLEES, "--at", "2026-10-29 23:30"], 2, "comes twice"),
        (["call", "delete", "x", "--base-url", "http://127.0.0.1:9/api/v1"], 5, "nothing was sent"),
        (["call", "delete", "x", "--base-url", "http://example.com"], 2, "https://"),
        (["sandbox", "--fault", "kitten=0.1"], 2, "kitten"),
        (["sandbox", "--host", "203.0.113.1"], 2, ""),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    address: str, arguments: list[str], code: int, said: str
) -> None:
    """What goes wrong is said in one line on stderr, with the documented exit code."""
    ended = innocalls(*arguments, **service(address))
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.startswith("innocalls: ")
    assert ended.stderr.count("\n") == 1
    assert said in ended.stderr
    assert TOKEN not in ended.stderr


def test_a_lost_answer_is_in_doubt() -> None:
    """A create whose answer is lost ends with the exit code for it."""
    with subprocess.Popen(
        [SCRIPT, "sandbox", "--port", "0", "--fault", "drop=1"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        text = "".join(iter(process.stdout.readline, "\n"))
        text += process.stdout.readline() + process.stdout.readline()
        found = re.search(r"INNOCALLS_BASE_URL=(\S+)", text)
        assert found is not None
        ended = innocalls("call", "create", *CALLEES, **service(found[1]))
        account = httpx.get(found[1].replace("/api/v1", "/sandbox/account")).json()
        process.send_signal(signal.SIGINT)
    assert ended.returncode == 4, ended.stderr
    assert account["created"] == 1


def test_no_token_in_a_pipe() -> None:
    """Without a terminal to ask on, a missing token is an error that says what to set."""
    ended = innocalls("call", "delete", "x", INNOCALLS_TOKEN="")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "INNOCALLS_TOKEN" in ended.stderr


@pytest.mark.parametrize(
    "command", [[], ["call"], ["call", "create"], ["call", "wait"], ["sandbox"], ["demo"]]
)
def test_help_has_an_example(command: list[str]) -> None:
    """Each command explains itself, and those that do something show an example."""
    shown = innocalls(*command, "--help")
    assert shown.returncode == 0
    if command not in ([], ["call"]):
        assert "Example: innocalls" in " ".join(shown.stdout.split())


def test_version() -> None:
    """The version is that of the package."""
    assert re.fullmatch(r"innocalls-async \d+\.\d+\.\d+\n", innocalls("--version").stdout)
