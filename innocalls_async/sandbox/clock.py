"""The sandbox's own wall clock, and times as the API writes them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

import attrs

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


@attrs.define
class SandboxClock:
    """Wall time that starts at the real one and runs `speed` times as fast as `monotonic`."""

    zone: ZoneInfo
    monotonic: Callable[[], float]
    speed: float
    _wall: float = attrs.field(init=False, factory=time.time)
    _begun: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._begun = self.monotonic()

    def now(self) -> float:
        """Unix seconds."""
        return self._wall + (self.monotonic() - self._begun) * self.speed

    def advance(self, seconds: float) -> None:
        """Move the clock on by `seconds`; it never goes back."""
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"seconds must be finite and not negative, not {seconds!r}")
        self._wall += seconds

    def write(self, timestamp: float) -> str:
        """Unix seconds as the naive time of the account's zone."""
        return datetime.fromtimestamp(timestamp, self.zone).strftime(TIME_FORMAT)

    def read(self, text: str) -> float:
        """Unix seconds of a naive time of the account's zone."""
        return datetime.fromisoformat(text).replace(tzinfo=self.zone).timestamp()
