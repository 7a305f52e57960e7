"""What the campaign's tests share: an input, a service in a process of its own, and the command
as a process to send signals to."""

from __future__ import annotations

import csv
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import attrs

COLUMNS = (
    "ref",
    "call_flow_id",
    "first_callee_number",
    "first_callee_name",
    "second_callee_number",
    "second_callee_name",
    "duration",
    "call_time",
)
COMMAND = Path(sys.executable).parent / "innocalls"


def row(number: int, **cells: str) -> dict[str, str]:
    """A good row, but for `cells`."""
    good = {
        "ref": f"r{number}",
        "call_flow_id": "flow",
        "first_callee_number": f"2010{number:08d}",
        "first_callee_name": f"منى {number}",
        "second_callee_number": f"2011{number:08d}",
        "second_callee_name": "Omar",
        "duration": "5",
        "call_time": "",
    }
    return {**good, **cells}


def write_calls(path: Path, rows: Sequence[dict[str, str]] | int) -> Path:
    """`rows` (or so many good ones) as a CSV."""
    chosen = [row(number) for number in range(1, rows + 1)] if isinstance(rows, int) else rows
    with path.open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(chosen)
    return path


@attrs.frozen
class Drill:
    """A campaign in `folder`, against a service that keeps its books there."""

    folder: Path
    base_url: str

    @property
    def ledger(self) -> Path:
        return self.folder / "run.db"

    def start(self, *options: str, calls: Path | None = None) -> subprocess.Popen[bytes]:
        """The command `campaign run`, under way."""
        source = str(calls or self.folder / "calls.csv")
        return self.start_command("run", source, "--ledger", str(self.ledger), *options)

    @property
    def environment(self) -> dict[str, str]:
        """Where a command finds the service."""
        return {**os.environ, "INNOCALLS_TOKEN": "t", "INNOCALLS_BASE_URL": self.base_url}

    def command(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Any of the commands, as it is installed, to its end."""
        process = self.start_command(*arguments)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start_command(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Likewise, under way."""
        return subprocess.Popen(
            [COMMAND, "campaign", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )

    def run(self, *options: str) -> subprocess.CompletedProcess[bytes]:
        """The command `campaign run`, to its end."""
        return self.command(
            "run", str(self.folder / "calls.csv"), "--ledger", str(self.ledger), *options
        )

    def signal_until_done(
        self, number: signal.Signals, chance: random.Random, *options: str
    ) -> int:
        """Run it again and again, sending the signal each time after 0.8 to 2.2 seconds, until it
        comes to its end; how many runs were hit."""
        hits = 0
        while True:
            process = self.start(*options)
            if number != signal.SIGKILL:
                # Before its first line there is nothing to drain yet, and Python's own ending.
                assert process.stdout is not None
                process.stdout.readline()
            try:
                _, err = process.communicate(timeout=chance.uniform(0.8, 2.2))
            except subprocess.TimeoutExpired:
                process.send_signal(number)
                _, err = process.communicate(timeout=60)
                hits += 1
            assert b"Traceback" not in err, err.decode()
            if process.returncode in {0, 3, 4}:
                return hits

    def states(self) -> Counter[str]:
        """The rows by state, read without the package."""
        with closing(sqlite3.connect(self.ledger)) as connection:
            return Counter(state for (state,) in connection.execute("SELECT state FROM calls"))

    def watched(self) -> int:
        """How many calls a watch has found at their end."""
        with closing(sqlite3.connect(self.ledger)) as connection:
            query = "SELECT count(*) FROM calls WHERE call_status IS NOT NULL"
            return int(connection.execute(query).fetchone()[0])

    def scheduled_ids(self) -> list[str]:
        """The call ids that the ledger has for scheduled rows."""
        with closing(sqlite3.connect(self.ledger)) as connection:
            query = "SELECT call_id FROM calls WHERE state = 'scheduled'"
            return [call_id for (call_id,) in connection.execute(query)]

    def deleted(self) -> list[str]:
        """The call ids that were deleted at the service."""
        return (self.folder / "books.deleted").read_text().split()

    def books(self) -> list[tuple[str, str, str]]:
        """What the service took: call id, first number, second number."""
        lines = (self.folder / "books").read_text().splitlines()
        return [(call, first, second) for call, first, second, _ in map(str.split, lines)]

    def check_account(self) -> None:
        """Nobody twice, nothing left, and each scheduled row on the books exactly once."""
        books = self.books()
        pairs = Counter((first, second) for _, first, second in books)
        assert [pair for pair, count in pairs.items() if count > 1] == []
        states = self.states()
        assert states["pending"] == states["sending"] == 0
        on_books = Counter(call_id for call_id, _, _ in books)
        assert [call for call in self.scheduled_ids() if on_books[call] != 1] == []
        assert len(books) <= states["scheduled"] + states["in_doubt"]


@contextmanager
def drill(folder: Path, *options: str) -> Iterator[Drill]:
    """A service in its own process, for as long as the block runs."""
    script = Path(__file__).with_name("campaign_server.py")
    server = subprocess.Popen(
        [sys.executable, str(script), str(folder / "books"), *options], stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    with server, server.stdout:
        port = int(server.stdout.readline())
        try:
            yield Drill(folder, f"http://127.0.0.1:{port}/api/v1")
        finally:
            server.kill()
