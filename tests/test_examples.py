"""Each example is run as its user runs it: in a process of its own, against a service on a port."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio.from_thread
import httpx
import pytest

from innocalls_async.sandbox import Sandbox
from innocalls_async.testing import TEST_TOKEN, assert_nobody_twice

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="not in an installed package")


@contextmanager
def service(sandbox: Sandbox) -> Iterator[Mapping[str, str]]:
    """The sandbox on a port, and the environment that says so."""
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(sandbox.serve()) as base_url,
    ):
        yield os.environ | {"INNOCALLS_BASE_URL": base_url, "INNOCALLS_TOKEN": TEST_TOKEN}


def run(sandbox: Sandbox, name: str, *arguments: str, text: str = "") -> str:
    with service(sandbox) as environment:
        done = subprocess.run(
            [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
            input=text,
            capture_output=True,
            text=True,
            env=environment,
            timeout=30,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def fields(number: int) -> dict[str, Any]:
    return {
        "call_flow_id": "flow",
        "first_callee_number": f"2011{number:08}",
        "first_callee_name": "Ahmed",
        "second_callee_number": f"2010{number:08}",
        "second_callee_name": "Mona",
        "duration": 5,
    }


def test_the_asyncio_service() -> None:
    """Every line gets its answer: scheduled, in doubt, refused, or not a request at all."""
    sandbox = Sandbox()
    sandbox.fail_next("drop")
    sandbox.fail_next("403")
    lines = "201123456789 Ahmed\n201123456780 Salma\n201123456781 Omar\n12 Nobody\n"
    said = run(sandbox, "asyncio_service.py", text=lines)
    assert said.count("in doubt") == 1
    assert said.count("not scheduled") == 1
    assert said.count(": scheduled as") == 1
    assert "Nobody: not a request: first_callee_number" in said
    assert sandbox.account.created == 2


def test_the_bulk_script(tmp_path: Path) -> None:
    """Each row of the file has its line in the report, which agrees with the books."""
    sandbox = Sandbox()
    sandbox.fail_next("drop", times=3)
    source, report = tmp_path / "requests.csv", tmp_path / "outcomes.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*fields(0), "call_time"])
        writer.writeheader()
        writer.writerows(fields(n) | {"call_time": ""} for n in range(38))
        writer.writerow(fields(38) | {"call_time": "2030-04-23T10:30:00+02:00"})
        writer.writerow(fields(39) | {"call_time": "2030-04-23T10:30:00"})
    said = run(sandbox, "bulk_script.py", str(source), str(report))
    assert "line 41 is left out: call_time" in said
    assert "3 in doubt, 36 scheduled" in said
    with report.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    ids = {row["call_id or reason"] for row in rows if row["outcome"] == "scheduled"}
    assert len(rows) == 39
    assert len(ids) == 36
    assert ids < set(sandbox.account.calls)
    assert_nobody_twice(sandbox)


def test_the_trio_program() -> None:
    """Both calls are followed from the first state to the last."""
    sandbox = Sandbox(speed=600)
    said = run(sandbox, "trio_program.py")
    for names in ("Ahmed and Mona", "Salma and Omar"):
        assert f"{names}: completed" in said
    assert sandbox.account.created == 2


@contextmanager
def backend(environment: Mapping[str, str]) -> Iterator[httpx.Client]:
    """The FastAPI example under uvicorn. It is given a socket that listens already: what connects
    before it is up waits, and no other process can get the port meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        handle, port = listening.fileno(), listening.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "examples.fastapi_backend:app", "--fd", str(handle)],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[handle],
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as browser:
            yield browser
    finally:
        server.terminate()
        _, said = server.communicate(timeout=30)
    assert "Traceback" not in said
    assert "Application shutdown complete" in said


def test_the_fastapi_backend() -> None:
    """One call is scheduled at once, fifty in the background, and the page counts them."""
    sandbox = Sandbox()
    with service(sandbox) as environment, backend(environment) as browser:
        assert "No batch yet." in browser.get("/").text
        call = browser.post("/calls", json=fields(0)).json()
        status = browser.get(f"/calls/{call['call_id']}", params={"call_flow_id": "flow"})
        assert status.json()["call_id"] == call["call_id"]
        wrong = browser.post("/batches", json=[fields(1), fields(2) | {"duration": 0}])
        assert list(wrong.json()["errors"]) == ["1.duration"]
        sandbox.fail_next("drop", times=2)
        number = browser.post("/batches", json=[fields(n) for n in range(1, 51)]).json()["batch"]
        outcomes: list[dict[str, Any]] = []
        while len(outcomes) < 50:
            outcomes = browser.get(f"/batches/{number}").json()
        assert sum(outcome["outcome"] == "in_doubt" for outcome in outcomes) == 2
        page = browser.get("/").text
        assert "50 of 50<td>48<td>0<td>2" in page
        assert browser.get("/batches/7").status_code == 404
        sandbox.fail_next("410")
        gone = browser.get(f"/calls/{call['call_id']}", params={"call_flow_id": "flow"})
        assert gone.headers["content-type"] == "application/problem+json"
    assert_nobody_twice(sandbox)


def test_every_example_is_tested() -> None:
    """No example is without a test here."""
    tested = Path(__file__).read_text(encoding="utf-8")
    for example in EXAMPLES.glob("*.py"):
        assert example.stem in tested
