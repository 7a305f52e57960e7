"""What every test has: both event loops, and a client that waits for nothing."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token and no address of the developer's reaches a test."""
    for name in ("INNOCALLS_TOKEN", "INNOCALLS_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
