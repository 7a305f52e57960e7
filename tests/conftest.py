"""What every test has: both event loops, and a client that waits for nothing."""

from __future__ import annotations

import math
import os

import pytest

# Each of the hundred processes that the tests start would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_xdist_auto_num_workers() -> int:
    """For each two cores three workers: many tests wait for a process or for real time."""
    return math.ceil((os.cpu_count() or 1) * 1.5)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token and no address of the developer's reaches a test."""
    for name in ("INNOCALLS_TOKEN", "INNOCALLS_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
