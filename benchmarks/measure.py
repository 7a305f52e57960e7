"""One measurement, in a process of its own: a `Task` as JSON on stdin, figures as JSON on stdout.

So no peer inherits another's garbage, sockets or warm caches, and each is on the same core.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable

import attrs

from benchmarks.cases import Case, Figures
from benchmarks.cores import CLIENT, pinned
from benchmarks.target import Target

__all__ = ["measured"]

_LIMIT_SECONDS = 900


def measured(benchmark: str, case: Case, target: Target) -> Figures:
    """The figures of `case`, measured now. RuntimeError, with what it said, if it failed."""
    task = {"benchmark": benchmark, "case": attrs.asdict(case), "target": attrs.asdict(target)}
    with pinned(CLIENT):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.measure"],
            input=json.dumps(task),
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_SECONDS,
            env={**os.environ, "SSL_CERT_FILE": target.authority},
        )
    if done.returncode != 0:
        raise RuntimeError(f"{benchmark}, {case.name}: failed\n{done.stderr}")
    figures: Figures = json.loads(done.stdout)
    return figures


def _loop_factory(*, uses_uvloop: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not uses_uvloop:
        return None
    import uvloop  # noqa: PLC0415 - an extra

    return uvloop.new_event_loop


def _main() -> None:
    from benchmarks.suite import BENCHMARKS  # noqa: PLC0415 - they import this package's parts

    task = json.load(sys.stdin)
    case, target = Case(**task["case"]), Target(**task["target"])
    measure = BENCHMARKS[task["benchmark"]].measure

    async def run() -> Figures:
        return await measure(case.options, target)

    with asyncio.Runner(loop_factory=_loop_factory(uses_uvloop=case.uses_uvloop)) as runner:
        json.dump(runner.run(run()), sys.stdout)


if __name__ == "__main__":
    _main()
