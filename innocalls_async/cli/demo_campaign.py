"""The demo's second half: a campaign that is killed half way."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from anyio.from_thread import start_blocking_portal
from rich.console import Console
from rich.table import Table

from innocalls_async.cli.common import Exit, console, fail
from innocalls_async.cli.demo_fanout import FAULTS, compare, transport_at_hand
from innocalls_async.sandbox import Sandbox

__all__ = ["print_campaign", "run_campaign"]

RATE: Final = 400
# A call of seven minutes is over in a second.
SPEED: Final = 600.0
_DONE: Final = frozenset({0, 3, 4})  # all scheduled, some refused, some in doubt


def run_campaign(rows: int, progress: Console) -> dict[str, Any]:
    """Run so many rows of the shipped list through the command line, with a SIGKILL half way; the
    account."""
    folder = Path(tempfile.mkdtemp(prefix="innocalls-demo-"))
    calls = folder / "calls.csv"
    shipped = files("innocalls_async.cli") / "demo_calls.csv"
    lines = shipped.read_text("utf-8").splitlines(keepends=True)
    calls.write_text("".join(lines[: 1 + rows]), "utf-8")
    sandbox = Sandbox(rate=RATE, faults=FAULTS, speed=SPEED, rules=_lives(calls))
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(sandbox.serve()) as base_url,
    ):
        _Commands(folder, base_url, progress).run_all(sandbox, rows // 2)
    return _account(sandbox, folder)


def _lives(calls: Path) -> dict[str, str]:
    """What becomes of those who do not answer, so that the report has something to tell."""
    with calls.open(encoding="utf-8", newline="") as file:
        second = [row["second_callee_number"] for row in csv.DictReader(file)]
    words = ("not_answered", "busy", "unreachable")
    return {number: words[place % 3] for place, number in enumerate(second[::5])}


class _Commands:
    """The commands that a person would type, one after the other."""

    def __init__(self, folder: Path, base_url: str, progress: Console) -> None:
        self._ledger = folder / "run.db"
        self._calls = folder / "calls.csv"
        self._progress = progress
        self._environment = {
            **os.environ,
            "INNOCALLS_TOKEN": "demo-token",
            "INNOCALLS_BASE_URL": base_url,
        }

    def run_all(self, sandbox: Sandbox, half: int) -> None:
        command = ["run", str(self._calls), "--ledger", str(self._ledger)]
        command += ["--rate", f"{RATE}/s", "--concurrency", "50"]
        command += ["--fast"] if transport_at_hand() else []
        self._kill_half_way(command, sandbox, half)
        self._say("Killed half way (SIGKILL). The same command again:")
        self._finish(command)
        self._finish(["watch", str(self._ledger), "--rate", f"{RATE}/s", "--timeout", "120"])
        if _can_draw():
            # Its tables are also in the page, and long.
            self._finish(["report", str(self._ledger), "--html", str(self._page)], shows=False)
        else:
            self._say("No report is written: that needs the extra `report`.")
        self._finish(["export", str(self._ledger), "--output", str(self._export)])

    @property
    def _page(self) -> Path:
        return self._ledger.with_name("report.html")

    @property
    def _export(self) -> Path:
        return self._ledger.with_name("account.csv")

    def _kill_half_way(self, command: list[str], sandbox: Sandbox, half: int) -> None:
        with subprocess.Popen(**self._typed(command)) as process:
            try:
                while sandbox.account.created < half and process.poll() is None:
                    time.sleep(0.02)
            finally:
                process.kill()

    def _finish(self, command: list[str], *, shows: bool = True) -> None:
        code = subprocess.run(check=False, **self._typed(command, shows=shows)).returncode
        if code == Exit.INTERRUPTED:
            raise KeyboardInterrupt
        if code not in _DONE:
            fail(f"the demo's `innocalls campaign {command[0]}` ended with exit code {code}")

    def _typed(self, command: list[str], *, shows: bool = True) -> dict[str, Any]:
        """What starts the command; it prints where we do."""
        self._say(f"$ innocalls campaign {' '.join(command)}")
        return {
            "args": [sys.executable, "-m", "innocalls_async", "campaign", *command],
            "env": self._environment,
            "stdout": self._progress.file if shows else subprocess.DEVNULL,
        }

    def _say(self, text: str) -> None:
        self._progress.print(text, markup=False, highlight=False, soft_wrap=True)


def _can_draw() -> bool:
    try:
        import jinja2  # noqa: F401, PLC0415 - an extra
        import matplotlib  # noqa: F401, PLC0415 - an extra
    except ImportError:
        return False
    return True


def _account(sandbox: Sandbox, folder: Path) -> dict[str, Any]:
    """What the ledger says, beside the sandbox's books."""
    with (folder / "account.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    states = Counter(row["state"] for row in rows)
    stated = ((r["state"], (r["first_callee_number"], r["second_callee_number"])) for r in rows)
    contradicted, in_doubt_on_books = compare(stated, sandbox.account.by_pair)
    return {
        "rows": states.total(),
        **{state: states[state] for state in ("scheduled", "refused", "in_doubt", "pending")},
        "in_doubt_on_books": in_doubt_on_books,
        "on_books": sandbox.account.created,
        "contradicted": contradicted,
        "dialled_twice": len(sandbox.account.dialled_twice),
        "files": str(folder),
    }


def print_campaign(account: Mapping[str, Any]) -> None:
    """Both sides of the account, side by side."""
    table = Table(title="The campaign, killed once")
    table.add_column("")
    table.add_column("the ledger says", justify="right")
    table.add_column("the sandbox's books say", justify="right")
    on_books = account["on_books"] - account["in_doubt_on_books"]
    table.add_row("scheduled", str(account["scheduled"]), str(on_books))
    doubts = f"{account['in_doubt_on_books']} came about"
    table.add_row("in doubt", str(account["in_doubt"]), doubts)
    table.add_row("refused", str(account["refused"]), "-")
    table.add_row("never sent", str(account["pending"]), "-")
    table.add_row("dialled twice", "0 allowed", str(account["dialled_twice"]))
    console.print(table)
    console.print(
        f"Its files, to look at: {account['files']}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
