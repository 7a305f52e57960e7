"""Clocks that only a test moves: one to hand over, and two event loops that live on one.

A module whose tests shall not wait imports `virtual_backend as anyio_backend`: its async tests then
run on asyncio and on trio, and time there jumps to whatever is due next. Nothing that does real
I/O may be used with it.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import pytest
import trio.testing
from attrs import define

__all__ = ["FakeClock", "virtual_backend"]


@define
class FakeClock:
    """Seconds that pass when told. Its `skip` is a sleep for one task: time passes at once."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    async def skip(self, seconds: float) -> None:
        self.now += seconds


class _Jumps(selectors.DefaultSelector):
    """Instead of waiting for a while, says that it has passed."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout is not None:
            self.now += timeout
        return ready


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("asyncio", {"loop_factory": _JumpingLoop}), id="asyncio"),
        pytest.param(("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}), id="trio"),
    ],
)
def virtual_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops, on a time that jumps."""
    return request.param
