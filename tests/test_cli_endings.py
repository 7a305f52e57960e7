"""How the command line ends when its surroundings fail, and what it says then."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_cli import CALLEES, SCRIPT, innocalls, service, serving

from innocalls_async import cli
from innocalls_async.cli.common import to_json
from innocalls_async.cli.demo_fanout import compare

posix = pytest.mark.skipif(sys.platform == "win32", reason="of POSIX: signals, /dev, terminals")


@contextmanager
def replying(data: dict[str, Any], status: int = 200, message: str = "") -> Iterator[str]:
    """The base URL of a service that answers everything so."""
    envelope = {"status": status, "success": status == 200, "message": message, "data": data}
    body = json.dumps(envelope).encode()

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _reply  # noqa: N815 - its names

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - its name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/v1"
        finally:
            server.shutdown()
            thread.join()


def in_shell(command: str, base_url: str) -> subprocess.CompletedProcess[str]:
    """What a line of bash does, `innocalls` in it being the script."""
    return subprocess.run(
        ["/bin/bash", "-c", f'innocalls() {{ "{SCRIPT}" "$@"; }}; {command}'],
        env={**os.environ, **service(base_url)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


CREATE = shlex.join(["innocalls", "call", "create", *CALLEES])


class TestOutput:
    """What was done is said, and nothing is a traceback, wherever the output goes."""

    @posix
    @pytest.mark.parametrize("where", [">/dev/full", ">&-", "--json >/dev/full", "| true"])
    def test_a_created_call_is_never_lost(self, where: str) -> None:
        """The id of a call that is on the books is on stderr where stdout does not take it."""
        with replying({"call_id": "id-1\x1b[31m\n"}) as base_url:
            ended = in_shell(f"{CREATE} {where}; exit ${{PIPESTATUS[0]}}", base_url)
        assert ended.stderr == "innocalls: scheduled, but it could not be printed: id-1[31m\n"
        assert ended.returncode == 0

    @posix
    def test_a_created_call_that_nobody_hears_of(self) -> None:
        """Where neither stdout nor stderr takes it, the exit code is that of a call in doubt."""
        with replying({"call_id": "id-1"}) as base_url:
            assert in_shell(f"{CREATE} >&- 2>&-", base_url).returncode == 4

    @posix
    @pytest.mark.parametrize(
        ("where", "code", "said"),
        [
            (">/dev/full", 1, "innocalls: [Errno 28] standard output cannot be written: No space"),
            (">&-", 0, ""),
            ("--json | true", 0, ""),
        ],
    )
    def test_a_status_that_nobody_reads(self, where: str, code: int, said: str) -> None:
        """A reader that has left is no error, and a full disk is one line."""
        with replying({"callStatus": {"callId": "x"}}) as base_url:
            line = f"innocalls call status x --flow F1 {where}; exit ${{PIPESTATUS[0]}}"
            ended = in_shell(line, base_url)
        assert (ended.returncode, ended.stdout) == (code, "")
        assert ended.stderr.startswith(said)
        assert ended.stderr.count("\n") == bool(said)

    @pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
    def test_half_a_character(self, encoding: str) -> None:
        """A name with a lone surrogate, or what moves a terminal's cursor, is printed for people
        and for machines."""
        name = "\udc80 منى\x1b[2J\nx"
        with replying({"callStatus": {"callId": "x", "firstRecipientName": name}}) as base_url:
            environment = {**service(base_url), "PYTHONIOENCODING": encoding}
            for_people = innocalls("call", "status", "x", "--flow", "F1", **environment)
            for_machines = innocalls("call", "status", "x", "--flow", "F1", "--json", **environment)
        assert (for_people.returncode, for_machines.returncode) == (0, 0)
        shown = next(line for line in for_people.stdout.splitlines() if "first_recipient_n" in line)
        assert shown.endswith("[2J x")
        assert "\x1b" not in for_people.stdout
        assert json.loads(for_machines.stdout)["first_recipient_name"] == name

    def test_a_complaint_of_the_service(self) -> None:
        """What the service complains of is one line, without its control characters."""
        with replying({}, status=404, message="no\x1b[31m\nway") as base_url:
            ended = innocalls("call", "status", "x", "--flow", "F1", **service(base_url))
        assert ended.returncode == 3
        assert "no[31m way" in ended.stderr
        assert ended.stderr.count("\n") == 1


class TestToken:
    @posix
    def test_a_closed_stdin(self) -> None:
        """Without a terminal to ask on, a missing token is an error that says what to set."""
        for stdin in ("</dev/null", "<&-"):
            ended = in_shell(f"INNOCALLS_TOKEN= innocalls call delete x {stdin}", "http://x")
            assert (ended.returncode, ended.stdout) == (2, "")
            assert ended.stderr.startswith("innocalls: no token: set INNOCALLS_TOKEN")

    @posix
    @pytest.mark.parametrize("key", [b"\x03", b"\x04"])
    def test_leaving_the_prompt(self, key: bytes) -> None:
        """The prompt is on stderr; Ctrl-C and the end of the input there are an interruption."""
        import pty

        program = (
            "import fcntl, os, sys, termios\n"
            "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"  # for Ctrl-C to be a signal
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        terminal, end = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", program, SCRIPT, "call", "delete", "x", "--json"],
            stdin=end,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        os.close(end)
        assert os.read(terminal, 1) == b" "  # the prompt's last character: it waits for input
        os.write(terminal, key)
        stdout, stderr = process.communicate(timeout=20)
        os.close(terminal)
        assert (process.returncode, stdout) == (130, b"")
        assert stderr == b"Token:\ninnocalls: interrupted\n"


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_create_that_is_interrupted_is_in_doubt(number: signal.Signals) -> None:
    """Ctrl-C, or a SIGTERM, while the answer is waited for says that the call is in doubt."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # else a child inherits it
    with serving("--fault", "stall=1") as announced:
        process = subprocess.Popen(
            [SCRIPT, "call", "create", *CALLEES],
            env={**os.environ, **service(announced["base_url"])},
            stderr=subprocess.PIPE,
            text=True,
        )
        while not httpx.get(announced["account"], trust_env=False).json()["created"]:
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    signal.signal(signal.SIGINT, before)
    assert process.returncode == 4, said
    assert said == (
        "innocalls: interrupted: the call may or may not be on the service's books; look before "
        "it is sent again\n"
    )


DROPPING = """
import os, sys, time
from innocalls_async import cli
from innocalls_async.cli import app

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))

def start():
    Finalized()
    for _ in range(200):
        time.sleep(0.01)
    return 0

app.start = start
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_that_python_drops_is_not_lost(number: signal.Signals) -> None:
    """One that meets a finalizer ends the program all the same."""
    command = [sys.executable, "-c", DROPPING, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (130, "innocalls: interrupted\n")


def without(folder: Path, *modules: str) -> dict[str, str]:
    """An environment in which these modules are not installed."""
    for module in modules:
        error = f"raise ModuleNotFoundError('No module named {module}', name='{module}')"
        (folder / f"{module}.py").write_text(error)
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("typer", ["--help"], "cli"),
        ("starlette", ["sandbox"], "sandbox"),
        ("httptools", ["campaign", "run", "calls.csv", "--ledger", "x.db", "--fast"], "fast"),
    ],
)
def test_an_extra_that_is_not_installed(
    tmp_path: Path, module: str, arguments: list[str], extra: str
) -> None:
    """A missing extra is one line that names it."""
    ended = innocalls(*arguments, **without(tmp_path, module), INNOCALLS_TOKEN="t")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"innocalls-async[{extra}]" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_the_demo_for_machines(tmp_path: Path) -> None:
    """With the extra `cli` alone the demo runs; its stdout is one JSON document, and how far it
    is, is on stderr."""
    lacking = without(tmp_path, "httptools", "jinja2")
    ended = innocalls("demo", "--calls", "50", "--rows", "100", "--json", **lacking)
    assert ended.returncode == 0, ended.stderr
    account = json.loads(ended.stdout)
    for half in ("fanout", "campaign"):
        assert (account[half]["contradicted"], account[half]["dialled_twice"]) == (0, 0)
    assert account["fanout"]["calls"] == 50
    assert "Killed half way (SIGKILL)." in ended.stderr
    assert "Traceback" not in ended.stderr


def test_contradictions_do_not_cancel_out() -> None:
    """The demo compares pair by pair: one call too many does not make up for one too few."""
    refused, missing, in_doubt, unheard = (("1", "2"), ("3", "4"), ("5", "6"), ("7", "8"))
    stated = [("refused", refused), ("scheduled", missing), ("in_doubt", in_doubt)]
    assert compare(stated, Counter([refused, in_doubt])) == (2, 1)
    assert compare(stated, Counter([missing])) == (0, 0)
    assert compare(stated, Counter([missing, unheard])) == (1, 0)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(minutes=5), "PT5M"),
        (timedelta(hours=1, seconds=1.5), "PT1H1.5S"),
        (timedelta(days=2), "P2D"),
        (timedelta(days=1, hours=3), "P1DT3H"),
        (timedelta(0), "PT0S"),
    ],
)
def test_durations_for_machines(duration: timedelta, text: str) -> None:
    """A duration is written in ISO 8601."""
    assert json.loads(to_json({"duration": duration})) == {"duration": text}


def test_a_bug_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    """What nobody thought of is told with its place, and without a whole number."""
    with pytest.raises(ValueError, match="int") as caught:
        int("number 201123456789")
    assert cli._explain(ExceptionGroup("of tasks", [caught.value])) == 1
    said = capsys.readouterr().err
    assert said.startswith("innocalls: a bug, please report it: ValueError in ")
    assert said.endswith("number *********789'\n")
