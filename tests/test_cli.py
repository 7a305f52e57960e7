"""The command line, through the installed script."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from innocalls_async.cli.app import app

SCRIPT = Path(sys.executable).with_name("innocalls")
TOKEN = "canary-token-5551"
CALLEES = [
    *("--flow", "F1", "--first", "+20 112 345 6789", "--first-name", "منى"),
    *("--second", "0020 119 876 5432", "--second-name", "Omar", "--duration", "5"),
]


def innocalls(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a pipe, as another program would."""
    return subprocess.run(
        [SCRIPT, *arguments],
        env={**os.environ, "COLUMNS": "100", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@contextmanager
def serving(*options: str) -> Iterator[dict[str, str]]:
    """What `innocalls sandbox --json` announces, until it is interrupted."""
    process = subprocess.Popen(
        [SCRIPT, "sandbox", "--port", "0", "--json", *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            assert process.wait(10) in {0, 130}  # 0 where a shell has it ignore Ctrl-C


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The base URL of a sandbox on a bad day."""
    with serving("--speed", "600", "--fault", "503=0.2") as announced:
        yield announced["base_url"]


def service(address: str) -> dict[str, str]:
    return {"INNOCALLS_TOKEN": TOKEN, "INNOCALLS_BASE_URL": address}


def test_a_call_from_create_to_delete(address: str) -> None:
    """A call is created, read, edited, waited for and deleted, each with JSON for machines."""
    created = innocalls("call", "create", *CALLEES, "--json", **service(address))
    assert created.returncode == 0, created.stderr
    call_id = json.loads(created.stdout)["call_id"]
    at = ("--at", "2040-01-03 10:30")
    edited = innocalls("call", "edit", call_id, *CALLEES, *at, "--json", **service(address))
    assert json.loads(edited.stdout) == {"call_id": call_id, "edited": True}
    status = innocalls("call", "status", call_id, "--flow", "F1", "--json", **service(address))
    facts = json.loads(status.stdout)
    assert facts["first_recipient_number"] == "*********789"
    assert facts["first_recipient_name"] == "منى"
    assert facts["scheduled_date_time"] == "2040-01-03T10:30:00+02:00"
    assert facts["call_duration"] == "PT5M"
    deleted = innocalls("call", "delete", call_id, "--json", **service(address))
    assert json.loads(deleted.stdout) == {"call_id": call_id, "deleted": True}
    final = innocalls("call", "wait", call_id, "--flow", "F1", "--json", **service(address))
    assert json.loads(final.stdout)["call_status"] == "deleted"


def test_a_time_that_is_over_is_told(address: str) -> None:
    """The service decides what becomes of it; whoever mistyped the year should know."""
    at = ("--at", "2020-04-23 10:30")
    created = innocalls("call", "create", *CALLEES, *at, **service(address))
    assert created.returncode == 0
    assert created.stderr == "innocalls: Caution: --at 2020-04-23 10:30+02:00 is over\n"


def test_wait_follows_a_call_to_its_end(address: str) -> None:
    """`wait` prints the final status for people, with masked numbers, in any encoding."""
    created = innocalls("call", "create", *CALLEES, **service(address))
    call_id = created.stdout.strip().removeprefix("Scheduled: ")
    ended = innocalls(
        *("call", "wait", call_id, "--flow", "F1", "--interval", "0.2", "--timeout", "20"),
        **service(address),
        PYTHONIOENCODING="ascii",
    )
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"call_status +completed", ended.stdout)
    assert re.search(r"first_recipient_name +\\u0645\\u0646\\u0649\n", ended.stdout)
    assert "201123456789" not in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["call", "status", "no-such-call", "--flow", "F1"], 3, "404"),
        (
            ["call", "create", *CALLEES[:3], "112", *CALLEES[4:]],
            2,
            "--first (first_callee_number): ",
        ),
        (["call", "create", *CALLEES, "--at", "tomorrow"], 2, "--at: 'tomorrow' is no time"),
        (["call", "create", *CALLEES, "--at", "2030-10-29"], 2, "has no time of day"),
        (["call", "create", *CALLEES, "--at", "2026-10-29 23:30"], 2, "(call_time): 2026-10-29"),
        (["call", "create", *CALLEES, "--at", "2026-10-29 23:30"], 2, "are put back over it"),
        (["call", "create", *CALLEES, "--at", "2026-04-24 00:30"], 2, "are put forward over it"),
        (["call", "create", *CALLEES, "--timezone", "Mars/Base"], 2, "Mars/Base"),
        (["call", "create"], 2, "Missing option '--flow'; see 'innocalls call create --help'"),
        (["call", "delete", "x", "--lost\x1b[31m"], 2, "; see 'innocalls call delete --help'"),
        (
            ["call", "delete", "x", "--base-url", "http://127.0.0.1:9/api/v1"],
            5,
            "nothing was sent to http://127.0.0.1:9",
        ),
        (["call", "delete", "x", "--base-url", "http://example.com"], 2, "or --allow-plain-http"),
        (["sandbox", "--fault", "kitten=0.1"], 2, "kitten"),
        (["sandbox", "--host", "203.0.113.1"], 2, ""),
        (["sandbox", "--port", "99999"], 2, "'--port'"),
        (["sandbox", "--profile", "django"], 2, "one of seed, laravel, envelope200"),
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
    assert "\x1b" not in ended.stderr
    assert said in ended.stderr
    assert TOKEN not in ended.stderr


def test_a_busy_port(address: str) -> None:
    """A port that is in use is told with what to do about it."""
    port = httpx.URL(address).port
    ended = innocalls("sandbox", "--port", str(port))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"innocalls: port {port} is in use; choose another --port, or -")


def test_plain_http_has_to_be_asked_for_by_name() -> None:
    """An http:// address is taken with the option for it; here nobody is there to answer."""
    ended = innocalls(
        *("call", "wait", "x", "--flow", "F1", "--timeout", "0.1", "--allow-plain-http"),
        **service("http://nobody.invalid"),
    )
    assert ended.returncode == 5
    assert "the call was not final within 0.1 s" in ended.stderr


def test_the_sandbox_announces_its_account() -> None:
    """For people, the sandbox names the addresses of its account and of its clock, and they
    answer; a lost answer is exit code 4, and its call on the books."""
    with subprocess.Popen(
        [SCRIPT, "sandbox", "--port", "0", "--fault", "drop=1"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(10)]
        said = "".join(lines)
        found = re.search(r"INNOCALLS_BASE_URL=(\S+)", said)
        account = re.search(r"curl (http\S+/sandbox/account)\n", said)
        advance = re.search(r'curl -X POST "(http\S+/sandbox/advance\?seconds=60)"\n', said)
        assert found is not None
        assert account is not None
        assert advance is not None
        ended = innocalls("call", "create", *CALLEES, **service(found[1]))
        assert httpx.get(account[1], trust_env=False).json()["created"] == 1
        assert httpx.post(advance[1], trust_env=False).status_code == 200
        process.terminate()
    assert ended.returncode == 4, ended.stderr


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["sandbox"],
        ["demo"],
        ["call"],
        *(["call", name] for name in ("create", "status", "edit", "delete", "wait")),
    ],
)
def test_help_has_an_example(command: list[str]) -> None:
    """Each command explains itself, with an example."""
    shown = CliRunner().invoke(app, [*command, "--help"])
    assert shown.exit_code == 0
    assert "Example: innocalls" in " ".join(shown.stdout.split())


def test_version() -> None:
    """The version is that of the package."""
    assert re.fullmatch(r"innocalls-async \d+\.\d+\.\d+\n", innocalls("--version").stdout)
